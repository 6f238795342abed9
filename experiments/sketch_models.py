"""Trained models of drawings as commands are given them: the folder of a run, or of a model."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from experiments.outcome import CommandError
from sketch import folder

M = TypeVar("M")


def place(path: Path) -> Path:
    """The folder of the model that a path stands for.

    Raises:
        CommandError: there is none.
    """
    for found in (path, path / "model"):
        if (found / folder.DESCRIPTION).is_file():
            return found
    if (path / "run.json").is_file():
        raise CommandError(
            f"the run at {path} has no model yet: go on with it, or take one of its checkpoints with "
            f"jsafe sketch export {path} --out DIR"
        )
    if not path.is_dir():
        raise CommandError(f"there is no folder {path}")
    raise CommandError(f"{path} is neither the folder of a trained model nor of a run of `jsafe sketch`")


def opened(path: Path | str, kind: type[M] | None, what: str) -> M:
    """A trained model from the folder of a run, or its own.

    Args:
        path: of either.
        kind: class that it must be of; None for any.
        what: the word or flag that named it, for the message.

    Raises:
        CommandError: there is no model there, or one of another kind.
        ValueError: its files are damaged.
    """
    at = place(Path(path))
    model = folder.open_model(at)
    if kind is not None and not isinstance(model, kind):
        names = {cls.model: name.replace("_", "-") for name, cls in folder.KINDS.items()}
        raise CommandError(f"{what} wants a {names[kind]}, and {at} holds a {names[type(model)]}")
    return model

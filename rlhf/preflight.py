"""Checks of the files and folders of a run before anything is loaded."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from rlhf.checkpoints import model_folder
from rlhf.data import mixture


def missing_texts(paths: Iterable[str | Path]) -> list[str]:
    """Return a line for each file of plain text that does not exist."""
    return [f"there is no file {path}" for path in paths if not Path(path).exists()]


def missing_rows(texts: Sequence[str]) -> list[str]:
    """Return a line for each file of a mixture (`NAME:SHARE:PATH`) that does not exist."""
    return mixture.missing(texts)


def missing_model(model: str | Path | None, tokenizer: Path | None = None) -> list[str]:
    """Return a line for each missing piece of a model's folder; a size that is trained from scratch has none."""
    if model is None or str(model) in (*model_folder.PRESETS, *model_folder.PUBLISHED):
        return []
    return model_folder.missing(Path(model), tokenizer)


def require_files(missing: Sequence[str]) -> None:
    """Report all missing files at once. A single one is reported where it is read, with more context.

    Raises:
        FileNotFoundError: two or more are missing.
    """
    if len(missing) > 1:
        raise FileNotFoundError(f"cannot start: {'; '.join(missing)}")

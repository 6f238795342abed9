"""Checks of the files and folders of a run before anything is loaded."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path

from rlhf.checkpoints import model_folder
from rlhf.data import mixture
from rlhf.models.architecture import ModelConfig


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


def warn_of_positions(config: ModelConfig, length: int) -> None:
    """Warn of texts with more positions than a model was trained with; rotations beyond them are extrapolated."""
    if config.position == "rope" and length > config.max_length:
        message = f"texts of up to {length} tokens exceed the {config.max_length} positions of the model"
        warnings.warn(f"{message} (max_position_embeddings); its predictions degrade beyond them", stacklevel=3)


def require_files(missing: Sequence[str]) -> None:
    """Report all missing files at once. A single one is reported where it is read, with more context.

    Raises:
        FileNotFoundError: two or more are missing.
    """
    if len(missing) > 1:
        raise FileNotFoundError(f"cannot start: {'; '.join(missing)}")

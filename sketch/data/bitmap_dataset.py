"""Data sets of official bitmaps, split into training and validation sets."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sketch.data.dataset import class_of, find_files
from sketch.data.dataset_config import BITMAP_SIDE, BitmapConfig
from sketch.data.drawing_files import read_npy, read_npz


class Bitmaps(NamedTuple):
    """Labelled bitmaps.

    Attributes:
        images: `[N, 28, 28]` bytes, white ink on black.
        labels: class of each.
    """

    images: np.ndarray
    labels: list[str]


def load_bitmaps(config: BitmapConfig) -> tuple[Bitmaps, Bitmaps]:
    """Load official bitmaps, and split them by a hash of their content.

    The name of an array, or of a published `.npy` file, is its class. `NAME_lines` holds the rows of the published file
    from which NAME was taken; other arrays `NAME_something` next to NAME are ignored.

    Returns:
        Training and validation bitmaps.

    Raises:
        ValueError: if a file is damaged, an array has another shape, or a class has no training bitmaps.
    """
    by_class: dict[str, list[np.ndarray]] = {}
    for path in find_files(config.bitmaps, (".npz", ".npy")):
        for name, rows in _bitmap_arrays(path, config.first_index).items():
            by_class.setdefault(name, []).append(rows)
    config.select.check_names(by_class)
    train: dict[str, np.ndarray] = {}
    valid: dict[str, np.ndarray] = {}
    for name in sorted(filter(config.select.accepts, by_class)):
        images = np.unique(np.concatenate(by_class[name]), axis=0)
        hashes = np.array(
            [int.from_bytes(hashlib.blake2b(i.tobytes(), digest_size=8).digest(), "little") for i in images]
        )
        order = np.argsort(hashes)  # a random order that is the same on every machine
        images, held_out = images[order], hashes[order] / 2.0**64 < config.valid_share
        train[name], valid[name] = images[~held_out][: config.per_class], images[held_out]
    if not train or min(map(len, train.values())) < 1:
        raise ValueError("every class needs training bitmaps; lower --first-index or --valid-share")
    return _stacked(train), _stacked(valid)


def _bitmap_arrays(path: Path, first_index: int) -> dict[str, np.ndarray]:
    """Bitmaps of one file by class, those before `first_index` dropped."""
    by_class = {}
    if path.suffix.lower() == ".npy":  # as published: one class, and the index of a row is its number
        name, rows = class_of(path), read_npy(path)
        arrays = {name: rows, f"{name}_lines": np.arange(len(rows) if rows.ndim else 0)}
    else:
        arrays = read_npz(path)
    for name, rows in arrays.items():
        if any(name.startswith(f"{other}_") for other in arrays):
            continue
        if rows.dtype != np.uint8 or rows.shape[1:] not in ((BITMAP_SIDE**2,), (BITMAP_SIDE, BITMAP_SIDE)):
            raise ValueError(
                f"{path}, array {name!r}: bitmaps must be bytes [n, {BITMAP_SIDE**2}] or "
                f"[n, {BITMAP_SIDE}, {BITMAP_SIDE}], got {rows.dtype} {list(rows.shape)}"
            )
        lines = arrays.get(f"{name}_lines")
        if lines is not None and len(lines) != len(rows):
            raise ValueError(f"{path}: '{name}_lines' must have {len(rows)} entries, got {len(lines)}")
        rows = rows if lines is None else rows[lines >= first_index]
        by_class[name] = rows.reshape(-1, BITMAP_SIDE, BITMAP_SIDE)
    return by_class


def _stacked(by_class: Mapping[str, np.ndarray]) -> Bitmaps:
    return Bitmaps(np.concatenate(list(by_class.values())), [name for name, rows in by_class.items() for _ in rows])

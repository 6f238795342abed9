"""Human drawings kept for a test: bitmaps, vectors, or both, from a file or from a folder that holds nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from sketch import files

SIDE = 28
"""Pixels of a published bitmap."""


class HumanTest(NamedTuple):
    """What people drew.

    Attributes:
        bitmaps: white ink 255 on black 0, as published; none where only vectors were given.
        vectors: stroke-3 each, in any unit; none where only bitmaps were given.
        sources: a line for each file on what was taken from it, and what was not.
    """

    bitmaps: UInt8[np.ndarray, "n 28 28"]
    vectors: list[np.ndarray]
    sources: tuple[str, ...] = ()


def human_drawings(
    path: Path,
    label: str = "cat",
    *,
    bitmap_key: str | None = None,
    splits: Sequence[str] = ("test", ""),
    allow_pickle: bool = False,
) -> HumanTest:
    """The human drawings of a file or folder.

    Taken are the bitmaps under the name of the class from npz files, and the vectors of `sketch.files.load` that are of
    this class or of none. Files are read in the order of their names. A file without drawings of the class is passed
    over, so that it changes nothing; subfolders and other kinds of files are not looked at.

    Args:
        path: an npz or ndjson file, or a folder with such files.
        label: the class.
        bitmap_key: name of the array of bitmaps, where that is not the class.
        splits: of vector files that know splits, those that are taken; "" stands for drawings without one.
        allow_pickle: unpickle object arrays, which can run any code.

    Raises:
        FileNotFoundError: there is no such file or folder.
        ValueError: nothing was found (says what each file holds), a file is damaged, or an array has a wrong shape.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"there is no file or folder {path}")
    paths = sorted(p for p in path.iterdir() if p.suffix in (".npz", ".ndjson")) if path.is_dir() else [path]
    key = label if bitmap_key is None else bitmap_key
    bitmaps, drawings, sources = [], [], []
    for file in paths:
        arrays = files.read_npz(file, allow_pickle=allow_pickle) if file.suffix == ".npz" else {}
        if key in arrays:
            bitmaps.append(_checked(arrays[key], f"{file}: {key!r}"))
            sources.append(f"{file.name}: {len(bitmaps[-1])} bitmaps {key!r}")
        # A train is also something that people draw: bytes under that name are bitmaps.
        splits_of_file = [name for name in files.SPLITS if name in arrays and arrays[name].dtype != np.uint8]
        if {"points", "offsets"} <= set(arrays) or splits_of_file or file.suffix != ".npz":
            found, _ = files.load(file, allow_pickle=allow_pickle)
            of_class = [drawing for drawing in found if drawing.label in (label, "")]
            kept = [drawing for drawing in of_class if drawing.split in splits]
            drawings += kept
            others = f" of {len(of_class)}, the rest being of other splits" if len(kept) < len(of_class) else ""
            sources.append(f"{file.name}: {len(kept)} vectors{others}")
        elif key not in arrays:
            sources.append(f"{file.name}: no {key!r}, it holds {', '.join(sorted(arrays)[:8]) or 'nothing'}")
    vectors = [drawing.strokes for drawing in files.without_duplicates(drawings)]
    if not bitmaps and not vectors:
        raise ValueError(
            f"{path} holds no human drawings of {label!r}: expected npz files with bitmaps {key!r} or with vectors of "
            f"the split {' or '.join(repr(s) for s in splits)}; found {'; '.join(sources) or 'no npz or ndjson file'}"
        )
    return HumanTest(
        np.concatenate(bitmaps) if bitmaps else np.zeros((0, SIDE, SIDE), np.uint8), vectors, tuple(sources)
    )


def _checked(array: np.ndarray, name: str) -> np.ndarray:
    """Bitmaps `[n, 28, 28]` from rows of 784 or images."""
    if array.dtype != np.uint8 or array.shape[1:] not in ((SIDE * SIDE,), (SIDE, SIDE)) or not len(array):
        raise ValueError(
            f"{name} must be bytes [n, {SIDE}, {SIDE}] or [n, {SIDE * SIDE}], got {array.dtype} {list(array.shape)}"
        )
    return array.reshape(-1, SIDE, SIDE)

"""Human drawings kept for a test: bitmaps, vectors, or both, from a file or from a folder that holds nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from sketch.data import drawing_files

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
    splits: Sequence[str] | None = None,
    allow_pickle: bool = False,
    skip: bool = False,
    max_points: int = drawing_files.MAX_POINTS,
) -> HumanTest:
    """The human drawings of a file or folder.

    Bitmaps under the name of the class are read from npz files, and vectors that are
    of this class or of none through `sketch.data.drawing_files.load`. Files are read in the order of their names. A
    file without drawings of the class is passed
    over, so that it changes nothing; subfolders and other kinds of files are not looked at.

    Args:
        path: an npz or ndjson file, or a folder with such files.
        label: the class.
        bitmap_key: name of the array of bitmaps, where that is not the class.
        splits: of vector files that know splits, those that are taken; "" stands for drawings without one. None for the
            test split of a file that has one, and for all drawings of one that has none.
        allow_pickle: unpickle object arrays, which can run any code.
        skip: leave vectors out that cannot be used, and count them.
        max_points: longest vectors.

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
        arrays = drawing_files.read_npz(file, allow_pickle=allow_pickle) if file.suffix == ".npz" else {}
        if key in arrays:
            bitmaps.append(_checked(arrays[key], f"{file}: {key!r}"))
            sources.append(f"{file.name}: {len(bitmaps[-1])} bitmaps {key!r}")
        # A train is also something that people draw: bytes under that name are bitmaps.
        splits_of_file = [name for name in drawing_files.SPLITS if name in arrays and arrays[name].dtype != np.uint8]
        if {"points", "offsets"} <= set(arrays) or splits_of_file or file.suffix != ".npz":
            found, left_out = drawing_files.load(file, allow_pickle=allow_pickle, skip=skip, max_points=max_points)
            of_class = [drawing for drawing in found if drawing.label in (label, "")]
            there = {drawing.split for drawing in of_class}
            wanted = splits if splits is not None else ("test", "") if there & {"test", ""} else drawing_files.SPLITS
            kept = [drawing for drawing in of_class if drawing.split in wanted]
            drawings += kept
            said = f" of {len(of_class)}, the rest being of other splits" if len(kept) < len(of_class) else ""
            if splits is None and kept and not there & {"test", ""}:
                said = f", of {' and '.join(sorted(there))}, since none is marked as of a test"
            faults = f"; {len(left_out)} left out, the first {left_out[0]}" if left_out else ""
            sources.append(f"{file.name}: {len(kept)} vectors{said}{faults}")
        elif key not in arrays:
            sources.append(f"{file.name}: no {key!r}, it holds {', '.join(sorted(arrays)[:8]) or 'nothing'}")
    vectors = [drawing.strokes for drawing in drawing_files.without_duplicates(drawings)]
    if not bitmaps and not vectors:
        raise ValueError(
            f"{path} holds no human drawings of {label!r}: expected npz files with bitmaps {key!r} or with vectors of "
            f"{_splits_said(splits)}; found {'; '.join(sources) or 'no npz or ndjson file'}"
        )
    return HumanTest(
        np.concatenate(bitmaps) if bitmaps else np.zeros((0, SIDE, SIDE), np.uint8), vectors, tuple(sources)
    )


def unseen(human: HumanTest, learned: Iterable[np.ndarray]) -> HumanTest:
    """The test without vectors that a system learned from: as such they would tell how well it remembers.

    Args:
        human: the test.
        learned: stroke-3 each.
    """
    known = {_content(strokes) for strokes in learned}
    kept = [strokes for strokes in human.vectors if _content(strokes) not in known]
    count = len(human.vectors) - len(kept)
    if not count:
        return human
    line = f"{count} vectors left out, since the first system learned from them"
    return human._replace(vectors=kept, sources=(*human.sources, line))


def _content(strokes: np.ndarray) -> bytes:
    return np.ascontiguousarray(strokes, "<f4").tobytes()


def _splits_said(splits: Sequence[str] | None) -> str:
    if splits is None:
        return "any split"
    return f"the split {' or '.join(repr(name) for name in splits)}"


def _checked(array: np.ndarray, name: str) -> np.ndarray:
    """Bitmaps `[n, 28, 28]` from rows of 784 or images."""
    if array.dtype != np.uint8 or array.shape[1:] not in ((SIDE * SIDE,), (SIDE, SIDE)) or not len(array):
        raise ValueError(
            f"{name} must be bytes [n, {SIDE}, {SIDE}] or [n, {SIDE * SIDE}], got {array.dtype} {list(array.shape)}"
        )
    return array.reshape(-1, SIDE, SIDE)

"""Human test set: bitmaps, vectors or both, from a file or a folder."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from sketch.data import drawing_files
from sketch.data.bitmap_dataset import BITMAP_SIDE


class HumanTest(NamedTuple):
    """Human drawings.

    Attributes:
        bitmaps: white ink 255 on black 0, as published; may be empty.
        vectors: stroke-3 in any unit; may be empty.
        sources: one line for each file about what was read and what was not.
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
    """Read the human drawings of a file or folder.

    Bitmaps are read from npz files under the name of the class, vectors of the class or without a label through
    `sketch.data.drawing_files.load`. Files are read in the order of their names. Files without drawings of the class,
    subfolders and other kinds of files are ignored.

    Args:
        path: an npz or ndjson file, or a folder of such files.
        label: the class.
        bitmap_key: name of the array of bitmaps (default: the class).
        splits: splits to read from vector files with splits; "" stands for drawings without a split. None for the test
            split of files that have one, and for all drawings of other files.
        allow_pickle: unpickle object arrays, which can run arbitrary code.
        skip: drop unusable vectors and count them.
        max_points: points of the longest vector that is accepted.

    Raises:
        FileNotFoundError: if the path does not exist.
        ValueError: if there are no drawings (lists the content of each file), a file is damaged, or an array has a
            wrong shape.
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
            bitmaps.append(_check_bitmaps(arrays[key], f"{file}: {key!r}"))
            sources.append(f"{file.name}: {len(bitmaps[-1])} bitmaps {key!r}")
        # A train is also a class of drawings: bytes under the name of a split are bitmaps.
        has_splits = any(name in arrays and arrays[name].dtype != np.uint8 for name in drawing_files.SPLITS)
        if {"points", "offsets"} <= set(arrays) or has_splits or file.suffix != ".npz":
            loaded, faults = drawing_files.load(file, allow_pickle=allow_pickle, skip=skip, max_points=max_points)
            vectors = _vectors_of(loaded, label, splits)
            drawings += vectors.drawings
            skipped = f"; {len(faults)} skipped, the first {faults[0]}" if faults else ""
            sources.append(f"{file.name}: {len(vectors.drawings)} vectors{vectors.remark}{skipped}")
        elif key not in arrays:
            sources.append(f"{file.name}: no {key!r}, it has {', '.join(sorted(arrays)[:8]) or 'no arrays'}")
    strokes = [drawing.strokes for drawing in drawing_files.without_duplicates(drawings)]
    if not bitmaps and not strokes:
        splits_text = "any split" if splits is None else f"the split {' or '.join(map(repr, splits))}"
        raise ValueError(
            f"{path} has no human drawings of {label!r}: expected npz files with bitmaps {key!r} or with vectors of "
            f"{splits_text}, got {'; '.join(sources) or 'no npz or ndjson file'}"
        )
    empty = np.zeros((0, BITMAP_SIDE, BITMAP_SIDE), np.uint8)
    return HumanTest(np.concatenate(bitmaps) if bitmaps else empty, strokes, tuple(sources))


class _Vectors(NamedTuple):
    """Vectors of one file and a remark about their splits."""

    drawings: list[drawing_files.Drawing]
    remark: str


def _vectors_of(loaded: Sequence[drawing_files.Drawing], label: str, splits: Sequence[str] | None) -> _Vectors:
    of_class = [drawing for drawing in loaded if drawing.label in (label, "")]
    available = {drawing.split for drawing in of_class}
    has_test = bool(available & {"test", ""})
    expected = splits if splits is not None else ("test", "") if has_test else drawing_files.SPLITS
    selected = [drawing for drawing in of_class if drawing.split in expected]
    remark = f" of {len(of_class)} (the others have other splits)" if len(selected) < len(of_class) else ""
    if splits is None and selected and not has_test:
        remark = f", using splits {' and '.join(sorted(available))} (no test split found)"
    return _Vectors(selected, remark)


def unseen(human: HumanTest, training: Iterable[np.ndarray]) -> HumanTest:
    """Drop vectors that a system was trained on.

    Args:
        human: the test set.
        training: stroke-3 arrays.
    """
    trained = {_content(strokes) for strokes in training}
    vectors = [strokes for strokes in human.vectors if _content(strokes) not in trained]
    count = len(human.vectors) - len(vectors)
    if not count:
        return human
    line = f"{count} vectors dropped, which are training drawings of the first system"
    return human._replace(vectors=vectors, sources=(*human.sources, line))


def _content(strokes: np.ndarray) -> bytes:
    return np.ascontiguousarray(strokes, "<f4").tobytes()


def _check_bitmaps(array: np.ndarray, name: str) -> np.ndarray:
    """Return bitmaps `[n, 28, 28]` from rows of 784 bytes or images."""
    if (
        array.dtype != np.uint8
        or array.shape[1:] not in ((BITMAP_SIDE**2,), (BITMAP_SIDE, BITMAP_SIDE))
        or not len(array)
    ):
        raise ValueError(
            f"{name} must be bytes [n, {BITMAP_SIDE}, {BITMAP_SIDE}] or [n, {BITMAP_SIDE**2}], "
            f"got {array.dtype} {list(array.shape)}"
        )
    return array.reshape(-1, BITMAP_SIDE, BITMAP_SIDE)

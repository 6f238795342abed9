"""Files of drawings: Quick, Draw!'s formats, SVG, Sketch-RNN's npz, and npz files of vectors without pickles."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sketch.data.dataset_config import MAX_POINTS, SPLITS
from sketch.data.drawing_checks import check_strokes
from sketch.data.published_files import Row, binary_rows, csv_rows, ndjson_rows
from sketch.data.simplify import simplify
from sketch.data.strokes import from_polylines, to_polylines
from sketch.data.svg import read_drawing

SUFFIXES = (".npz", ".ndjson", ".csv", ".bin", ".svg")
"""Endings of files with drawings."""

GZIPPED = (".ndjson", ".csv", ".bin")
"""Endings that may be followed by `.gz`."""


class Drawing(NamedTuple):
    """One drawing and its metadata.

    Attributes:
        strokes: `[n, 3]` stroke-3.
        split: one of `SPLITS`; empty if unknown.
        label: class; empty if unknown.
        key_id: Quick, Draw!'s number of the drawing; None if unknown.
        recognized: True if the game recognised it; None if unknown.
        source: file and row.
        note: parts of the file that were left out.
    """

    strokes: np.ndarray
    split: str = ""
    label: str = ""
    key_id: int | None = None
    recognized: bool | None = None
    source: str = ""
    note: str = ""


def load(
    path: Path, *, allow_pickle: bool = False, skip: bool = False, max_points: int = MAX_POINTS, label: str = ""
) -> tuple[list[Drawing], list[str]]:
    """Read the drawings of a file.

    Raw ndjson (with times) is simplified as published.

    Args:
        path: ends in one of `SUFFIXES`.
        allow_pickle: unpickle the object arrays of Sketch-RNN's npz files, which can run arbitrary code.
        skip: drop unusable drawings.
        max_points: points of the longest accepted drawing.
        label: class of drawings without a label.

    Returns:
        The drawings, and the reason with file and row for each dropped one.

    Raises:
        FileNotFoundError: if the file does not exist.
        ValueError: if the file is damaged or of another kind, or a drawing is unusable; names file and row.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    drawings, skipped = [], []
    for row in _rows(path, allow_pickle):
        source = f"{path}, {row.number}"
        try:
            strokes, padding = without_padding(row.read())
            strokes = check_strokes(strokes, max_points)
        except ValueError as error:
            message = f"{source}: {error}"
            if not skip:
                raise ValueError(message) from None
            skipped.append(message)
            continue
        known = {"label": label, **row.known}
        if padding:
            known["note"] = f"{padding} rows of padding"
        drawings.append(Drawing(strokes, source=source, **known))
    if not drawings:
        raise ValueError(f"{path} has no usable drawings ({len(skipped)} skipped)")
    return drawings, skipped


def suffix_of(path: Path) -> str:
    """Ending of a file's name in lower case, without that of the compression."""
    name = path.name.lower().removesuffix(".gz")
    return "." + name.rpartition(".")[2]


def without_padding(strokes: Any) -> tuple[np.ndarray, int]:
    """Drop rows of zeros behind a drawing, and count them."""
    strokes = np.asarray(strokes)
    if strokes.ndim != 2 or strokes.shape[1] != 3 or strokes.dtype.kind not in "iuf" or strokes[-1:].any():
        return strokes, 0
    kept = int(np.flatnonzero(strokes.any(axis=1)).max(initial=-1)) + 1
    return strokes[:kept], len(strokes) - kept


def _rows(path: Path, allow_pickle: bool) -> Iterator[Row]:
    """Drawings of a file by its ending."""
    suffix = suffix_of(path)
    if suffix == ".npy":
        raise ValueError(
            f"{path} must hold strokes, got an array of bitmaps. `jsafe sketch judge --bitmaps FILE` reads it"
        )
    if suffix not in SUFFIXES or path.suffix.lower() == ".gz" and suffix not in GZIPPED:
        raise ValueError(f"{path} must end in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}")
    readers = {".ndjson": ndjson_rows, ".csv": csv_rows, ".bin": binary_rows, ".svg": _svg_rows}
    return _npz_rows(path, allow_pickle) if suffix == ".npz" else readers[suffix](path)


def _svg_rows(path: Path) -> Iterator[Row]:
    """The drawing of an SVG file, simplified like raw drawings."""
    drawing = read_drawing(path)
    yield Row("the drawing", lambda: from_polylines(simplify(to_polylines(drawing.strokes))), {"note": drawing.note})


def _npz_rows(path: Path, allow_pickle: bool) -> Iterator[Row]:
    arrays = read_npz(path, allow_pickle=allow_pickle)
    if {"points", "offsets"} <= set(arrays):
        yield from _vector_rows(path, arrays)
    elif set(SPLITS) & set(arrays):
        # A training split alone is no split: a part of it chooses the best parameters.
        alone = set(SPLITS) & set(arrays) == {"train"}
        for split in SPLITS:
            known = {} if alone else {"split": split}
            if split in arrays and arrays[split].dtype == np.uint8:
                raise ValueError(f"{path}: {split!r} must hold vectors, got images")
            if split in arrays and not arrays[split].ndim:
                raise ValueError(f"{path}: {split!r} must be a list of drawings")
            for number, strokes in enumerate(arrays.get(split, ())):
                yield Row(f"{split} row {number}", partial(np.asarray, strokes), known)
    else:
        raise ValueError(
            f"{path} must hold 'points' and 'offsets', or Sketch-RNN's {', '.join(map(repr, SPLITS))}, "
            f"got {', '.join(sorted(arrays)) or 'nothing'}"
        )


def read_npz(path: Path, *, allow_pickle: bool = False) -> dict[str, np.ndarray]:
    """Read the arrays of an npz file.

    Raises:
        ValueError: if it is damaged, or holds pickled objects that are not allowed.
    """
    arrays = {}
    try:
        if not zipfile.is_zipfile(path):
            raise ValueError(f"{path} is damaged or not an npz file: it is no zip archive")
        with np.load(path, allow_pickle=allow_pickle, encoding="latin1") as file:
            for name in file.files:
                try:
                    arrays[name] = file[name]
                    if not isinstance(arrays[name], np.ndarray):  # a member without the mark of an array
                        raise ValueError(f"member {name!r} is no array")
                except ValueError as error:
                    if allow_pickle or "allow_pickle" not in str(error):
                        raise
                    raise ValueError(
                        f"{path}: array {name!r} holds pickled objects, and unpickling can run arbitrary code. "
                        "If you trust the file, allow it with allow_pickle (--allow-pickle)"
                    ) from None
    except Exception as error:
        # Damaged headers and pickles raise almost any error.
        if isinstance(error, ValueError) and str(error).startswith(str(path)):
            raise
        raise ValueError(f"{path} is damaged or not an npz file: {error}") from error
    return arrays


def read_npy(path: Path) -> np.ndarray:
    """Read the array of an npy file without pickles.

    Raises:
        ValueError: if it is damaged, or holds pickled objects.
    """
    try:
        return np.lib.format.read_array(io.BytesIO(path.read_bytes()), allow_pickle=False)
    except Exception as error:
        raise ValueError(f"{path} is damaged or not an npy file without pickles: {error}") from error


def _vector_rows(path: Path, arrays: Mapping[str, np.ndarray]) -> Iterator[Row]:
    """Drawings of concatenated `points`; drawing i has the rows from `offsets[i]` to `offsets[i + 1]`."""
    points, offsets = arrays["points"], arrays["offsets"]
    if points.ndim != 2 or points.shape[1] != 3:
        raise ValueError(f"{path}: 'points' must be [n, 3], got {list(points.shape)}")
    if offsets.ndim != 1 or offsets.dtype.kind not in "iu" or not len(offsets):
        raise ValueError(f"{path}: 'offsets' must be a list of whole numbers, got {offsets.dtype} {offsets.shape}")
    offsets = offsets.astype(np.int64)
    if offsets[0] != 0 or offsets[-1] != len(points) or (np.diff(offsets) < 0).any():
        raise ValueError(f"{path}: 'offsets' must increase from 0 to {len(points)}, the number of points")
    count = len(offsets) - 1
    for name in ("key_id", "recognized", "split", "label"):
        if name in arrays and arrays[name].shape != (count,):
            raise ValueError(f"{path}: {name!r} must have {count} entries, got {list(arrays[name].shape)}")
        if name in arrays and arrays[name].dtype.kind not in "biu":
            raise ValueError(f"{path}: {name!r} must hold whole numbers, got {arrays[name].dtype}")
    for number in range(count):
        part = points[offsets[number] : offsets[number + 1]]
        known: dict[str, Any] = {}
        if "key_id" in arrays:
            known["key_id"] = int(arrays["key_id"][number])
        if "recognized" in arrays:
            known["recognized"] = bool(arrays["recognized"][number])
        for name, names, key in (("split", SPLITS, "split"), ("label", arrays.get("names", ()), "label")):
            if name not in arrays or not len(names):
                continue
            chosen = int(arrays[name][number])
            if not 0 <= chosen < len(names):
                raise ValueError(f"{path}, row {number}: {name} must be 0 to {len(names) - 1}, got {chosen}")
            known[key] = str(names[chosen])
        yield Row(f"row {number}", partial(np.asarray, part), known)


def without_duplicates(drawings: Iterable[Drawing], known: Iterable[Drawing] = ()) -> list[Drawing]:
    """Drop drawings whose `key_id` is a repetition or is among `known`; drawings without one are all retained."""
    seen = {drawing.key_id for drawing in known}
    unique = []
    for drawing in drawings:
        if drawing.key_id is None or drawing.key_id not in seen:
            unique.append(drawing)
            seen.add(drawing.key_id)
    return unique


def assign_splits(drawings: Sequence[Drawing], *, valid: float = 0.1, test: float = 0.0) -> list[Drawing]:
    """Assign a split to drawings without one, by a hash of their content and independent of other drawings.

    Args:
        drawings: drawings; an existing split is retained.
        valid: fraction of the validation set.
        test: fraction of the test set.

    Raises:
        ValueError: if a fraction is negative, or no training set remains.
    """
    if min(valid, test) < 0.0 or valid + test >= 1.0:
        raise ValueError(f"valid and test must not be negative and sum to less than 1, got {valid} and {test}")

    def split_of(drawing: Drawing) -> str:
        digest = hashlib.blake2b(np.ascontiguousarray(drawing.strokes, "<f4").tobytes(), digest_size=8).digest()
        place = int.from_bytes(digest, "little") / 2.0**64
        return "test" if place < test else "valid" if place < test + valid else "train"

    return [drawing if drawing.split else drawing._replace(split=split_of(drawing)) for drawing in drawings]


def of_split(drawings: Iterable[Drawing], split: str) -> list[np.ndarray]:
    """Return stroke-3 of the drawings of one split."""
    return [drawing.strokes for drawing in drawings if drawing.split == split]

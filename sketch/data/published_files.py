"""Quick, Draw!'s published formats other than npz: ndjson, Kaggle's CSV, and the binary format, plain or gzipped."""

from __future__ import annotations

import csv
import gzip
import io
import json
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sketch.data.drawing_checks import FARTHEST
from sketch.data.simplify import simplify
from sketch.data.strokes import from_polylines

BINARY_HEADER = struct.Struct("<Q2sbIH")
"""Number, country, whether the game recognised the drawing, time, and number of strokes."""


class Row(NamedTuple):
    """A drawing that is not read yet.

    Attributes:
        number: place in the file, for messages.
        read: returns stroke-3, or raises a ValueError.
        known: metadata by name.
    """

    number: str
    read: Callable[[], Any]
    known: Mapping[str, Any]


def content(path: Path) -> bytes:
    """Return the content of a file, decompressed if its name ends in `.gz`.

    Raises:
        ValueError: if the file is damaged.
    """
    try:
        data = path.read_bytes()
        return gzip.decompress(data) if path.suffix.lower() == ".gz" else data
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path} is damaged: {error}") from error


def text(path: Path) -> str:
    """Return the text of a file in UTF-8, without a byte order mark."""
    try:
        return content(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is damaged: {error}") from error


def ndjson_rows(path: Path) -> Iterator[Row]:
    """Drawings of an ndjson file."""
    # Not splitlines: JSON strings may contain other line separators.
    for number, line in enumerate(text(path).split("\n")):
        if not line.strip():
            continue
        record = _json(line)
        yield Row(f"row {number}", partial(_from_record, record), _known(record))


def csv_rows(path: Path) -> Iterator[Row]:
    """Drawings of a CSV file with a column `drawing` in JSON, as Kaggle's competition has.

    Raises:
        ValueError: if there is no such column.
    """
    csv.field_size_limit(2**27)
    reader = csv.DictReader(io.StringIO(text(path), newline=""), strict=True)
    try:
        if "drawing" not in (reader.fieldnames or ()):
            names = ", ".join(map(repr, (reader.fieldnames or ())[:8])) or "nothing"
            raise ValueError(f"{path} must have a column 'drawing', got {names[:200]}")
        for number, row in enumerate(reader):
            record: Any = {**row, "drawing": _json(row["drawing"] or "")}
            if isinstance(record["drawing"], Exception):
                record = record["drawing"]
            elif record.get("recognized") in ("True", "False"):
                record["recognized"] = record["recognized"] == "True"
            yield Row(f"row {number}", partial(_from_record, record), _known(record))
    except csv.Error as error:
        raise ValueError(f"{path} must be CSV, got an error in line {reader.line_num}: {error}") from None


def binary_rows(path: Path) -> Iterator[Row]:
    """Drawings of a file in the binary format.

    Raises:
        ValueError: if the file ends within a drawing, or has too many bytes.
    """
    data, place, number = content(path), 0, 0
    while place < len(data):
        try:
            key_id, _, recognized, _, count = BINARY_HEADER.unpack_from(data, place)
            if recognized not in (0, 1):
                raise ValueError(f"{path}, row {number}: 'recognized' must be 0 or 1, got {recognized}; it is damaged")
            place, lines = place + BINARY_HEADER.size, []
            for _ in range(count):
                (points,) = struct.unpack_from("<H", data, place)
                line = np.frombuffer(data, np.uint8, 2 * points, place + 2).reshape(2, points).T
                lines.append(line.astype(np.float64))
                place += 2 + 2 * points
        except (struct.error, ValueError) as error:
            if str(error).startswith(str(path)):
                raise
            raise ValueError(f"{path} is damaged: it ends within row {number}") from None
        known = {"key_id": key_id, "recognized": bool(recognized)}
        yield Row(f"row {number}", partial(_from_lines, lines, False), known)
        number += 1


def _json(line: str) -> Any:
    """The record of a line, or its error, which may be skipped: truncated, too many digits, too deep nesting."""
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        return error


def _known(record: Any) -> dict[str, Any]:
    """Metadata of a record; unknown fields are left out."""
    known: dict[str, Any] = {}
    if not isinstance(record, dict):
        return known
    if isinstance(record.get("word"), str):
        known["label"] = record["word"]
    if isinstance(record.get("recognized"), bool):
        known["recognized"] = record["recognized"]
    try:
        known["key_id"] = int(record["key_id"])
    except (KeyError, TypeError, ValueError, OverflowError):
        pass
    return known


def _from_record(record: Any) -> np.ndarray:
    """Convert a line of Quick, Draw!'s ndjson to stroke-3; strokes are [x, y] if simplified, [x, y, time] if raw."""
    if isinstance(record, Exception):
        raise ValueError(f"not JSON ({getattr(record, 'msg', record)})")
    if not isinstance(record, dict) or not isinstance(record.get("drawing"), list):
        raise ValueError("expected an object with a list 'drawing'")
    lines, raw = [], False
    for number, stroke in enumerate(record["drawing"]):
        if not isinstance(stroke, list) or len(stroke) not in (2, 3):
            raise ValueError(f"stroke {number} must be [x, y] or [x, y, time]")
        raw = raw or len(stroke) == 3
        try:
            line = np.array(stroke[:2], np.float64).T
        except (TypeError, ValueError, OverflowError):
            raise ValueError(f"stroke {number} must have the same number of x and y") from None
        if line.size and line.ndim != 2:
            raise ValueError(f"stroke {number} must have lists of numbers x and y")
        if not np.isfinite(line).all():
            raise ValueError(f"stroke {number} must have finite positions")
        if line.size and np.abs(line).max() > FARTHEST:
            raise ValueError(f"stroke {number} must have positions up to {FARTHEST:g}")
        lines.append(line)
    return _from_lines(lines, raw)


def _from_lines(lines: list[np.ndarray], raw: bool) -> np.ndarray:
    lines = [line for line in lines if line.size]
    if not lines:
        raise ValueError("the drawing is empty")
    return from_polylines(simplify(lines) if raw and sum(map(len, lines)) > 1 else lines)

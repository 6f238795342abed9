"""Rows of a file: JSON lists, JSON lines and CSV, plain or compressed by gzip or xz, and Parquet."""

from __future__ import annotations

import csv
import gzip
import io
import json
import lzma
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

OPENERS = {".gz": gzip.open, ".xz": lzma.open}
SUFFIXES = (".json", ".jsonl", ".csv", ".parquet")
_ENDS = re.compile(r"\r\n?|\n")


def lines_of(text: str) -> list[str]:
    """The lines of a file of JSON lines, without their ends.

    `str.splitlines` would also cut at characters that JSON allows inside a text, U+2028 and U+0085 among them.
    """
    return _ENDS.split(text)


class Entry(NamedTuple):
    """A row of a file, or what stands in its place.

    Attributes:
        source: file and number, for messages.
        row: the object, empty if there is none.
        fault: why there is none, empty if there is one.
    """

    source: str
    row: dict[str, Any]
    fault: str = ""


def read_rows(path: Path) -> list[dict[str, Any]]:
    """All rows of a file, or of the files of a folder in the order of their names.

    Raises:
        FileNotFoundError: there is no such file, or the folder holds none that can be read.
        ValueError: a file is damaged or a row is not an object; the message names the file and the row.
    """
    entries = read_entries(path)
    for entry in entries:
        if entry.fault:
            raise ValueError(f"{entry.source}: {entry.fault}")
    return [entry.row for entry in entries]


def read_entries(path: Path) -> list[Entry]:
    """The same with rows that cannot be read in their places, so that they can be left out and counted.

    Raises:
        FileNotFoundError: there is no such file, or the folder holds none that can be read.
        ValueError: a file is damaged as a whole; the message names it.
    """
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.is_file() and _kind(p) in SUFFIXES)
        if not files:
            raise FileNotFoundError(f"{path} holds no file that ends in {', '.join(SUFFIXES)}, .gz or .xz")
        return [entry for file in files for entry in read_entries(file)]
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    kind = _kind(path)
    if kind not in SUFFIXES:
        raise ValueError(f"{path} must end in {', '.join(SUFFIXES)}, perhaps followed by .gz or .xz")
    try:
        found = list(enumerate(_parquet(path))) if kind == ".parquet" else list(_text_rows(path, kind))
    except (OSError, EOFError, lzma.LZMAError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    return [_entry(f"{path}, row {number}", row) for number, row in found]


def _entry(source: str, row: Any) -> Entry:
    if isinstance(row, Exception):
        return Entry(source, {}, f"not JSON ({getattr(row, 'msg', row)})")
    if not isinstance(row, dict):
        return Entry(source, {}, f"expected an object, got {type(row).__name__}")
    return Entry(source, row)


def _kind(path: Path) -> str:
    suffixes = [s for s in path.suffixes if s not in OPENERS]
    return suffixes[-1] if suffixes else ""


def _text_rows(path: Path, kind: str) -> Iterator[tuple[int, Any]]:
    """Rows by number, and the error in place of a line that cannot be read."""
    opener = OPENERS.get(path.suffix)
    raw = opener(path, "rb").read() if opener else path.read_bytes()
    text = raw.decode("utf-8-sig")
    if kind == ".csv":
        yield from enumerate(csv.DictReader(io.StringIO(text, newline="")))
        return
    try:
        if kind == ".json" and text.lstrip().startswith("["):
            yield from enumerate(json.loads(text))
            return
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}, line {error.lineno}: not JSON ({error.msg})") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not JSON ({error})") from error
    for number, line in enumerate(lines_of(text)):
        if not line.strip():
            continue
        try:
            yield number, json.loads(line)
        except (ValueError, RecursionError) as error:  # numbers too long, and lists in lists without an end, among them
            yield number, error


def _parquet(path: Path) -> Iterator[Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ValueError(f"{path} needs pyarrow to be read: pip install pyarrow") from error
    try:
        yield from pyarrow.parquet.read_table(path).to_pylist()
    except pyarrow.ArrowException as error:
        raise ValueError(f"{path} is damaged: {error}") from error

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
    """Split the text of a file of JSON lines.

    `str.splitlines` would also split at characters that JSON allows inside a text, for example U+2028 and U+0085.
    """
    return _ENDS.split(text)


class Entry(NamedTuple):
    """A row of a file, or the reason why it cannot be read.

    Attributes:
        source: file and number, for messages.
        row: the object, empty for a row that cannot be read.
        fault: why the row cannot be read, else empty.
    """

    source: str
    row: dict[str, Any]
    fault: str = ""


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Read all rows of a file, or of the files of a folder in the order of their names.

    Raises:
        FileNotFoundError: there is no such file, or the folder has no readable file.
        ValueError: a file is damaged or a row is not an object; the message names the file and the row.
    """
    entries = read_entries(path)
    for entry in entries:
        if entry.fault:
            raise ValueError(f"{entry.source}: {entry.fault}")
    return [entry.row for entry in entries]


def read_entries(path: Path) -> list[Entry]:
    """Read all rows like `read_rows`, with an entry for each unreadable row, so that it can be left out and counted.

    Raises:
        FileNotFoundError: there is no such file, or the folder has no readable file.
        ValueError: a file is damaged as a whole; the message names it.
    """
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.is_file() and _kind(p) in SUFFIXES)
        if not files:
            raise FileNotFoundError(f"{path} has no file that ends in {', '.join(SUFFIXES)}, .gz or .xz")
        return [entry for file in files for entry in read_entries(file)]
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    kind = _kind(path)
    if kind not in SUFFIXES:
        raise ValueError(f"{path} must end in {', '.join(SUFFIXES)}, perhaps followed by .gz or .xz")
    try:
        rows = list(enumerate(_parquet(path))) if kind == ".parquet" else list(_text_rows(path, kind))
    except (OSError, EOFError, lzma.LZMAError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    return [_entry(f"{path}, row {number}", row) for number, row in rows]


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
    """Yield rows by number; an unreadable line yields its error."""
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
        except (ValueError, RecursionError) as error:  # including numbers that are too long and endlessly nested lists
            yield number, error


def _parquet(path: Path) -> Iterator[Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ValueError(f"{path} needs pyarrow. Install it with pip install pyarrow") from error
    try:
        yield from pyarrow.parquet.read_table(path).to_pylist()
    except pyarrow.ArrowException as error:
        raise ValueError(f"{path} is damaged: {error}") from error

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
from typing import Any

OPENERS = {".gz": gzip.open, ".xz": lzma.open}
SUFFIXES = (".json", ".jsonl", ".csv", ".parquet")
_ENDS = re.compile(r"\r\n?|\n")


def lines_of(text: str) -> list[str]:
    """The lines of a file of JSON lines, without their ends.

    `str.splitlines` would also cut at characters that JSON allows inside a text, U+2028 and U+0085 among them.
    """
    return _ENDS.split(text)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """All rows of a file, or of the files of a folder in the order of their names.

    Raises:
        FileNotFoundError: there is no such file, or the folder holds none that can be read.
        ValueError: a file is damaged or a row is not an object; the message names the file and the row.
    """
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.is_file() and _kind(p) in SUFFIXES)
        if not files:
            raise FileNotFoundError(f"{path} holds no file that ends in {', '.join(SUFFIXES)}, .gz or .xz")
        return [row for file in files for row in read_rows(file)]
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    kind = _kind(path)
    if kind not in SUFFIXES:
        raise ValueError(f"{path} must end in {', '.join(SUFFIXES)}, perhaps followed by .gz or .xz")
    try:
        rows = list(_parquet(path) if kind == ".parquet" else _text_rows(path, kind))
    except (OSError, EOFError, lzma.LZMAError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    for number, row in enumerate(rows):
        if not isinstance(row, dict):
            raise ValueError(f"{path}, row {number}: expected an object, got {type(row).__name__}")
    return rows


def _kind(path: Path) -> str:
    suffixes = [s for s in path.suffixes if s not in OPENERS]
    return suffixes[-1] if suffixes else ""


def _text_rows(path: Path, kind: str) -> Iterator[Any]:
    opener = OPENERS.get(path.suffix)
    raw = opener(path, "rb").read() if opener else path.read_bytes()
    text = raw.decode("utf-8-sig")
    if kind == ".csv":
        yield from csv.DictReader(io.StringIO(text, newline=""))
        return
    try:
        if kind == ".json" and text.lstrip().startswith("["):
            yield from json.loads(text)
            return
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}, line {error.lineno}: not JSON ({error.msg})") from error
    for number, line in enumerate(lines_of(text)):
        if not line.strip():
            continue
        try:
            yield json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}, row {number}: not JSON ({error.msg})") from error


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

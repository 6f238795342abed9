"""Rows of a file: JSON, JSON lines and CSV, plain or compressed by gzip, xz or zstd; Parquet; and folders of them.

A folder may be one that `datasets.save_to_disk` wrote.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import lzma
import re
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

OPENERS: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".xz": lzma.open}
COMPRESSIONS = (".gz", ".xz", ".zst")
SUFFIXES = (".json", ".jsonl", ".csv", ".parquet", ".arrow")
DESCRIPTIONS = ("dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json")
"""Files of a data set's folder that describe it and have no rows."""

POINTER = b"version https://git-lfs.github.com/spec/"
"""Beginning of the text that Git LFS leaves in place of a file."""

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
        untyped: True for a row of texts, from a format without types.
    """

    source: str
    row: dict[str, Any]
    fault: str = ""
    untyped: bool = False


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
        return [entry for file in _files_of(path) for entry in _file_entries(file)]
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    if kind_of(path) not in SUFFIXES:
        raise ValueError(f"{path} must end in {', '.join(SUFFIXES)}, perhaps followed by {', '.join(COMPRESSIONS)}")
    return _file_entries(path)


def _files_of(folder: Path) -> list[Path]:
    """Return the files of a folder that have rows."""
    if (folder / "dataset_dict.json").is_file():
        splits = sorted(state.parent for state in folder.glob("*/state.json"))
        if len(splits) != 1:
            names = ", ".join(split.name for split in splits) or "none"
            raise ValueError(f"{folder} must have one split, or needs its name, got {names}. Use {folder}/SPLIT")
        return _saved_files(splits[0])
    if (folder / "state.json").is_file():
        return _saved_files(folder)
    files = sorted(p for p in folder.rglob("*") if p.is_file() and _has_rows(p, folder))
    if not files:
        raise FileNotFoundError(f"{folder} has no file that ends in {', '.join(SUFFIXES)}, {', '.join(COMPRESSIONS)}")
    return files


def _has_rows(path: Path, folder: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
    return kind_of(path) in SUFFIXES and not hidden and path.name not in DESCRIPTIONS


def _saved_files(folder: Path) -> list[Path]:
    """Return the Arrow files that `datasets.save_to_disk` lists.

    Raises:
        FileNotFoundError: one of them is missing.
        ValueError: the list is damaged, or rows are selected by indices.
    """
    state = folder / "state.json"
    try:
        record = json.loads(state.read_text(encoding="utf-8"))
        names = [entry["filename"] for entry in record["_data_files"]]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{state} must be of datasets.save_to_disk and list its files, got {error!r}") from error
    if record.get("_indices_data_files") or record.get("_indices_files"):
        raise ValueError(f"{folder} selects rows by indices, which are not read. Save it again after flatten_indices()")
    if not all(isinstance(name, str) and name == Path(name).name for name in names):
        raise ValueError(f"{state} must list files of its folder, got {str(names)[:80]}")
    if missing := [name for name in names if not (folder / name).is_file()]:
        raise FileNotFoundError(f"there is no file {folder / missing[0]}, which {state} lists")
    return [folder / name for name in names]


def _file_entries(path: Path) -> list[Entry]:
    kind = kind_of(path)
    check_content(path)
    try:
        rows = _table(path) if kind in (".parquet", ".arrow") else _text_rows(path, kind)
        return [_entry(f"{path}, row {number}", row, kind == ".csv") for number, row in rows]
    except (OSError, EOFError, lzma.LZMAError, zlib.error, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} is damaged: {error}") from error


def check_content(path: Path) -> None:
    """Check that a file is not what Git LFS leaves in its place.

    Raises:
        ValueError: it is; the message names the command that fetches the file.
    """
    with path.open("rb") as file:
        if file.read(len(POINTER)) == POINTER:
            raise ValueError(f"{path} is a pointer of Git LFS, not the file itself. Fetch it with git lfs pull")


def _entry(source: str, row: Any, untyped: bool) -> Entry:
    if isinstance(row, Exception):
        return Entry(source, {}, f"not JSON ({getattr(row, 'msg', row)})")
    if not isinstance(row, dict):
        return Entry(source, {}, f"expected an object, got {type(row).__name__}")
    if untyped and None in row:
        return Entry(source, {}, "there are more cells than columns")
    if untyped and None in row.values():
        return Entry(source, {}, "there are fewer cells than columns")
    return Entry(source, row, untyped=untyped)


def kind_of(path: Path) -> str:
    """Return the suffix of a file without that of its compression."""
    suffixes = [s for s in path.suffixes if s not in COMPRESSIONS]
    return suffixes[-1] if suffixes else ""


def _text_rows(path: Path, kind: str) -> Iterator[tuple[int, Any]]:
    """Yield rows by number; an unreadable line yields its error."""
    text = _raw(path).decode("utf-8-sig")
    if kind == ".csv":
        yield from enumerate(_csv_rows(path, text))
        return
    if kind == ".json" and (rows := _json_rows(path, text)) is not None:
        yield from enumerate(rows)
        return
    for number, line in enumerate(lines_of(text)):
        if not line.strip():
            continue
        try:
            yield number, json.loads(line)
        except (ValueError, RecursionError) as error:  # including numbers that are too long and endlessly nested lists
            yield number, error


def _raw(path: Path) -> bytes:
    if path.suffix == ".zst":
        pyarrow = _pyarrow(path)
        with pyarrow.input_stream(str(path), compression="zstd") as file:
            return file.read()
    opener = OPENERS.get(path.suffix)
    return opener(path, "rb").read() if opener else path.read_bytes()


def _csv_rows(path: Path, text: str) -> Iterator[dict[Any, Any]]:
    limit = csv.field_size_limit((1 << 31) - 1)  # texts may be long
    try:
        reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        names = reader.fieldnames or []
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"{path} has the column {twice[0]!r} twice")
        yield from reader
    finally:
        csv.field_size_limit(limit)


def _json_rows(path: Path, text: str) -> list[Any] | None:
    """Return the rows of one list, of a list under a key, or of one object; None for JSON lines.

    Raises:
        ValueError: the text is no JSON, or an object has several lists of rows.
    """
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        if text.lstrip().startswith("["):
            raise ValueError(f"{path}, line {error.lineno}: not JSON ({error.msg})") from error
        return None
    except (ValueError, RecursionError) as error:
        if text.lstrip().startswith("["):
            raise ValueError(f"{path}: not JSON ({error})") from error
        return None
    if isinstance(value, list):
        return value
    if not isinstance(value, dict):
        return None
    lists = [key for key, entry in value.items() if key not in ROW_LISTS and _is_rows(entry)]
    if len(lists) > 1:
        raise ValueError(f"{path} must have one list of rows, got {', '.join(lists)}. Write each to a file of its own")
    return value[lists[0]] if lists else [value]


ROW_LISTS = ("messages", "conversations", "chosen", "rejected", "prompt", "completion", "context", "history")
"""Keys under which a single row has a list of objects."""


def _is_rows(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, dict) for row in value)


def _pyarrow(path: Path) -> Any:
    try:
        import pyarrow
    except ImportError as error:
        raise ValueError(f"{path} needs pyarrow. Install it with pip install pyarrow") from error
    return pyarrow


def _table(path: Path) -> Iterator[tuple[int, Any]]:
    """Yield the rows of a file of Parquet or Arrow."""
    pyarrow = _pyarrow(path)
    try:
        table = _arrow(path, pyarrow) if path.suffix == ".arrow" else _parquet(path)
        table.validate(full=True)
        names = table.column_names
        if twice := [name for name in names if names.count(name) > 1]:
            raise KeyError(f"it has the column {twice[0]!r} twice")
        yield from enumerate(table.to_pylist())
    except (pyarrow.ArrowException, KeyError, OverflowError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error


def _parquet(path: Path) -> Any:
    import pyarrow.parquet

    return pyarrow.parquet.read_table(path)


def _arrow(path: Path, pyarrow: Any) -> Any:
    """Return the table of an Arrow file: a stream, as `datasets` writes, or a file with an index."""
    with pyarrow.memory_map(str(path)) as source:
        try:
            return pyarrow.ipc.open_stream(source).read_all()
        except pyarrow.ArrowInvalid:
            source.seek(0)
            return pyarrow.ipc.open_file(source).read_all()

"""Columns of a file: other names for them, their types in a file of texts, and those that are not read."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from rlhf.data.rows.example import Row, filled, shown

Columns = Mapping[str, str]
"""Column of a file by the name that it is read as."""

TRUTHS = ("is_safe", "is_response_0_safe", "is_response_1_safe", "label", "kto_tag")
NUMBERS = ("better_response_id", "safer_response_id", "score_chosen", "score_rejected", "chosen_score")
NUMBERS += ("rejected_score", "chosen-rating", "rejected-rating", "rating_chosen", "rating_rejected")
_WORDS = {"true": True, "false": False, "1": True, "0": False, "1.0": True, "0.0": False}
LISTS = ("messages", "conversations", "chat", "history")
"""Columns that are always lists or objects."""

MESSAGES_OR_TEXT = ("prompt", "response", "completion", "chosen", "rejected", "context", "category")
"""Columns that are texts in one schema and lists or objects in another."""

_STRUCTURE = re.compile(r"\s*(\[\s*)?\{\s*['\"]\w")


def check_columns(pairs: Sequence[tuple[str, str]], known: Iterable[str]) -> dict[str, str]:
    """Return columns by name.

    Raises:
        ValueError: a name is unknown to every schema, or a name or a column occurs twice.
    """
    known = sorted(set(known))
    if unknown := [name for name, _ in pairs if name not in known]:
        raise ValueError(f"columns must name fields of a schema ({', '.join(known)}), got {unknown[0]!r}")
    for words in zip(*pairs, strict=True):
        if twice := [word for word in words if words.count(word) > 1]:
            raise ValueError(f"columns must name each field and each column once, got {twice[0]!r} twice")
    return dict(pairs)


def renamed(row: Row, columns: Columns) -> dict[str, Any]:
    """Return a row under the names of a schema. A column that a named one replaces is dropped."""
    taken = {name: column for name, column in columns.items() if column in row}
    rest = {key: value for key, value in row.items() if key not in taken and key not in taken.values()}
    return {name: row[column] for name, column in taken.items()} | rest


def check_present(rows: Sequence[Row], columns: Columns, file: str) -> None:
    """Check that a file has each named column, or one of its name.

    Raises:
        ValueError: it has neither; the message lists its columns.
    """
    present = {key for row in rows for key in row}
    for name, column in columns.items():
        if rows and column not in present and name not in present:
            raise ValueError(f"{file} has no column {column!r}, only {', '.join(map(str, sorted(present, key=str)))}")


def typed(row: Row) -> dict[str, Any]:
    """Return a row of texts with truth values, numbers, lists and objects where a schema has them.

    Raises:
        ValueError: a list or an object cannot be read.
    """
    return {key: _typed(key, value) if isinstance(value, str) else value for key, value in row.items()}


def _typed(key: str, text: str) -> Any:
    plain = text.strip()
    if key in TRUTHS:
        return None if not plain else _WORDS.get(plain.lower(), text)
    if key in NUMBERS:
        return None if not plain else _number(plain)
    if key in LISTS:
        return None if not plain else _structure(key, plain)
    if key not in MESSAGES_OR_TEXT or not plain.startswith(("[", "{")):
        return text
    if _STRUCTURE.match(plain):
        return _structure(key, plain)
    if key in ("response", "prompt"):  # a text may begin with a bracket, too
        value = _literal(plain)
        several = isinstance(value, list) and len(value) > 1 and all(isinstance(part, str) for part in value)
        return value if several else text
    return text


def _number(text: str) -> Any:
    try:
        value = float(text)
    except ValueError:
        return text
    return int(value) if value.is_integer() else value


def _structure(key: str, text: str) -> Any:
    value = _literal(text)
    if not isinstance(value, list | dict):
        raise ValueError(f"{key!r} must be a list or an object in the notation of JSON or Python, got {shown(text)}")
    return value


def _literal(text: str) -> Any:
    """Return the value of a text in the notation of JSON or of Python, None for another text."""
    readers: tuple[Callable[[str], Any], ...] = (json.loads, ast.literal_eval)
    for read in readers:
        try:
            return json.loads(json.dumps(read(text)))  # keys of objects are texts, and tuples are lists
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            continue
    return None


def unread(rows: Iterable[Row], known: Iterable[str]) -> list[str]:
    """Return the names of filled columns that a schema does not know."""
    known = frozenset(known)
    return sorted({str(key) for row in rows for key, value in row.items() if key not in known and filled(value)})

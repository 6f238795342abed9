"""The common form of a row, and readers of its fields."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from typing import Any, NamedTuple


class Example(NamedTuple):
    """One row of a data set.

    Attributes:
        prompt: turns of user and assistant in alternation; the last one is the user's.
        response: the response, None in a data set of prompts.
        other_response: a second response, None without.
        better: True if the response is more helpful than the other one.
        safer: True if it is less harmful than the other one.
        safe: True if it is harmless.
        other_safe: True if the other response is harmless.
        labels: categories of harm of the response, by name.
        source: file and row, empty for a row without a file.
    """

    prompt: tuple[str, ...]
    response: str | None = None
    other_response: str | None = None
    better: bool | None = None
    safer: bool | None = None
    safe: bool | None = None
    other_safe: bool | None = None
    labels: Mapping[str, bool] | None = None
    source: str = ""


Row = Mapping[str, Any]

_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = 60
_REPR.maxlevel, _REPR.maxlist, _REPR.maxdict = 2, 3, 3


def shown(value: Any) -> str:
    """Return a value for a message, shortened."""
    return _REPR.repr(value)


def filled(value: Any) -> bool:
    """Return True for a value with content: neither None nor empty."""
    return value is not None and value != "" and value != [] and value != {}


def text_of(row: Row, key: str) -> str:
    """Return a text.

    Raises:
        KeyError: the field is missing.
        ValueError: it has another type.
    """
    value = row[key]
    if not isinstance(value, str):
        raise ValueError(f"{key!r} must be a text, got {shown(value)}")
    return value


def truth_of(row: Row, key: str) -> bool:
    """Return True or False; errors as for `text_of`."""
    value = row[key]
    if not isinstance(value, bool):
        raise ValueError(f"{key!r} must be true or false, got {shown(value)}")
    return value


def is_first(row: Row, key: str) -> bool:
    """Return True if the field names response 0, False for response 1; errors as for `text_of`."""
    value = row[key]
    if isinstance(value, bool) or not isinstance(value, int) or value not in (0, 1):
        raise ValueError(f"{key!r} must be 0 or 1, got {shown(value)}")
    return value == 0


def with_system(system: Any, prompt: tuple[str, ...]) -> tuple[str, ...]:
    """Return a prompt whose first turn starts with a text of the system, if there is one.

    The template of Safe RLHF has no place for a system. Those of Llama 2 and Mistral write it there, too.

    Raises:
        ValueError: the system has another type than text.
    """
    if not filled(system):
        return prompt
    if not isinstance(system, str):
        raise ValueError(f"'system' must be a text, got {shown(system)}")
    return (f"{system}\n\n{prompt[0]}", *prompt[1:])

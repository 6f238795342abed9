"""Requests: typed, frozen settings of commands, which cyclopts reads from the command line.

The fields of a request are its flags; the entries of the docstring's `Attributes:` are their help texts. Groups of
flags that several commands share are requests themselves, and flatten into the command's own.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, dataclass_transform

from cyclopts import Group, Parameter

from experiments.cli.format import plain

T = TypeVar("T")


def positional(**more: Any) -> Any:
    """Declare a positional field of a request, for example `run: Folder = positional()`.

    Positional fields come first. Without `default=` the word is required.
    """
    return dataclasses.field(kw_only=False, **more)


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(positional, dataclasses.field))
def flags(cls: type[T]) -> type[T]:
    """Make a class the settings of a command: a frozen keyword-only dataclass whose fields are flags."""
    return Parameter(name="*")(dataclasses.dataclass(frozen=True, kw_only=True)(cls))


def flag_group(title: str, order: int = 50) -> Any:
    """Return a decorator like `flags` for flags that several commands share, listed under a heading of their own."""
    group = Group(title, sort_key=order)

    @dataclass_transform(frozen_default=True, kw_only_default=True)
    def decorate(cls: type[T]) -> type[T]:
        return Parameter(name="*", group=group)(dataclasses.dataclass(frozen=True, kw_only=True)(cls))

    return decorate


def flag_names(cls: type) -> set[str]:
    """Return the names of all fields of a request, those of its groups of flags among them."""
    names = set()
    for field in dataclasses.fields(cls):
        group = field.default
        names |= flag_names(type(group)) if dataclasses.is_dataclass(group) else {field.name}
    return names


def switch_names(cls: type) -> set[str]:
    """Return the names of the fields of a request that are flags without a value."""
    names = set()
    for field in dataclasses.fields(cls):
        default = field.default
        names |= switch_names(type(default)) if dataclasses.is_dataclass(default) else set()
        names |= {field.name} if isinstance(default, bool) else set()
    return names


def as_json(value: Any) -> dict[str, Any]:
    """Return a request as JSON types; `from_json` reverses it."""
    return {field.name: _as_json(getattr(value, field.name)) for field in dataclasses.fields(value)}


def _as_json(value: Any) -> Any:
    return as_json(value) if dataclasses.is_dataclass(value) and not isinstance(value, type) else plain(value)


def from_json(cls: type[T], data: Mapping[str, Any]) -> T:
    """Return the request that `as_json` wrote.

    Raises:
        TypeError: for a name that is no field of the request.
    """
    hints = typing.get_type_hints(cls)
    return cls(**{name: _from_json(hints.get(name, Any), value) for name, value in data.items()})


def _from_json(hint: Any, value: Any) -> Any:
    """Return a JSON value as the type of a field."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        inner = [argument for argument in arguments if argument is not type(None)]
        return None if value is None else _from_json(inner[0], value) if len(inner) == 1 else _tuples(value)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return from_json(hint, value)
    if origin is tuple:
        return tuple(_from_json(arguments[0] if arguments else Any, entry) for entry in value)
    return Path(value) if hint is Path else _tuples(value)


def _tuples(value: Any) -> Any:
    return tuple(_tuples(entry) for entry in value) if isinstance(value, list) else value

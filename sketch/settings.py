"""Frozen settings that are stored as JSON with a run and validated when they are read back."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self, get_args, get_type_hints

from jsafe.config import Config


class Settings:
    """Base of frozen dataclasses of settings; the fields are JSON values, paths, tuples, `Config` or `Settings`."""

    def to_json(self) -> dict[str, Any]:
        """Return every field as JSON values; `from_json` is the inverse."""
        return {field.name: _plain(getattr(self, field.name)) for field in dataclasses.fields(self)}  # type: ignore[arg-type]

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Read settings back and validate them.

        Args:
            data: the fields by name; missing fields take their defaults.

        Raises:
            ValueError: if a field is unknown, or has a value of the wrong type or out of range.
        """
        hints = get_type_hints(cls)
        names = [field.name for field in dataclasses.fields(cls)]  # type: ignore[arg-type]
        if unknown := sorted(set(data) - set(names)):
            raise ValueError(f"{cls.__name__} has no setting {unknown[0]!r} (settings: {', '.join(names)})")
        try:
            return cls(**{name: _typed(value, hints[name], f"{cls.__name__}.{name}") for name, value in data.items()})
        except TypeError as error:
            raise ValueError(f"{cls.__name__}: {error}") from error


def _plain(value: Any) -> Any:
    if isinstance(value, Settings):
        return value.to_json()
    if isinstance(value, Config):
        return value.config()
    if isinstance(value, tuple | list):
        return [_plain(entry) for entry in value]
    return str(value) if isinstance(value, Path) else value


def _typed(value: Any, hint: Any, name: str) -> Any:
    """Convert a JSON value to the type of a field, and check it."""
    from typeguard import TypeCheckError, check_type

    kinds = [kind for kind in (hint, *get_args(hint)) if isinstance(kind, type)]
    for kind in kinds:
        if isinstance(value, Mapping) and issubclass(kind, Settings):
            return kind.from_json(value)
        if isinstance(value, Mapping) and issubclass(kind, Config):
            return kind(**{key: tuple(v) if isinstance(v, list) else v for key, v in value.items()})
    if isinstance(value, str) and Path in kinds and str not in kinds:
        value = Path(value)
    elif isinstance(value, list):
        entry = Path if Path in get_args(hint) else None
        value = tuple(Path(v) if entry and isinstance(v, str) else v for v in value)
    try:
        return check_type(value, hint)
    except TypeCheckError as error:
        raise ValueError(f"{name}: {error}") from error

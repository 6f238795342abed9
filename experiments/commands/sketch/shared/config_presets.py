"""Presets of the library as values of flags."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def preset_values(presets: Mapping[str, Iterable[Any]], first: str) -> dict[str, dict[str, Any]]:
    """Return the values of each preset by option, the default preset first.

    Args:
        presets: configs of each preset.
        first: the default preset.
    """
    names = sorted(presets, key=lambda name: name != first)
    values: dict[str, dict[str, Any]] = {}
    for name in names:
        options = {key: value for config in presets[name] for key, value in config.config().items()}
        values[name] = {key: tuple(value) if isinstance(value, list) else value for key, value in options.items()}
    return values

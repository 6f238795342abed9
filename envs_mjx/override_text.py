"""Overrides written as text, `NAME=VALUE`, as on a command line."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from typing import Any

_LITERALS = {"true": True, "false": False, "null": None, "none": None}


def parse_overrides(pairs: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Convert `(name, text)` pairs to the `overrides` of `envs_mjx.make`.

    Values are numbers, lists, dicts, true, false, null, or else text. `Hazards.num` sets one entry of the dict
    `Hazards`, unless the name before the dot starts with a small letter (`lidar_conf.num_bins` is a name of its own).

    Raises:
        ValueError: for an entry of a class that was already set as a whole.
    """
    overrides: dict[str, Any] = {}
    for name, text in pairs:
        group, dot, entry = name.partition(".")
        if not (dot and group[:1].isupper()):
            overrides[name] = _value(text)
            continue
        settings = overrides.setdefault(group, {})
        if not isinstance(settings, dict):
            raise ValueError(f"override {name} needs a dict of settings, got {group}={settings!r} before it")
        settings[entry] = _value(text)
    return overrides


def _value(text: str) -> Any:
    if text.lower() in _LITERALS:
        return _LITERALS[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text

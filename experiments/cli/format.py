"""Text and JSON from results. Imports nothing heavy."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

from jsafe.config import NO_LIMIT


def to_json(data: Any, indent: int | None = 2) -> str:
    """Return strict JSON: arrays become lists, NaN and infinity become null."""
    return json.dumps(plain(data), indent=indent, allow_nan=False)


def plain(value: Any) -> Any:
    """Return a value as JSON types: dataclasses and mappings as dicts, arrays as lists, paths as text."""
    if isinstance(value, dict):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    if isinstance(value, bool | int | str) or value is None:
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Path):
        return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return plain(dataclasses.asdict(value))
    to_list = getattr(value, "tolist", None)  # of NumPy and JAX arrays and numbers
    return plain(to_list()) if to_list is not None else str(value)


def seconds_text(seconds: float) -> str:
    """Return a duration in readable units: `4.2 s`, `3 min 20 s`, `2 h 05 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def value_text(value: Any) -> str:
    """Return a hyper-parameter as it is written on the command line."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, list | tuple):
        return ",".join(str(entry) for entry in value) or "none"
    if isinstance(value, float):
        return "none" if value >= NO_LIMIT else str(value)
    return f"{value:,}".replace(",", "_") if isinstance(value, int) else str(value)


def table(header: list[str], rows: list[list[str]]) -> str:
    """Return aligned columns of text; numbers to the right, words to the left."""
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    numeric = [all(row[column][:1] in "-0123456789" for row in rows) for column in range(len(header))]
    numeric[0] = False
    lines = []
    for row in [header, ["-" * width for width in widths], *rows]:
        cells = [
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, numeric, strict=True)
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)

"""What a command hands back to the command line, and the mistakes it may report. Imports nothing heavy."""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

INTERRUPTED = 130
"""Exit code of what was stopped and can be gone on with, as shells give it after Ctrl-C."""


class CommandError(Exception):
    """A mistake the user can correct; the message is one line and says how."""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The result of a command.

    Attributes:
        data: what `--json` prints; plain Python or NumPy values, NaN becomes null.
        text: what a person reads.
        exit_code: 0 unless the command ran but what it found is a failure.
    """

    data: dict[str, Any]
    text: str
    exit_code: int = 0


def note(message: str) -> None:
    """Tell the person in front of the screen something, without disturbing what a program reads from stdout."""
    print(message, file=sys.stderr, flush=True)


def to_json(data: Any, indent: int | None = 2) -> str:
    """JSON that any parser takes: arrays become lists, and NaN or infinity becomes null."""
    return json.dumps(_plain(data), indent=indent, allow_nan=False)


def unknown(what: str, name: str, known: Iterable[str]) -> CommandError:
    """The error for a name that is not registered, with the nearest one that is.

    Args:
        what: the kind of thing, for example `environment`.
        name: what was asked for.
        known: registered names.
    """
    known = sorted(known)
    folded = {candidate.lower(): candidate for candidate in known}
    near = difflib.get_close_matches(name.lower(), folded, n=1, cutoff=0.5)
    hint = (
        f"did you mean {folded[near[0]]!r}?" if near else f"known: {', '.join(known[:8])}" + ", ..." * (len(known) > 8)
    )
    return CommandError(f"unknown {what} {name!r}; {hint}")


def writable_folder(path: Path) -> Path:
    """Create a folder if need be and make sure that files can be written in it.

    Raises:
        CommandError: the folder cannot be created or written.
    """
    path = Path(path)
    probe = path / ".jsafe-write-test"
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe.write_text("ok")
        probe.unlink()
    except OSError as error:
        raise CommandError(f"cannot write into folder {path}: {error.strerror or error}") from error
    return path


def seconds_text(seconds: float) -> str:
    """Seconds as a person says them: `4.2 s`, `3 min 20 s`, `2 h 05 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def value_text(value: Any) -> str:
    """A hyper-parameter as one would write it on the command line."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, list | tuple):
        return ",".join(str(entry) for entry in value) or "none"
    if isinstance(value, float) and value > 1e30:
        return "none"
    return f"{value:,}".replace(",", "_") if isinstance(value, int) else str(value)


def table(header: list[str], rows: list[list[str]]) -> str:
    """Aligned columns of text; numbers to the right, words to the left."""
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


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, bool | int | str) or value is None:
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Path):
        return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _plain(dataclasses.asdict(value))
    to_list = getattr(value, "tolist", None)  # of NumPy and JAX arrays and numbers
    return _plain(to_list()) if to_list is not None else str(value)

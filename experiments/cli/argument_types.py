"""Types of single flags: numbers as people write them, pairs, switches. Imports nothing heavy.

A field of a request is annotated with one of these types, for example `episodes: Count = 100`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter, Token


class ArgumentError(ValueError):
    """A word of the command line that cannot be converted."""


def integer(text: str) -> int:
    """Read a whole number: `4096`, `10_000_000`, `1e7`."""
    try:
        return int(text)
    except ValueError:
        pass
    try:
        value = float(text)
        if value == int(value):
            return int(value)
    except (ValueError, OverflowError):
        pass
    raise ArgumentError(f"expected a whole number such as 4096, 10_000_000 or 1e7, got {text!r}")


def positive(text: str) -> int:
    """Read a whole number of at least 1."""
    value = integer(text)
    if value < 1:
        raise ArgumentError(f"must be at least 1, got {value}")
    return value


def number(text: str) -> float:
    """Read a number."""
    try:
        return float(text)
    except ValueError:
        raise ArgumentError(f"expected a number, got {text!r}") from None


def not_negative(text: str) -> float:
    """Read a finite number of at least 0."""
    value = number(text)
    if not 0 <= value < float("inf"):
        raise ArgumentError(f"must be a finite number of at least 0, got {text}")
    return value


def numbers(text: str) -> float | tuple[float, ...]:
    """Read a number, or several separated by commas."""
    parts = [number(part) for part in text.split(",")]
    return parts[0] if len(parts) == 1 else tuple(parts)


def sizes(text: str) -> tuple[int, ...]:
    """Read whole numbers separated by commas or `x`: `64,64`, `8x8`."""
    return tuple(integer(part) for part in text.replace("x", ",").split(",") if part)


def key_value(text: str) -> tuple[str, str]:
    """Split `NAME=VALUE`."""
    name, separator, value = text.partition("=")
    if not separator or not name:
        raise ArgumentError(f"expected NAME=VALUE, got {text!r}")
    return name.strip(), value.strip()


def path(text: str) -> Path:
    """Read a path; `~` is the home folder, also where the shell does not expand it, as in `--run-dir=~/x`."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise ArgumentError(f"{text!r} needs a home folder, and there is none. Set HOME, or use a full path") from None


def _path(_: Any, tokens: Sequence[Token]) -> Path:
    return path(tokens[-1].value)


def _paths(_: Any, tokens: Sequence[Token]) -> tuple[Path, ...]:
    return tuple(path(token.value) for token in tokens)


def parameter(read: Callable[[str], Any], metavar: str, **more: Any) -> Parameter:
    """Return the declaration of a flag that takes one word, read by `read`."""

    def convert(_: Any, tokens: Sequence[Token]) -> Any:
        return read(tokens[-1].value)  # the last one, if the flag is repeated

    return Parameter(converter=convert, n_tokens=1, metavar=metavar, **more)


def repeated(read: Callable[[str], Any], metavar: str, **more: Any) -> Parameter:
    """Return the declaration of a flag that takes one word and is repeatable; the value is a tuple."""

    def convert(_: Any, tokens: Sequence[Token]) -> Any:
        return tuple(read(token.value) for token in tokens)

    return Parameter(converter=convert, n_tokens=1, metavar=metavar, **more)


def listed(read: Callable[[str], Any], metavar: str, **more: Any) -> Parameter:
    """Return the declaration of a repeatable flag that takes values separated by commas; the value is a tuple."""

    def convert(_: Any, tokens: Sequence[Token]) -> Any:
        return tuple(read(part) for token in tokens for part in token.value.split(","))

    return Parameter(converter=convert, n_tokens=1, metavar=metavar, **more)


Whole = Annotated[int, parameter(integer, "N")]
"""A whole number."""

Count = Annotated[int, parameter(positive, "N")]
"""A whole number of at least 1."""

Number = Annotated[float, parameter(number, "X")]
"""A number."""

NotNegative = Annotated[float, parameter(not_negative, "X")]
"""A finite number of at least 0."""

Numbers = Annotated[tuple[float, ...], parameter(lambda text: tuple(number(part) for part in text.split(",")), "X,X")]
"""Numbers separated by commas."""

Counts = Annotated[tuple[int, ...], parameter(lambda text: tuple(positive(part) for part in text.split(",")), "N,N")]
"""Whole numbers of at least 1 separated by commas."""

Switch = Annotated[bool, Parameter(negative=(), show_default=False)]
"""A flag without a value, off by default."""

Folder = Annotated[Path, Parameter(metavar="DIR", converter=_path, n_tokens=1)]
"""Path of a folder."""

File = Annotated[Path, Parameter(metavar="FILE", converter=_path, n_tokens=1)]
"""Path of a file."""

Folders = Annotated[tuple[Path, ...], Parameter(metavar="DIR", converter=_paths)]
"""Paths of folders; as a flag, repeated for each."""

Files = Annotated[tuple[Path, ...], Parameter(metavar="FILE", converter=_paths)]
"""Paths of files; as a flag, repeated for each."""

Pairs = Annotated[tuple[tuple[str, str], ...], repeated(key_value, "NAME=VALUE")]
"""`NAME=VALUE`; repeatable."""

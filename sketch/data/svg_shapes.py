"""Geometry of SVG: shapes, paths and transforms as positions, curves as short lines."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from sketch.data.strokes import Polylines
from sketch.data.svg_curves import FAR, flattened, flattened_arc

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_TOKEN = re.compile(rf"\s*,?\s*([A-Za-z]|{_NUMBER})")
_FLAG = re.compile(r"\s*,?\s*([01])")
_LENGTH = re.compile(rf"\s*,?\s*({_NUMBER})([A-Za-z]+|%)?")
_TRANSFORM = re.compile(r"[\s,]*([A-Za-z]+)\s*\(([^()]*)\)")

ARGUMENTS = {"M": 2, "L": 2, "H": 1, "V": 1, "C": 6, "S": 4, "Q": 4, "T": 2, "A": 7, "Z": 0}
"""Number of arguments of each path command."""

PIXELS = {"": 1.0, "px": 1.0, "pt": 4 / 3, "pc": 16.0, "in": 96.0, "cm": 96 / 2.54, "mm": 96 / 25.4, "q": 96 / 101.6}
"""Pixels of the units of length."""

DEGREES = {"": 1.0, "deg": 1.0, "rad": 180 / math.pi, "grad": 0.9, "turn": 360.0}
"""Degrees of the units of angle."""

ANGLES = ("rotate", "skew", "skewx", "skewy")
"""Transforms whose first argument is an angle."""


def shape_strokes(
    name: str, attributes: Mapping[str, str], viewport: tuple[float, float] | None, matrix: np.ndarray
) -> Polylines:
    """Strokes of an element that draws, moved by a matrix `[3, 3]`.

    Raises:
        ValueError: if its numbers cannot be read.
    """
    if name == "path":
        return path_strokes(attributes.get("d", ""), matrix)
    if name == "line":
        ends = [_length(attributes, key, viewport) for key in ("x1", "y1", "x2", "y2")]
        return [moved(matrix, np.reshape(ends, (2, 2)))]
    if name in ("polyline", "polygon"):
        numbers = numbers_of(attributes.get("points", ""), "points")
        if len(numbers) % 2:
            raise ValueError(f"'points' must be pairs of numbers, got {len(numbers)} numbers")
        points = np.reshape(numbers, (-1, 2))
        return [moved(matrix, np.concatenate([points, points[:1]]) if name == "polygon" else points)]
    outline = _rectangle if name == "rect" else _ellipse
    return path_strokes(outline(name, attributes, viewport), matrix)


def _rectangle(_: str, attributes: Mapping[str, str], viewport: tuple[float, float] | None) -> str:
    """Path of a rectangle, empty without an area."""
    x, y = (_length(attributes, key, viewport) for key in "xy")
    width, height = (_size(attributes, key, viewport) for key in ("width", "height"))
    if not width or not height:
        return ""
    radii = [_radius(attributes, key, viewport) for key in ("rx", "ry")]
    rx, ry = (min((own or 0.0) if own is not None else (other or 0.0), side / 2)
              for own, other, side in zip(radii, radii[::-1], (width, height), strict=True))  # fmt: skip
    if not rx or not ry:
        return f"M{x!r} {y!r}h{width!r}v{height!r}h{-width!r}Z"
    a, b = width - 2 * rx, height - 2 * ry
    corners = [f"a{rx!r} {ry!r} 0 0 1 {i * rx!r} {j * ry!r}" for i, j in ((1, 1), (-1, 1), (-1, -1), (1, -1))]
    return f"M{x + rx!r} {y!r}h{a!r}{corners[0]}v{b!r}{corners[1]}h{-a!r}{corners[2]}v{-b!r}{corners[3]}"


def _ellipse(name: str, attributes: Mapping[str, str], viewport: tuple[float, float] | None) -> str:
    """Path of a circle or an ellipse, from its rightmost point; empty without an area."""
    x, y = (_length(attributes, key, viewport) for key in ("cx", "cy"))
    if name == "circle":
        rx = ry = _size(attributes, "r", viewport)
    else:
        radii = [_radius(attributes, key, viewport) for key in ("rx", "ry")]
        rx, ry = ((own if own is not None else other) or 0.0 for own, other in zip(radii, radii[::-1], strict=True))
    if not rx or not ry:
        return ""
    return f"M{x + rx!r} {y!r}a{rx!r} {ry!r} 0 0 1 {-2 * rx!r} 0a{rx!r} {ry!r} 0 0 1 {2 * rx!r} 0"


def _radius(attributes: Mapping[str, str], key: str, viewport: tuple[float, float] | None) -> float | None:
    return None if attributes.get(key, "auto").strip() == "auto" else _size(attributes, key, viewport)


def _size(attributes: Mapping[str, str], key: str, viewport: tuple[float, float] | None) -> float:
    if attributes.get(key, "auto").strip() == "auto":
        return 0.0
    size = _length(attributes, key, viewport)
    if size < 0.0:
        raise ValueError(f"{key!r} must not be negative, got {attributes[key]!r}")
    return size


_AXES = {
    "x": 0,
    "x1": 0,
    "x2": 0,
    "cx": 0,
    "rx": 0,
    "width": 0,
    "y": 1,
    "y1": 1,
    "y2": 1,
    "cy": 1,
    "ry": 1,
    "height": 1,
}
"""Side of the viewport to which a percentage refers; others refer to the diagonal."""


def _length(attributes: Mapping[str, str], key: str, viewport: tuple[float, float] | None) -> float:
    try:
        return to_pixels(attributes.get(key, "0"), viewport, _AXES.get(key))
    except _NotANumberError:
        raise ValueError(f"{key!r} must hold numbers, got {attributes[key]!r}") from None


class _NotANumberError(ValueError):
    """A length without a number."""


def to_pixels(text: str, viewport: tuple[float, float] | None, axis: int | None = None) -> float:
    """Convert a length to user units.

    Args:
        text: number with a unit, or a percentage.
        viewport: width and height to which percentages refer; None if unknown.
        axis: 0 for a horizontal length, 1 for a vertical one, None for others.

    Raises:
        ValueError: if the length cannot be read, or its unit depends on a font.
    """
    match = _LENGTH.fullmatch(text.strip())
    if not match:
        raise _NotANumberError(f"a length must be a number with a unit, got {text!r}")
    unit = (match[2] or "").lower()
    if unit == "%":
        if viewport is None:
            raise ValueError(f"a percentage needs a viewBox or a size of <svg>, got {text!r}")
        whole = math.hypot(*viewport) / math.sqrt(2) if axis is None else viewport[axis]
        return _near(match[1]) / 100 * whole
    if unit not in PIXELS:
        raise ValueError(f"the unit of a length must be one of {', '.join(filter(None, PIXELS))} or %, got {text!r}")
    return _near(match[1]) * PIXELS[unit]


def transform(text: str) -> np.ndarray:
    """Return the matrix `[3, 3]` of a `transform`, as an attribute or in CSS, in two dimensions.

    Raises:
        ValueError: if the transform is another one, or has another number of arguments.
    """
    product, place = np.eye(3), 0
    text = text.strip()
    while place < len(text) and text != "none":
        match = _TRANSFORM.match(text, place)
        if not match:
            raise ValueError(f"cannot read the transform {text[place:]!r}")
        kind, place = match[1], match.end()
        try:
            matrix = _matrix(kind.lower(), _arguments(kind, match[2]))
        except _NotANumberError:
            matrix = None
        if matrix is None:
            raise ValueError(f"cannot read the transform {match[0].strip()!r}")
        product = product @ matrix
    return product


def _arguments(kind: str, text: str) -> list[float]:
    """Arguments of a transform in user units and degrees."""
    numbers, place, text = [], 0, text.strip()
    while place < len(text):
        match = _LENGTH.match(text, place)
        if not match:
            raise _NotANumberError
        unit, place = (match[2] or "").lower(), match.end()
        units = DEGREES if kind.lower() in ANGLES and (not numbers or kind.lower() == "skew") else PIXELS
        if unit not in units:
            raise _NotANumberError
        numbers.append(_near(match[1]) * units[unit])
    return numbers


def _matrix(kind: str, n: Sequence[float]) -> np.ndarray | None:
    """Return the matrix of one transform; None if it is unknown or has another number of arguments."""

    def of(a: float, b: float, c: float, d: float, e: float = 0.0, f: float = 0.0) -> np.ndarray:
        return np.array([[a, c, e], [b, d, f], [0, 0, 1]])

    match kind, len(n):
        case "matrix", 6:
            return of(*n)
        case "translate", 1 | 2:
            return of(1, 0, 0, 1, n[0], n[1] if len(n) > 1 else 0.0)
        case "translatex", 1:
            return of(1, 0, 0, 1, n[0])
        case "translatey", 1:
            return of(1, 0, 0, 1, 0.0, n[0])
        case "scale", 1 | 2:
            return of(n[0], 0, 0, n[-1])
        case "scalex", 1:
            return of(n[0], 0, 0, 1)
        case "scaley", 1:
            return of(1, 0, 0, n[0])
        case "rotate", 1 | 3:
            c, s = math.cos(math.radians(n[0])), math.sin(math.radians(n[0]))
            x, y = n[1:] or (0.0, 0.0)
            return of(1, 0, 0, 1, x, y) @ of(c, s, -s, c) @ of(1, 0, 0, 1, -x, -y)
        case "skewx", 1:
            return of(1, 0, math.tan(math.radians(n[0])), 1)
        case "skewy", 1:
            return of(1, math.tan(math.radians(n[0])), 0, 1)
        case "skew", 1 | 2:
            y = math.tan(math.radians(n[1])) if len(n) > 1 else 0.0
            return of(1, y, math.tan(math.radians(n[0])), 1)
    return None


class _Command(NamedTuple):
    """A path command in upper case, with its arguments and True for relative ones."""

    letter: str
    relative: bool
    numbers: tuple[float, ...]


def path_strokes(text: str, matrix: np.ndarray | None = None) -> Polylines:
    """Return the strokes of the `d` attribute of a path: M L H V C S Q T A Z, absolute and relative.

    A path that is a single move is a stroke of one point; other moves without a line are dropped.

    Args:
        text: the attribute.
        matrix: `[3, 3]` transform of the result.

    Raises:
        ValueError: if there is another command, or a missing or invalid number.
    """
    lines: list[list[np.ndarray]] = []  # parts of each stroke
    here = first = control = np.zeros(2)
    before = ""
    for letter, relative, numbers in _commands(text):
        base = here if relative else np.zeros(2)
        if letter == "A":
            points = np.reshape(numbers[5:], (1, 2)) + base
        else:
            points = np.reshape(numbers, (-1, 2)) + base if letter not in "HVZ" else np.zeros((0, 2))
        if letter == "M":
            here = first = points[0]
            lines.append([points])
            before = letter
            continue
        if before == "Z":
            lines.append([here[None]])  # a closed outline returns to its start
        if letter == "Z":
            points = first[None]
        elif letter == "H":
            points = np.array([[numbers[0] + base[0], here[1]]])
        elif letter == "V":
            points = np.array([[here[0], numbers[0] + base[1]]])
        elif letter in "ST":
            follows = before in ("CS" if letter == "S" else "QT")
            points = np.concatenate([[2 * here - control if follows else here], points])
        control = points[-2] if letter in "CSQT" else points[-1]
        lines[-1].append(_on_curve(letter, here, points, numbers))
        here, before = points[-1], letter
    matrix = np.eye(3) if matrix is None else matrix
    strokes = [moved(matrix, np.concatenate(line)) for line in lines]
    return strokes if len(strokes) == 1 else [line for line in strokes if len(line) > 1]


def _on_curve(letter: str, here: np.ndarray, points: np.ndarray, numbers: Sequence[float]) -> np.ndarray:
    """Positions of one command behind the pen, those of curves on short lines."""
    if letter in "CSQT":
        return flattened(np.concatenate([here[None], points]))
    return flattened_arc(here, points[-1], numbers) if letter == "A" else points


def _commands(text: str) -> Iterator[_Command]:
    place, text, letter = 0, text.strip(), ""
    while place < len(text):
        match = _TOKEN.match(text, place)
        if not match:
            raise ValueError(f"cannot read the path at {text[place : place + 20]!r}")
        token = match[1]
        if not letter and token not in "Mm":
            raise ValueError(f"a path must begin with M, got {token!r}")
        if token.isalpha():
            letter, place = token, match.end()
            if letter.upper() not in ARGUMENTS:
                raise ValueError(f"unknown command {letter!r} in a path")
        elif letter in "Zz":
            raise ValueError(f"a number without a command in a path: {token!r}")
        part, place = _command_numbers(text, place, letter)
        yield _Command(letter.upper(), letter.islower(), part)
        letter = {"M": "L", "m": "l"}.get(letter, letter)  # further pairs of a move are lines


def _command_numbers(text: str, place: int, letter: str) -> tuple[tuple[float, ...], int]:
    """Arguments of a command, and the place behind them; the flags of an arc need no separators."""
    count, numbers = ARGUMENTS[letter.upper()], list[str]()
    while len(numbers) < count:
        match = (_FLAG if letter in "Aa" and len(numbers) in (3, 4) else _TOKEN).match(text, place)
        if not match and text[place:].strip(" \t\r\n,") and letter not in "Aa":
            raise ValueError(f"cannot read the path at {text[place:].lstrip()[:20]!r}")
        if not match or match[1].isalpha():
            shown = " ".join(numbers) or "none"
            raise ValueError(f"command {letter!r} of a path needs {count} numbers, got {shown}")
        numbers.append(match[1])
        place = match.end()
    return tuple(map(_near, numbers)), place


def moved(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Positions `[n, 2]` moved by a matrix `[3, 3]`.

    Raises:
        ValueError: if a position is too far away.
    """
    result = points @ matrix[:2, :2].T + matrix[:2, 2]
    if not (np.abs(result) <= FAR).all():
        raise ValueError(f"positions must be at most {FAR:g} from the origin")
    return result


def _near(text: str) -> float:
    if not abs(float(text)) <= FAR:
        raise ValueError(f"a number must be at most {FAR:g}, got {text}")
    return float(text)


def numbers_of(text: str, name: str) -> list[float]:
    """Numbers of an attribute.

    Raises:
        ValueError: if there is something else in it.
    """
    numbers, place, text = [], 0, text.strip()
    while place < len(text):
        match = _TOKEN.match(text, place)
        if not match or match[1].isalpha():
            raise ValueError(f"{name!r} must hold numbers, got {text[place : place + 20]!r}")
        numbers.append(_near(match[1]))
        place = match.end()
    return numbers

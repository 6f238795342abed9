"""Strokes of SVG files: paths, polylines and lines as stroke-3, curves as short lines.

Only the geometry is read, without colours, widths and the viewBox. Entities are refused, and no other file is opened.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from xml.parsers import expat

import numpy as np

from sketch.data.drawing_files import check_strokes
from sketch.data.simplify import ramer_douglas_peucker
from sketch.data.strokes import Polylines, from_polylines, to_polylines

FLATNESS = 0.002
"""Largest distance of a curve from its lines, as a fraction of the length of its control polygon."""

MAX_BYTES = 5_000_000
"""Size of the largest accepted file."""

FAR = 1e9
"""Largest accepted position, for the sake of single precision."""

NAMESPACE = "http://www.w3.org/2000/svg"

GROUPS = ("svg", "g", "a", "switch")
"""Elements whose children are drawn."""

SILENT = (
    "defs", "symbol", "clipPath", "mask", "pattern", "marker", "linearGradient", "radialGradient", "filter", "style",
    "script", "title", "desc", "metadata", "view",
)  # fmt: skip
"""Elements that draw nothing; their children are ignored."""

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_TOKEN = re.compile(rf"\s*,?\s*([A-Za-z]|{_NUMBER})")
_TRANSFORM = re.compile(r"[\s,]*([A-Za-z]+)\s*\(([^()]*)\)")

ARGUMENTS = {"M": 2, "L": 2, "H": 1, "V": 1, "C": 6, "S": 4, "Q": 4, "T": 2, "Z": 0}
"""Number of arguments of each path command."""


def read(path: Path) -> np.ndarray:
    """Read the drawing of an SVG file.

    Args:
        path: the file.

    Returns:
        `[n, 3]` stroke-3 in the units of the file, transforms applied, y downwards; strokes in the order of the
        file. `sketch.data.simplify.simplify` converts its polylines to the form that Quick, Draw! publishes.

    Raises:
        FileNotFoundError: if the file does not exist.
        ValueError: if it is not SVG, is larger than `MAX_BYTES`, declares entities, has no strokes, or has an element
            that is not a stroke; names the file and the element.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"{path} must have at most {MAX_BYTES} bytes, got {path.stat().st_size}")
    return parse(path.read_bytes(), str(path))


def read_simplified(path: Path, scale: float, max_points: int) -> np.ndarray:
    """Read the drawing of an SVG file with as few points as published drawings have.

    Args:
        path: the file.
        scale: factor on positions, applied before the simplification.
        max_points: largest number of points that is accepted.

    Raises:
        ValueError: if the file or the drawing is unusable; names the file.
    """
    lines = [line * scale for line in to_polylines(read(path))]
    try:
        return check_strokes(from_polylines([ramer_douglas_peucker(line) for line in lines]), max_points)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def parse(text: bytes | str, source: str = "the SVG text") -> np.ndarray:
    """Parse the content of an SVG file; `source` is its name in error messages."""
    reader = _Reader(source)
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.StartElementHandler, parser.EndElementHandler = reader.start, reader.end
    parser.EntityDeclHandler = reader.refuse_entity
    reader.line = lambda: parser.CurrentLineNumber
    try:
        parser.Parse(text.encode() if isinstance(text, str) else text, True)
    except (expat.ExpatError, LookupError) as error:
        raise ValueError(f"{source} is not SVG: {error}") from None
    if not reader.lines:
        raise ValueError(f"{source} has no strokes")
    return from_polylines(reader.lines)


class _Reader:
    """Collects the strokes of the elements of a file."""

    def __init__(self, source: str):
        self.source, self.matrices, self.skipped = source, [np.eye(3)], 0
        self.lines: Polylines = []
        self.line: Callable[[], int] = lambda: 0

    def refuse_entity(self, name: str, *_: object) -> None:
        """Refuse entities, which can grow without bound and can name other files."""
        raise ValueError(f"{self.source}, line {self.line()}: entities are not supported, got {name!r}")

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        """Handle the start of an element."""
        space, _, name = tag.rpartition(" ")
        hidden = attributes.get("display") == "none"
        if self.skipped or space not in ("", NAMESPACE) or name in SILENT or hidden:
            self.skipped += 1
            return
        where = f"{self.source}, line {self.line()}, <{name}>"
        try:
            if len(self.matrices) == 1 and name != "svg":
                raise ValueError("the first element must be <svg>")
            if name == "svg" and len(self.matrices) > 1:
                raise ValueError("an <svg> inside another is not read")
            matrix = self.matrices[-1] @ transform(attributes.get("transform", ""))
            self.matrices.append(matrix)
            if name not in GROUPS:
                strokes = shape(name, attributes, matrix)
                self.lines += [line for line in strokes if len(line)]
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None

    def end(self, _: str) -> None:
        """An element ends."""
        if self.skipped:
            self.skipped -= 1
        else:
            self.matrices.pop()


def shape(name: str, attributes: Mapping[str, str], matrix: np.ndarray) -> Polylines:
    """Strokes of an element that draws, moved by a matrix `[3, 3]`.

    Raises:
        ValueError: it is no stroke, or its numbers cannot be read.
    """
    if name == "path":
        return path_strokes(attributes.get("d", ""), matrix)
    if name == "line":
        ends = [_length(attributes, key) for key in ("x1", "y1", "x2", "y2")]
        return [_moved(matrix, np.reshape(ends, (2, 2)))]
    if name in ("polyline", "polygon"):
        numbers = _numbers(attributes.get("points", ""), "points")
        if len(numbers) % 2:
            raise ValueError(f"'points' must be pairs of numbers, got {len(numbers)} numbers")
        points = np.reshape(numbers, (-1, 2))
        return [_moved(matrix, np.concatenate([points, points[:1]]) if name == "polygon" else points)]
    if name == "rect" and attributes.get("stroke", "none") == "none":
        return []  # a filled background
    raise ValueError("is not a stroke; supported are <path>, <polyline>, <polygon> and <line>")


def transform(text: str) -> np.ndarray:
    """Return the matrix `[3, 3]` of a `transform`: matrix, translate, scale, rotate, skewX, skewY.

    Raises:
        ValueError: if the transform is another one, or has another number of arguments.
    """
    product, place = np.eye(3), 0
    text = text.strip()
    while place < len(text):
        match = _TRANSFORM.match(text, place)
        if not match:
            raise ValueError(f"cannot read the transform {text[place:]!r}")
        kind, numbers, place = match[1], _numbers(match[2], match[1]), match.end()
        matrix = _matrix(kind, numbers)
        if matrix is None:
            raise ValueError(f"cannot read the transform {match[0].strip()!r}")
        product = product @ matrix
    return product


def _matrix(kind: str, n: Sequence[float]) -> np.ndarray | None:
    """Return the matrix of one transform; None if it is unknown or has another number of arguments."""

    def of(a: float, b: float, c: float, d: float, e: float = 0.0, f: float = 0.0) -> np.ndarray:
        return np.array([[a, c, e], [b, d, f], [0, 0, 1]])

    match kind, len(n):
        case "matrix", 6:
            return of(*n)
        case "translate", 1 | 2:
            return of(1, 0, 0, 1, n[0], n[1] if len(n) > 1 else 0.0)
        case "scale", 1 | 2:
            return of(n[0], 0, 0, n[-1])
        case "rotate", 1 | 3:
            c, s = math.cos(math.radians(n[0])), math.sin(math.radians(n[0]))
            x, y = n[1:] or (0.0, 0.0)
            return of(1, 0, 0, 1, x, y) @ of(c, s, -s, c) @ of(1, 0, 0, 1, -x, -y)
        case "skewX", 1:
            return of(1, 0, math.tan(math.radians(n[0])), 1)
        case "skewY", 1:
            return of(1, math.tan(math.radians(n[0])), 0, 1)
    return None


class _Command(NamedTuple):
    """A path command in upper case, with its arguments and True for relative ones."""

    letter: str
    relative: bool
    numbers: tuple[float, ...]


def path_strokes(text: str, matrix: np.ndarray | None = None) -> Polylines:
    """Return the strokes of the `d` attribute of a path: M L H V C S Q T Z, absolute and relative.

    A path that is a single move is a stroke of one point; other moves without a line are dropped.

    Args:
        text: the attribute.
        matrix: `[3, 3]` transform of the result.

    Raises:
        ValueError: if there is another command (such as arcs), or a missing or invalid number.
    """
    lines: list[list[np.ndarray]] = []  # parts of each stroke
    here = first = control = np.zeros(2)
    before = ""
    for letter, relative, numbers in _commands(text):
        base = here if relative else np.zeros(2)
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
        lines[-1].append(flattened(np.concatenate([here[None], points])) if letter in "CSQT" else points)
        here, before = points[-1], letter
    matrix = np.eye(3) if matrix is None else matrix
    strokes = [_moved(matrix, np.concatenate(line)) for line in lines]
    return strokes if len(strokes) == 1 else [line for line in strokes if len(line) > 1]


def _commands(text: str) -> Iterator[_Command]:
    tokens, place, text = [], 0, text.strip()
    while place < len(text):
        match = _TOKEN.match(text, place)
        if not match:
            raise ValueError(f"cannot read the path at {text[place : place + 20]!r}")
        tokens.append(match[1])
        place = match.end()
    if tokens and tokens[0] not in "Mm":
        raise ValueError(f"a path must begin with M, got {tokens[0]!r}")
    letter, place = "", 0
    while place < len(tokens):
        if tokens[place].isalpha():
            letter, place = tokens[place], place + 1
            if letter.upper() not in ARGUMENTS:
                message = "arcs (A) are not supported" if letter in "Aa" else f"unknown command {letter!r} in a path"
                raise ValueError(message)
        elif letter in "Zz":
            raise ValueError(f"a number without a command in a path: {tokens[place]!r}")
        count = ARGUMENTS[letter.upper()]
        part = tokens[place : place + count]
        if len(part) < count or any(token.isalpha() for token in part):
            raise ValueError(f"command {letter!r} of a path needs {count} numbers, got {' '.join(part) or 'none'}")
        yield _Command(letter.upper(), letter.islower(), tuple(map(_near, part)))
        place += count
        letter = {"M": "L", "m": "l"}.get(letter, letter)  # further pairs of a move are lines


def flattened(points: np.ndarray, flatness: float = FLATNESS) -> np.ndarray:
    """Return points `[n, 2]` of a Bezier curve behind its first one, so that lines between them approximate it.

    Args:
        points: `[3 or 4, 2]` control points, quadratic or cubic.
        flatness: see `FLATNESS`.
    """
    degree = len(points) - 1
    length = np.hypot(*np.diff(points, axis=0).T).sum()
    # The distance of a line over a parameter range h is at most h^2 / 8 times the second derivative.
    bend = degree * (degree - 1) * np.hypot(*np.diff(points, n=2, axis=0).T).max()
    count = max(math.ceil(math.sqrt(bend / (8 * flatness * length))), 1) if length > 0 else 1
    t = (np.arange(count) + 1.0)[:, None] / count
    binomial = [math.comb(degree, i) * t**i * (1 - t) ** (degree - i) for i in range(degree + 1)]
    return sum(b * point for b, point in zip(binomial, points, strict=True))  # type: ignore[return-value]


def _moved(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    moved = points @ matrix[:2, :2].T + matrix[:2, 2]
    if not (np.abs(moved) <= FAR).all():
        raise ValueError(f"positions must be at most {FAR:g} from the origin")
    return moved


def _near(text: str) -> float:
    if not abs(float(text)) <= FAR:
        raise ValueError(f"a number must be at most {FAR:g}, got {text}")
    return float(text)


def _length(attributes: Mapping[str, str], key: str) -> float:
    numbers = _numbers(attributes.get(key, "0").strip().removesuffix("px"), key)
    if len(numbers) != 1:
        raise ValueError(f"{key!r} must be a number, got {attributes[key]!r}")
    return numbers[0]


def _numbers(text: str, name: str) -> list[float]:
    numbers, place, text = [], 0, text.strip()
    while place < len(text):
        match = _TOKEN.match(text, place)
        if not match or match[1].isalpha():
            raise ValueError(f"{name!r} must hold numbers, got {text[place : place + 20]!r}")
        numbers.append(_near(match[1]))
        place = match.end()
    return numbers

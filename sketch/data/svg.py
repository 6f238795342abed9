"""Strokes of SVG files: outlines of the stroked elements as stroke-3, curves as short lines.

Styles, transforms, `<use>`, nested `<svg>` and units are applied. What is no visible stroke is left out and counted.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import svgelements

from sketch.data.drawing_checks import check_strokes
from sketch.data.simplify import fit_to_box, ramer_douglas_peucker
from sketch.data.strokes import Polylines, from_polylines, to_polylines
from sketch.data.svg_document import Document, parse_document
from sketch.data.svg_shapes import numbers_of, shape_strokes, to_pixels, transform

MAX_BYTES = 5_000_000
"""Size of the largest accepted file."""

MAX_ELEMENTS = 100_000
"""Largest number of elements after the replacement of `<use>`."""

SHAPES = ("path", "line", "polyline", "polygon", "rect", "circle", "ellipse")

GROUPS = ("g", "a")
"""Elements whose children are drawn."""

SILENT = (
    "", "defs", "symbol", "clipPath", "mask", "pattern", "marker", "linearGradient", "radialGradient", "filter",
    "style", "script", "title", "desc", "metadata", "view",
)  # fmt: skip
"""Elements that draw nothing; their children are ignored. The empty name stands for other namespaces."""

HREFS = ("href", "http://www.w3.org/1999/xlink href")
"""Names of the attribute with the target of `<use>`."""

INHERITED = {
    "stroke": "none", "fill": "black", "visibility": "visible", "stroke-width": "1", "stroke-opacity": "1",
    "color": "black",
}  # fmt: skip
"""Inherited properties and their initial values."""


class SvgDrawing(NamedTuple):
    """The drawing of an SVG file.

    Attributes:
        strokes: `[n, 3]` stroke-3 in the user units of the outermost `<svg>`, y downwards; strokes in the order of
            the file.
        left_out: number of the parts that are no visible strokes, by name, such as `<text>` or `hidden <g>`.
    """

    strokes: np.ndarray
    left_out: dict[str, int]

    @property
    def note(self) -> str:
        """One phrase about the parts that are left out; empty without any."""
        return _listed(self.left_out)


def read(path: Path) -> np.ndarray:
    """Read stroke-3 of an SVG file, see `read_drawing`."""
    return read_drawing(path).strokes


def read_drawing(path: Path) -> SvgDrawing:
    """Read the drawing of an SVG file.

    `sketch.data.simplify.simplify` converts its polylines to the form that Quick, Draw! publishes.

    Raises:
        FileNotFoundError: if the file does not exist.
        ValueError: if it is not SVG, is larger than `MAX_BYTES`, declares entities that are no plain text, has no
            strokes, or has a number, path, transform or style that cannot be read; names the file and the element.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"{path} must have at most {MAX_BYTES} bytes, got {path.stat().st_size}")
    return parse_drawing(path.read_bytes(), str(path))


def read_simplified(path: Path, scale: float, max_points: int, *, fit: bool = False) -> SvgDrawing:
    """Read the drawing of an SVG file with as few points as published drawings have.

    Args:
        path: the file.
        scale: factor on positions, applied before the simplification.
        max_points: largest number of points that is accepted.
        fit: move the drawing to the origin and scale its longest side to 255, the unit of the simplification.

    Raises:
        ValueError: if the file or the drawing is unusable; names the file.
    """
    drawing = read_drawing(path)
    lines = to_polylines(drawing.strokes)
    lines = fit_to_box(lines) if fit else [line * scale for line in lines]
    try:
        simplified = check_strokes(from_polylines([ramer_douglas_peucker(line) for line in lines]), max_points)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return drawing._replace(strokes=simplified)


def parse(text: bytes | str, source: str = "the SVG text") -> np.ndarray:
    """Parse the content of an SVG file to stroke-3; `source` is its name in error messages."""
    return parse_drawing(text, source).strokes


def parse_drawing(text: bytes | str, source: str = "the SVG text") -> SvgDrawing:
    """Parse the content of an SVG file; `source` is its name in error messages."""
    document = parse_document(text, source)
    collector = _Collector(document, document.left_out)
    collector.draw(document.root, _Context(viewport=_root_viewport(document)))
    lines = collector.strokes()
    if not lines:
        listed = _listed(document.left_out)
        raise ValueError(f"{source} has no strokes" + (f" (left out: {listed})" if listed else ""))
    return SvgDrawing(from_polylines(lines), dict(document.left_out))


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))


@dataclass(frozen=True)
class _Context:
    """State that an element inherits.

    Attributes:
        viewport: width and height for percentages; None if unknown.
        matrix: `[3, 3]`.
        styles: inherited properties.
        uses: elements that are being replaced for `<use>`.
        transparent: True inside an element without opacity.
        size: width and height that `<use>` states for its target.
    """

    viewport: tuple[float, float] | None
    matrix: np.ndarray = field(default_factory=lambda: np.eye(3))
    styles: Mapping[str, str] = field(default_factory=lambda: dict(INHERITED))
    uses: tuple[Any, ...] = ()
    transparent: bool = False
    size: Mapping[str, str] = field(default_factory=dict)


@dataclass
class _Collector:
    """Collects strokes, and the outlines of filled elements for files without strokes."""

    document: Document
    left_out: Counter[str]
    outlines: list[tuple[bool, str, Polylines]] = field(default_factory=list)
    elements: int = 0

    def strokes(self) -> Polylines:
        """Return the strokes; the outlines of filled shapes if no element states a stroke."""
        stroked = any(is_stroke for is_stroke, _, _ in self.outlines)
        lines: Polylines = []
        for is_stroke, name, part in self.outlines:
            if is_stroke or not stroked and name != "rect":
                lines += [line for line in part if len(line)]
            elif part:
                self.left_out[f"filled <{name}>"] += 1
        return lines

    def draw(self, element: Any, context: _Context) -> None:
        """Handle an element and its children."""
        self.elements += 1
        if self.elements > MAX_ELEMENTS:
            raise ValueError(f"{self.document.source} must have at most {MAX_ELEMENTS} elements with <use> replaced")
        name = element.tag
        if name in SILENT and not (name == "symbol" and context.uses and context.uses[-1] is element):
            return
        if element.get("display", "").strip().lower() == "none":
            self.left_out[f"hidden <{name}>"] += 1
            return
        try:
            self._draw(element, name, self._inside(element, context))
        except ValueError as error:
            if str(error).startswith(self.document.source):
                raise
            raise ValueError(f"{self.document.where(element)}: {error}") from None

    def _draw(self, element: Any, name: str, context: _Context) -> None:
        if name in SHAPES:
            self._shape(element, name, context)
        elif name == "use":
            self._use(element, context)
        elif name in ("svg", "symbol"):
            self._children(element, self._viewport(element, context))
        elif name in GROUPS:
            self._children(element, context)
        elif name == "switch":
            chosen = next((child for child in element if _accepted(child)), None)
            if chosen is not None:
                self.draw(chosen, context)
        else:
            self.left_out[f"<{name}>"] += 1

    def _children(self, element: Any, context: _Context) -> None:
        for child in element:
            self.draw(child, context)

    def _inside(self, element: Any, context: _Context) -> _Context:
        """Context with the style and transform of an element."""
        styles = {name: _inherited(element, name, context.styles) for name in INHERITED}
        for name in ("clip-path", "mask"):
            if element.get(name, "none").strip() != "none":
                self.left_out[f"{name} of <{element.tag}>"] += 1
        transparent = context.transparent or _fraction(element.get("opacity", "1")) == 0.0
        matrix = transform(element.get("transform", ""))
        if "transform-origin" in element.attrib and "transform" in element.attrib:
            origin = [to_pixels(part, None) for part in _origin(element.get("transform-origin"))]
            shift = np.array([[1, 0, origin[0]], [0, 1, origin[1]], [0, 0, 1.0]])
            matrix = shift @ matrix @ np.linalg.inv(shift)
        return replace(context, styles=styles, transparent=transparent, matrix=context.matrix @ matrix)

    def _shape(self, element: Any, name: str, context: _Context) -> None:
        strokes = shape_strokes(name, element.attrib, context.viewport, context.matrix)
        styles = context.styles
        hidden = context.transparent or styles["visibility"].strip() in ("hidden", "collapse")
        stroked = not _is_transparent(styles["stroke"], styles["color"])
        if stroked and (_fraction(styles["stroke-opacity"]) == 0.0 or _is_zero(styles["stroke-width"])):
            stroked = False
        hidden = hidden or not stroked and _is_transparent(styles["fill"], styles["color"])
        if hidden:
            self.left_out[f"hidden <{name}>"] += 1
        else:
            self.outlines.append((stroked, name, strokes))

    def _use(self, element: Any, context: _Context) -> None:
        target = next((element.get(name, "").strip() for name in HREFS if name in element.attrib), "")
        used = self.document.ids.get(target[1:]) if target.startswith("#") else None
        if used is None:
            self.left_out[f"<use> of {target[:40] or 'nothing'}"] += 1
            return
        if used in context.uses:
            raise ValueError(f"<use> must not contain itself, got a cycle through {target!r}")
        x, y = (to_pixels(element.get(key, "0"), context.viewport, axis) for axis, key in enumerate("xy"))
        size = {key: element.get(key) for key in ("width", "height") if key in element.attrib}
        shift = np.array([[1, 0, x], [0, 1, y], [0, 0, 1.0]])
        inside = replace(context, matrix=context.matrix @ shift, uses=(*context.uses, used), size=size)
        if used.tag in SILENT and used.tag != "symbol":
            self.left_out[f"<use> of <{used.tag}>"] += 1
            return
        self.draw(used, inside)

    def _viewport(self, element: Any, context: _Context) -> _Context:
        """Context inside an `<svg>` or `<symbol>`; the outermost one keeps its user units."""
        if element is self.document.root:
            return context
        outer = context.viewport
        x, y = (to_pixels(element.get(key, "0"), outer, axis) for axis, key in enumerate("xy"))
        stated = {**element.attrib, **context.size}
        lengths = [stated.get(key, "100%").replace("auto", "100%") for key in ("width", "height")]
        box = _view_box(element)
        if outer is None and box is not None and all(length == "100%" for length in lengths):
            outer = box[2], box[3]
        if outer is None and box is None:
            shift = np.array([[1, 0, x], [0, 1, y], [0, 0, 1.0]])
            return replace(context, matrix=context.matrix @ shift, size={})
        width, height = (to_pixels(length, outer, axis) for axis, length in enumerate(lengths))
        if box is None:
            box = (0.0, 0.0, width, height)
        if min(width, height, box[2], box[3]) <= 0.0:
            raise ValueError(f"an inner <{element.tag}> must have a positive size, got {width:g} x {height:g}")
        aspect = element.get("preserveAspectRatio", "xMidYMid meet").strip()
        fitted = svgelements.Viewbox.viewbox_transform(x, y, width, height, box[0], box[1], box[2], box[3], aspect)
        matrix = context.matrix @ transform(fitted)
        return replace(context, matrix=matrix, viewport=(box[2], box[3]), size={})


def _root_viewport(document: Document) -> tuple[float, float] | None:
    root = document.root
    try:
        box = _view_box(root)
        if box is not None:
            return box[2], box[3]
        sizes = [root.get(key, "100%") for key in ("width", "height")]
        if any("%" in size or size == "auto" for size in sizes):
            return None
        return to_pixels(sizes[0], None), to_pixels(sizes[1], None)
    except ValueError as error:
        raise ValueError(f"{document.where(root)}: {error}") from None


def _view_box(element: Any) -> tuple[float, ...] | None:
    if "viewBox" not in element.attrib:
        return None
    box = numbers_of(element.get("viewBox"), "viewBox")
    if len(box) != 4 or min(box[2:]) < 0.0:
        raise ValueError(f"'viewBox' must be four numbers with a positive size, got {element.get('viewBox')!r}")
    return tuple(box)


def _accepted(element: Any) -> bool:
    """True for a child of `<switch>` that needs no extension and no other language."""
    language = element.get("systemLanguage", "en")
    return bool(element.tag) and element.get("requiredExtensions") is None and "en" in language


def _inherited(element: Any, name: str, outer: Mapping[str, str]) -> str:
    value: str = element.get(name, "inherit").strip()
    return {"inherit": outer[name], "unset": outer[name], "initial": INHERITED[name]}.get(value, value)


def _is_transparent(paint: str, colour: str) -> bool:
    paint = colour if paint.lower() == "currentcolor" else paint
    if paint.lower() in ("none", "transparent"):
        return True
    try:
        return svgelements.Color(paint).alpha == 0
    except (ValueError, TypeError, AttributeError, IndexError):
        return False  # a gradient or an unknown name


def _is_zero(length: str) -> bool:
    """True for a width of zero in any unit."""
    return re.fullmatch(r"[+-]?(0+\.?0*|\.0+)([A-Za-z]+|%)?", length.strip()) is not None


def _fraction(text: str) -> float:
    text = text.strip()
    if text in ("inherit", "initial", "unset", ""):
        return 1.0
    numbers = numbers_of(text.removesuffix("%"), "opacity")
    if len(numbers) != 1:
        raise ValueError(f"an opacity must be a number, got {text!r}")
    return max(numbers[0], 0.0)


def _origin(text: str) -> Iterator[str]:
    parts = text.split()
    if len(parts) not in (2, 3) or any(part[-1:] == "%" or part.isalpha() for part in parts):
        raise ValueError(f"'transform-origin' must be two lengths, got {text!r}")
    return iter(parts[:2])

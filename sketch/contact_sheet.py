"""Rendered drawings: SVG files, bitmaps, and contact sheets of several drawings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from sketch import raster
from sketch.data.strokes import LIMIT, Drawings, Polylines, pad, to_polylines
from sketch.raster import Canvas

MARGIN = 0.05
"""Blank border of an SVG, as a fraction of the longest side of the drawing."""

SVG_WIDTH = 3 / 255
"""Line width of an SVG, as a fraction of the longest side of the drawing; that of the drawing page."""

CONTINUED = (210, 84, 27)
"""Colour of the strokes behind a given beginning, as on the drawing page."""

CAPTION_HEIGHT = 14
"""Height of a caption, in pixels."""

LENGTHS = 64
"""Multiple to which the rows of padded drawings are rounded up, so that few programs are compiled."""


def svg(strokes: np.ndarray, *, colour: str = "black", line_width: float | None = None) -> str:
    """Convert a drawing to SVG, one path for each stroke; `sketch.data.svg.parse` reads it back to seven digits.

    Args:
        strokes: `[n, 3]` stroke-3 in any unit; a stroke of one point draws nothing, as in the published bitmaps.
        colour: line colour.
        line_width: line width in the unit of the drawing (default: `SVG_WIDTH` of the longest side).
    """
    lines = to_polylines(np.asarray(strokes, np.float64))
    low, extent = _box(lines)
    side = max(float(extent.max()), 1e-6)
    width = SVG_WIDTH * side if line_width is None else line_width
    border = MARGIN * side + width / 2
    view = " ".join(_digits(x) for x in (*(low - border), *(extent + 2 * border)))
    paths = "".join(f'<path d="{_path(line)}"/>\n' for line in lines)
    style = f'fill="none" stroke="{colour}" stroke-width="{_digits(width)}" stroke-linecap="round"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{view}">\n<g {style} stroke-linejoin="round">\n'
        f"{paths}</g>\n</svg>\n"
    )


def _path(line: np.ndarray) -> str:
    places = [f"{_digits(x)} {_digits(y)}" for x, y in line]
    return "M" + "L".join(places)


def _box(lines: Polylines) -> tuple[np.ndarray, np.ndarray]:
    """Smallest coordinates and extent of all strokes; 0 without strokes."""
    if not lines:
        return np.zeros(2), np.zeros(2)
    points = np.concatenate(lines)
    return points.min(axis=0), points.max(axis=0) - points.min(axis=0)


def _digits(number: float) -> str:
    return f"{number + 0.0:.7g}"  # adding 0 converts -0 to 0


@jax.jit(static_argnames=("canvas", "at_once"))
def _exact(rows: jax.Array, lengths: jax.Array, canvas: Canvas, at_once: int) -> jax.Array:
    return raster.exact(Drawings(rows, lengths), canvas, at_once=at_once)


def bitmaps(
    drawings: Sequence[np.ndarray], canvas: Canvas = raster.CANVAS, *, batch: int = 250, at_once: int = 1
) -> UInt8[np.ndarray, "n side side"]:
    """Render drawings in any unit like the published bitmaps, fitted to the box, white ink 255 on black 0.

    Args:
        drawings: `[n, 3]` stroke-3 arrays; a drawing without points is blank.
        canvas: the image.
        batch: drawings of one call of the compiled program.
        at_once: see `raster.exact`.
    """
    images = [np.zeros((0, canvas.side, canvas.side), np.uint8)]
    for start in range(0, len(drawings), batch):
        part = list(drawings[start : start + batch])
        # The last batch is padded with blank drawings, so that it needs no other program.
        full = part + [np.zeros((0, 3), np.float32)] * (batch - len(part) if start else 0)
        rows, lengths = padded(full)
        ink = np.asarray(_exact(rows, lengths, canvas, at_once))[: len(part)]
        images.append(np.round(255 * ink).astype(np.uint8))
    return np.concatenate(images)


def padded(drawings: Sequence[np.ndarray]) -> Drawings:
    """Pad drawings in any unit, for programs that fit each of them to the box.

    The length is rounded up to a multiple of `LENGTHS`. Drawings that exceed `sketch.data.strokes.LIMIT` are scaled
    down.
    """
    longest = max(1, *map(len, drawings))
    return pad([_small(strokes) for strokes in drawings], -(-longest // LENGTHS) * LENGTHS)


def _small(strokes: np.ndarray) -> np.ndarray:
    """Scale a drawing down until no offset exceeds the limit of a padded array."""
    most = np.abs(strokes[:, :2]).max(initial=0.0)
    return strokes if most <= LIMIT else strokes * np.array([LIMIT / most, LIMIT / most, 1.0], np.float32)


def sheet(
    drawings: Sequence[np.ndarray],
    columns: int = 10,
    captions: Sequence[str] = (),
    *,
    side: int = 112,
    line_width: float = 6.0,
) -> UInt8[np.ndarray, "height width"]:
    """Render drawings on one image, row by row: black ink on white, with a thin line around each.

    Args:
        drawings: stroke-3 arrays in any unit.
        columns: drawings in a row.
        captions: one line below each drawing (default: none).
        side: pixels of one side of each drawing.
        line_width: line width in units of the drawing, whose longest side is 255.

    Raises:
        ValueError: if there are no drawings or columns, or the number of captions differs from that of drawings.
    """
    if not len(drawings) or columns < 1:
        raise ValueError(f"a sheet needs drawings and columns, got {len(drawings)} and {columns}")
    if len(captions) not in (0, len(drawings)):
        raise ValueError(f"a sheet of {len(drawings)} drawings needs that number of captions, got {len(captions)}")
    columns = min(columns, len(drawings))
    height, rows = side + (CAPTION_HEIGHT if len(captions) else 0), -(-len(drawings) // columns)
    image = np.full((rows * (height + 1) + 1, columns * (side + 1) + 1), 255, np.uint8)
    image[:: height + 1], image[:, :: side + 1] = 221, 221
    inks = bitmaps(drawings, Canvas(side=side, line_width=line_width, samples=2))
    corners = [(1 + n // columns * (height + 1), 1 + n % columns * (side + 1)) for n in range(len(drawings))]
    for ink, (top, left) in zip(inks, corners, strict=True):
        image[top : top + side, left : left + side] = 255 - ink
    if not len(captions):
        return image
    picture = Image.fromarray(image)
    font = ImageFont.load_default(10)
    for text, (top, left) in zip(captions, corners, strict=True):
        # Each caption is a separate image, so that a long one is cut off at the border of its drawing.
        strip = Image.new("L", (side, CAPTION_HEIGHT), 255)
        ImageDraw.Draw(strip).text((2, 0), text, fill=0, font=font)
        picture.paste(strip, (left, top + side))
    return np.asarray(picture)


def marked_sheet(
    drawings: Sequence[np.ndarray], prefixes: Sequence[int], columns: int = 10, captions: Sequence[str] = ()
) -> UInt8[np.ndarray, "height width 3"]:
    """Render drawings as `sheet` does, with the strokes behind the first rows of each in the colour `CONTINUED`.

    Args:
        drawings: stroke-3 arrays in any unit.
        prefixes: number of the first rows of each drawing that are black.
        columns: drawings in a row.
        captions: one line below each drawing (default: none).
    """
    whole = sheet(drawings, columns, captions).astype(np.float64)
    firsts = []
    for strokes, prefix in zip(drawings, prefixes, strict=True):
        # Lifting the pen behind the prefix draws it alone, fitted to the box like the whole drawing.
        lifted = np.array(strokes)
        lifted[max(int(prefix) - 1, 0) :, 2] = 1.0
        firsts.append(lifted)
    first = sheet(firsts, columns, captions).astype(np.float64)
    behind = np.clip(first - whole, 0.0, 255.0)[..., None] / 255  # ink that the prefix does not have
    colours = first[..., None] - behind * (255.0 - np.array(CONTINUED))
    return np.round(np.clip(colours, 0.0, 255.0)).astype(np.uint8)


def save_png(path: Path, image: np.ndarray) -> None:
    """Write an image, bytes `[height, width]` (grey) or `[height, width, 3]`, as PNG.

    Raises:
        ValueError: if it has another type or shape.
    """
    image = np.asarray(image)
    if image.dtype != np.uint8 or not (image.ndim == 2 or image.ndim == 3 and image.shape[2] == 3):
        raise ValueError(f"an image must be bytes [height, width] or [.., 3], got {image.dtype} {list(image.shape)}")
    Image.fromarray(image).save(path, format="PNG")

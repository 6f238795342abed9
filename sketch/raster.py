"""Rendering of drawings (traceable): an exact mode for images, and a soft mode with gradients.

The ink of a pixel depends on its distance to the nearest line. The exact mode reproduces Quick, Draw!'s bitmaps, which
cairo rendered, within a few per cent of the pixel range. The soft mode is differentiable with respect to every point.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sketch.data.simplify import SIDE
from sketch.data.strokes import Drawings, real_rows

BOX = 256.0
"""Side of the square box of simplified drawings."""

FAR = 1e9
"""Squared distance, in pixels, of a pixel without any line."""

TINY = 1e-9
"""Squared length, in pixels, below which a line is a point."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Canvas:
    """Square image; the defaults are those of the published bitmaps.

    Attributes:
        side: pixels of one side.
        line_width: line width in units of the drawing, whose longest side is 255.
        padding: border around the drawing, in the same units.
        samples: sub-samples of the exact mode per pixel and axis.
    """

    side: int = 28
    line_width: float = 16.0
    padding: float = 16.0
    samples: int = 4

    def __post_init__(self) -> None:
        """Validate the values.

        Raises:
            ValueError: if a size is not positive.
        """
        for name in ("side", "line_width", "samples"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be greater than 0, got {getattr(self, name)}")
        if self.padding < 0:
            raise ValueError(f"padding must not be negative, got {self.padding}")

    @property
    def margin(self) -> float:
        """Blank border, in units of the drawing."""
        return self.padding + self.line_width / 2

    @property
    def scale(self) -> float:
        """Pixels per unit of the drawing."""
        return self.side / (BOX + 2 * self.margin)


CANVAS = Canvas()
"""Canvas of the published bitmaps."""


class Segments(NamedTuple):
    """Line segments of drawings, in pixels, one for each point.

    Attributes:
        start: `[..., N, 2]`, previous point.
        end: `[..., N, 2]`, point.
        drawn: `[..., N]`, False if the pen was up or the drawing has ended.
        begins: `[..., N]`, True if a stroke starts.
        length: `[...]` int32, rows of the drawing.
    """

    start: jax.Array
    end: jax.Array
    drawn: jax.Array
    begins: jax.Array
    length: jax.Array


def published_places(drawings: Drawings) -> Float[Array, "batch time 2"]:
    """Positions in the box of published simplified drawings, centred by their largest coordinates."""
    places = jnp.cumsum(drawings.rows[..., :2], axis=1)
    real = real_rows(drawings)[..., None]
    return places + (BOX - jnp.max(jnp.where(real, places, -jnp.inf), axis=1, keepdims=True)) / 2


def fitted_places(drawings: Drawings) -> Float[Array, "batch time 2"]:
    """Positions in the box of drawings of any size, centred, with longest side 255.

    A drawing without extent or without rows is a point at the centre.
    """
    places = jnp.cumsum(drawings.rows[..., :2], axis=1)
    real = real_rows(drawings)[..., None]
    low = jnp.min(jnp.where(real, places, jnp.inf), axis=1, keepdims=True)
    high = jnp.max(jnp.where(real, places, -jnp.inf), axis=1, keepdims=True)
    extent = jnp.max(high - low, axis=-1, keepdims=True)
    factor = SIDE / jnp.where(extent > 0, extent, jnp.inf)
    centre = jnp.where(jnp.isfinite(low), (low + high) / 2, 0.0)
    # Half a unit: the published recipe centres 0..255 in 0..256.
    return (places - centre) * factor + BOX / 2


def framed(drawings: Drawings) -> Drawings:
    """Frame drawings: fit them into the box, with longest side 255 and offsets from the centre of the box.

    The first offset gives the start position, so an unfinished drawing can be placed on the canvas.
    """
    places = fitted_places(drawings) - BOX / 2
    offsets = jnp.diff(places, axis=1, prepend=0.0)
    rows = jnp.concatenate([offsets, drawings.rows[..., 2:]], axis=-1)
    return Drawings(jnp.where(real_rows(drawings)[..., None], rows, 0.0), jnp.asarray(drawings.lengths))


def framed_places(drawings: Drawings) -> Float[Array, "batch time 2"]:
    """Positions in the box of framed drawings."""
    return jnp.cumsum(drawings.rows[..., :2], axis=1) + BOX / 2


def segments(drawings: Drawings, canvas: Canvas, places: jax.Array | None = None) -> Segments:
    """Return the line segments of each drawing in pixels, with a leading axis of drawings.

    Args:
        drawings: drawings with pen states and lengths.
        canvas: the image.
        places: `[B, N, 2]` positions in the box, 0 to 256 (default: `fitted_places`).
    """
    places = fitted_places(drawings) if places is None else places
    pixels = (places + canvas.margin) * canvas.scale
    lift = jnp.asarray(drawings.rows)[..., 2] > 0
    begins = jnp.pad(lift[:, :-1], ((0, 0), (1, 0)), constant_values=True)
    start = jnp.pad(pixels[:, :-1], ((0, 0), (1, 0), (0, 0)))
    return Segments(start, pixels, real_rows(drawings) & ~begins, begins, jnp.asarray(drawings.lengths))


def exact(
    drawings: Drawings, canvas: Canvas = CANVAS, *, places: jax.Array | None = None, at_once: int = 1
) -> Float[Array, "batch side side"]:
    """Render the ink of each pixel, 0 to 1, with strokes composited like cairo does; it has no gradient.

    Args:
        drawings: the batch.
        canvas: the image.
        places: see `segments`.
        at_once: drawings that are rendered together; 1 fits the cache of a CPU, accelerators need more.
    """

    def one(lines: Segments) -> jax.Array:
        def add(carry: Any, line: Segments) -> Any:
            bare, distance = carry
            bare = jax.lax.cond(line.begins, lambda: bare * (1.0 - ink(distance, canvas)), lambda: bare)
            return bare, nearer(distance, line, canvas)

        bare, distance = _along(
            add, (jnp.ones((canvas.side, canvas.side), lines.start.dtype), blank_distances(canvas, lines)), lines
        )
        return 1.0 - bare * (1.0 - ink(distance, canvas))

    return _each(one, segments(drawings, canvas, places), at_once)


def stroke_images(
    drawings: Drawings, strokes: int, canvas: Canvas = CANVAS, *, places: jax.Array | None = None, at_once: int = 1
) -> Float[Array, "batch strokes side side"]:
    """Render each stroke alone; strokes beyond the given number are dropped, missing ones are blank.

    `1 - cumprod(1 - images, axis=1)` are the canvases after each stroke.
    """

    def one(lines: Segments) -> jax.Array:
        def add(carry: Any, line: Segments) -> Any:
            images, number, distance = carry
            number, distance = number + line.begins, nearer(distance, line, canvas)
            return images.at[number].set(ink(distance, canvas), mode="drop"), number, distance

        blank = jnp.zeros((strokes, canvas.side, canvas.side), lines.start.dtype)
        return _along(add, (blank, jnp.int32(-1), blank_distances(canvas, lines)), lines)[0]

    return _each(one, segments(drawings, canvas, places), at_once)


def _each(paint: Callable[[Segments], jax.Array], lines: Segments, at_once: int) -> jax.Array:
    return jax.lax.map(paint, lines) if at_once == 1 else jax.lax.map(paint, lines, batch_size=at_once)


def _along(add: Callable[[Any, Segments], Any], start: Any, lines: Segments) -> Any:
    """Fold a function over the line segments of one drawing."""

    def step(number: jax.Array, carry: Any) -> Any:
        return add(carry, jax.tree.map(lambda leaf: leaf[number] if leaf.ndim else leaf, lines))

    return jax.lax.fori_loop(0, lines.length, step, start)


def blank_distances(canvas: Canvas, lines: Segments) -> jax.Array:
    """Squared distances `[samples, samples, side, side]` of all sub-samples to a stroke without lines."""
    return jnp.full((canvas.samples, canvas.samples, canvas.side, canvas.side), FAR, lines.start.dtype)


def nearer(distance: jax.Array, line: Segments, canvas: Canvas) -> jax.Array:
    """Update squared distances to a stroke by one more line; a stroke that starts here resets them."""
    to_line = jnp.where(line.drawn, _distance(line, canvas), FAR)
    return jnp.minimum(jnp.where(line.begins, FAR, distance), to_line)


def _distance(line: Segments, canvas: Canvas) -> jax.Array:
    """Squared distances `[samples, samples, side, side]` of all sub-samples to one line."""
    offset = (jnp.arange(canvas.samples, dtype=line.start.dtype) + 0.5) / canvas.samples
    fine = offset[:, None] + jnp.arange(canvas.side, dtype=offset.dtype)
    x, y = fine[None, :, None, :] - line.start[0], fine[:, None, :, None] - line.start[1]
    across = line.end - line.start
    inverse = 1.0 / jnp.maximum(jnp.sum(across**2), TINY)
    along = jnp.clip(x * (across[0] * inverse) + y * (across[1] * inverse), 0.0, 1.0)
    return (x - along * across[0]) ** 2 + (y - along * across[1]) ** 2


def ink(distance: jax.Array, canvas: Canvas) -> jax.Array:
    """Coverage of each pixel `[side, side]`, from the squared distances of its sub-samples to the lines."""
    half = canvas.line_width * canvas.scale / 2
    cover = jnp.clip(0.5 + (half - jnp.sqrt(distance)) * canvas.samples, 0.0, 1.0)
    return jnp.mean(cover, axis=(0, 1))


def soft(
    drawings: Drawings,
    canvas: Canvas = CANVAS,
    *,
    softness: float = 0.5,
    places: jax.Array | None = None,
    at_once: int = 1,
) -> Float[Array, "batch side side"]:
    """Render the ink of each pixel as a smooth function of the points, `sigmoid((w / 2 - distance) / softness)`.

    Pen states and lengths have no gradient.

    Args:
        drawings: the batch.
        canvas: the image; sub-samples are not used.
        softness: transition width in pixels; smaller values are closer to the exact mode and shorten the gradient.
        places: see `segments`; they have a gradient too.
    """
    lines = segments(drawings, canvas, places)
    half = canvas.line_width * canvas.scale / 2
    # The search has no gradient. The distance to the nearest line has the gradient of the minimum, and only the index
    # of that line is stored for the backward pass.
    nearest = _each(lambda one: _nearest(one, canvas), jax.lax.stop_gradient(lines), at_once)

    def one(lines: Segments, nearest: jax.Array) -> jax.Array:
        start, across = lines.start[nearest], (lines.end - lines.start)[nearest]
        pixel = jnp.arange(canvas.side, dtype=start.dtype) + 0.5
        place = jnp.stack(jnp.broadcast_arrays(pixel[None, :], pixel[:, None]), axis=-1) - start
        along = jnp.sum(place * across, axis=-1) / jnp.maximum(jnp.sum(across**2, axis=-1), TINY)
        away = place - jnp.clip(along, 0.0, 1.0)[..., None] * across
        # The square root has no gradient at 0, so pixel centres on a line get a tiny distance.
        distance = jnp.sqrt(jnp.sum(away**2, axis=-1) + 1e-12)
        return jnp.where(lines.drawn[nearest], jax.nn.sigmoid((half - distance) / softness), 0.0)

    return jax.vmap(one)(lines, nearest)


def _nearest(lines: Segments, canvas: Canvas) -> jax.Array:
    """Index `[side, side]` of the line nearest to each pixel centre; 0, which is never drawn, if there is none."""
    centres = dataclasses.replace(canvas, samples=1)

    def add(carry: Any, line: Segments) -> Any:
        number, least, best = carry
        distance = jnp.where(line.drawn, _distance(line, centres)[0, 0], FAR)
        return number + 1, jnp.minimum(least, distance), jnp.where(distance < least, number, best)

    start = jnp.int32(0), blank_distances(centres, lines)[0, 0], jnp.zeros((canvas.side, canvas.side), jnp.int32)
    return _along(add, start, lines)[2]

"""Training examples of a predictor: a canvas and the next stroke, computed from framed drawings (traceable)."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from sketch import raster
from sketch.data.strokes import Drawings, real_rows, stroke_count, stroke_numbers
from sketch.raster import BOX, Canvas

LINE_WIDTH = 8.0
"""Line width of network inputs, in units of the box; thin enough for eyes and whiskers at 64 pixels."""


class NextStroke(NamedTuple):
    """A canvas and its next stroke; fields of the next stroke are 0 if the drawing has ended.

    Attributes:
        canvas: ink of all previous strokes.
        last: ink of the last stroke, blank before the first.
        next: ink of the next stroke.
        start: grid cell in which the next stroke starts; the grid has half the side of the image.
        end: grid cell in which the next stroke ends.
        box: centre and size of its bounding box, as fractions of the image.
        log_length: logarithm of one plus its length in pixels.
        over: True if no stroke follows.
    """

    canvas: Float[Array, "batch side side"]
    last: Float[Array, "batch side side"]
    next: Float[Array, "batch side side"]
    start: Int[Array, " batch"]
    end: Int[Array, " batch"]
    box: Float[Array, "batch 4"]
    log_length: Float[Array, " batch"]
    over: Bool[Array, " batch"]


def view(side: int) -> Canvas:
    """Canvas on which networks see drawings."""
    return Canvas(side=side, line_width=LINE_WIDTH, samples=1)


def canvases(images: Float[Array, "batch strokes side side"]) -> Float[Array, "batch steps side side"]:
    """Canvas before the first stroke and after each stroke, from images of single strokes."""
    after = 1.0 - jnp.cumprod(1.0 - images, axis=1)
    return jnp.concatenate([jnp.zeros_like(after[:, :1]), after], axis=1)


def example_at(drawings: Drawings, finished: Int[Array, " batch"], side: int, strokes: int) -> NextStroke:
    """Return the example of each drawing after a given number of finished strokes.

    Args:
        drawings: framed.
        finished: number of finished strokes of each drawing.
        side: pixels of one side of the images.
        strokes: largest number of strokes that are rendered; an upper bound of `finished`.
    """
    places = raster.framed_places(drawings)
    images = raster.stroke_images(drawings, strokes, view(side), places=places)
    picked = jnp.arange(len(finished))
    blank = jnp.zeros_like(images[:, :1])
    padded = jnp.concatenate([blank, images, blank], axis=1)
    over = finished >= jnp.minimum(stroke_count(drawings), strokes)
    of_next = real_rows(drawings) & (stroke_numbers(drawings) == finished[:, None]) & ~over[:, None]
    shares = places / BOX
    first = shares[picked, jnp.argmax(of_next, axis=1)]
    last = shares[picked, of_next.shape[1] - 1 - jnp.argmax(of_next[:, ::-1], axis=1)]
    low = jnp.min(jnp.where(of_next[..., None], shares, jnp.inf), axis=1)
    high = jnp.max(jnp.where(of_next[..., None], shares, -jnp.inf), axis=1)
    steps = jnp.linalg.norm(jnp.diff(places, axis=1, prepend=places[:, :1]), axis=-1)
    inside = of_next & jnp.pad(of_next[:, :-1], ((0, 0), (1, 0)))
    length = jnp.sum(jnp.where(inside, steps, 0.0), axis=1) * side / BOX

    def masked(value: jax.Array) -> jax.Array:
        return jnp.where(over.reshape(-1, *[1] * (value.ndim - 1)), 0, value)

    return NextStroke(
        canvases(images)[picked, finished],
        padded[picked, finished],
        masked(padded[picked, finished + 1]),
        masked(cell(first, side // 2)),
        masked(cell(last, side // 2)),
        masked(jnp.concatenate([(low + high) / 2, high - low], axis=-1)),
        masked(jnp.log1p(length)),
        over,
    )


def cell(share: Float[Array, "*batch 2"], grid: int) -> Int[Array, "*batch"]:
    """Row-major index of the grid cell of a position; outside positions are clipped to the border."""
    place = jnp.clip((share * grid).astype(jnp.int32), 0, grid - 1)
    return place[..., 1] * grid + place[..., 0]


def sample_examples(key: jax.Array, drawings: Drawings, side: int, strokes: int) -> NextStroke:
    """Sample one example of each drawing, uniformly over its strokes and its end."""
    count = jnp.minimum(stroke_count(drawings), strokes)
    finished = jnp.floor(jax.random.uniform(key, count.shape) * (count + 1)).astype(jnp.int32)
    return example_at(drawings, jnp.minimum(finished, count), side, strokes)

"""Moments of drawing: what is on the canvas, and what stroke comes next. Made from framed drawings inside a program."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from sketch import raster
from sketch.data.strokes import Drawings, real_rows
from sketch.raster import BOX, Canvas

LINE_WIDTH = 8.0
"""Of the images that networks look at, in units of the box: fine enough for eyes and whiskers at 64 pixels."""


class Moment(NamedTuple):
    """A canvas and the stroke that comes next; what belongs to a next stroke is 0 where the drawing is over.

    Attributes:
        canvas: ink so far.
        last: ink of the last stroke, blank at the beginning.
        next: ink of the next stroke.
        start: cell of a grid of half the side, in which the next stroke begins.
        end: the cell in which it ends.
        box: centre and size of its bounding box, as shares of the image.
        log_length: logarithm of one plus its length in pixels.
        over: whether there is none.
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
    """How networks look at drawings."""
    return Canvas(side=side, line_width=LINE_WIDTH, samples=1)


def stroke_numbers(drawings: Drawings) -> Int[Array, "batch time"]:
    """Strokes finished before each row."""
    lifted = jnp.asarray(drawings.rows)[..., 2] > 0
    return jnp.pad(jnp.cumsum(lifted, axis=1, dtype=jnp.int32)[:, :-1], ((0, 0), (1, 0)))


def stroke_count(drawings: Drawings) -> Int[Array, " batch"]:
    """Strokes of each drawing; the last one counts whether or not the pen is lifted after it."""
    numbers = jnp.where(real_rows(drawings), stroke_numbers(drawings), -1)
    return jnp.max(numbers, axis=1) + 1


def canvases(images: Float[Array, "batch strokes side side"]) -> Float[Array, "batch steps side side"]:
    """The canvas before the first stroke and after each, from the images of single strokes."""
    after = 1.0 - jnp.cumprod(1.0 - images, axis=1)
    return jnp.concatenate([jnp.zeros_like(after[:, :1]), after], axis=1)


def at(drawings: Drawings, finished: Int[Array, " batch"], side: int, strokes: int) -> Moment:
    """The moment of each drawing at which so many strokes are finished.

    Args:
        drawings: framed.
        finished: of each drawing.
        side: of the images.
        strokes: most strokes of a drawing that are looked at; `finished` must not be more.
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

    def known(value: jax.Array) -> jax.Array:
        return jnp.where(over.reshape(-1, *[1] * (value.ndim - 1)), 0, value)

    return Moment(
        canvases(images)[picked, finished],
        padded[picked, finished],
        known(padded[picked, finished + 1]),
        known(cell(first, side // 2)),
        known(cell(last, side // 2)),
        known(jnp.concatenate([(low + high) / 2, high - low], axis=-1)),
        known(jnp.log1p(length)),
        over,
    )


def cell(share: Float[Array, "*batch 2"], grid: int) -> Int[Array, "*batch"]:
    """Number of the cell, row by row, in which a position lies; positions outside go to the border."""
    place = jnp.clip((share * grid).astype(jnp.int32), 0, grid - 1)
    return place[..., 1] * grid + place[..., 0]


def anywhere(key: jax.Array, drawings: Drawings, side: int, strokes: int) -> Moment:
    """A moment of each drawing, all its moments being equally likely, the one at which it is over among them."""
    count = jnp.minimum(stroke_count(drawings), strokes)
    finished = jnp.floor(jax.random.uniform(key, count.shape) * (count + 1)).astype(jnp.int32)
    return at(drawings, jnp.minimum(finished, count), side, strokes)

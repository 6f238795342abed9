"""Candidates for the next stroke of drawings, and which of them is kept."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jsafe.config import Hyper, hyperparameters, option
from sketch.models.rnn_cells import Carry


@hyperparameters
class Inspection(Hyper):
    """How the next stroke is chosen among candidates."""

    candidates: int = option("strokes that are drawn for each one kept", default=8, low=1)
    ink: float = option("weight of a pixel's mean log-likelihood under the predicted ink", default=10.0, low=0)
    start: float = option("weight of the log-probability of the cell where it begins", default=1.0, low=0)
    likelihood: float = option("weight of a row's mean log-likelihood under the decoder", default=1.0, low=0)
    temperature: float = option("of the choice; 0 takes the best", default=0.0, low=0)
    points: int = option("rows after which a stroke is looked at before it is finished", default=48, low=1)


class Pen(NamedTuple):
    """What draws a stroke; the axes in front are lanes and candidates.

    Attributes:
        carry: state of the decoder.
        row: `[..., 5]`, the last row.
        place: `[..., 2]` from the centre of the box, in its units.
        fresh: `[...]`, whether the next row begins a stroke.
        distance: `[..., side, side]` squared distances of pixels to the stroke.
    """

    carry: Carry
    row: jax.Array
    place: jax.Array
    fresh: jax.Array
    distance: jax.Array


class Tries(NamedTuple):
    """Candidates for what comes next in each lane: a stroke, the rest of one, or the end.

    Attributes:
        pen: of each.
        rows: `[L, n, points, 5]`.
        length: `[L, n]` of the rows.
        cell: `[L, n]`, in which a stroke begins; -1 where it had begun before.
        total: `[L, n]` log-likelihood of the rows.
        done: `[L, n]`, whether the pen has stopped.
    """

    pen: Pen
    rows: jax.Array
    length: jax.Array
    cell: jax.Array
    total: jax.Array
    done: jax.Array


class Lanes(NamedTuple):
    """The drawings in work.

    Attributes:
        drawing: `[L]`, which; as many as there are drawings, or more, where there is nothing left to do.
        count: `[L]` rows that are kept.
        choices: `[L]` that were made.
        finished: `[L]` strokes.
        total: `[L]` log-likelihood of the kept rows.
        bare: `[L, side, side]`, 1 - ink of the canvas.
        last: `[L, side, side]` ink of the last stroke.
        embedding: `[L, embedding]`, what the predictor tells.
        ink: `[L, side, side]` log-odds of the next stroke's ink.
        start: `[L, cells]` log-probability of the cell where it begins.
    """

    drawing: jax.Array
    count: jax.Array
    choices: jax.Array
    finished: jax.Array
    total: jax.Array
    bare: jax.Array
    last: jax.Array
    embedding: jax.Array
    ink: jax.Array
    start: jax.Array


def choice(how: Inspection, key: jax.Array, lanes: Lanes, tries: Tries, images: jax.Array) -> jax.Array:
    """Number of the candidate to keep, `[L]`; see `scores`."""
    if how.candidates == 1:
        return jnp.zeros(len(lanes.count), jnp.int32)
    ends = tries.rows[:, :, 0, 4] > 0
    score = jnp.where(ends, -jnp.inf, scores(how, lanes, tries, images))
    keys = jax.vmap(lambda *numbers: folded(key, *numbers))(lanes.drawing, lanes.choices)
    noise = jax.vmap(lambda key: jax.random.gumbel(key, score.shape[1:]))(keys)
    best = jnp.argmax(score + how.temperature * noise, axis=1)
    return jnp.where(ends[:, 0], 0, best).astype(jnp.int32)


def scores(how: Inspection, lanes: Lanes, tries: Tries, images: jax.Array) -> Float[Array, "lanes candidates"]:
    """How well each candidate fits, the more the better.

    Args:
        how: weights.
        lanes: with what the predictor says.
        tries: the candidates.
        images: `[L, n, side, side]` ink of each one's stroke.
    """
    ink, bare = (jax.nn.log_sigmoid(sign * lanes.ink)[:, None] for sign in (1.0, -1.0))
    fit = jnp.mean(images * ink + (1.0 - images) * bare, axis=(2, 3))
    begins = jnp.take_along_axis(lanes.start, jnp.maximum(tries.cell, 0), axis=1)
    begins = jnp.where(tries.cell >= 0, begins, 0.0)
    likely = tries.total / jnp.maximum(tries.length, 1)
    return how.ink * fit + how.start * begins + how.likelihood * likely


def folded(key: jax.Array, *numbers: jax.Array) -> jax.Array:
    """A key of its own for each combination of numbers."""
    for number in numbers:
        key = jax.random.fold_in(key, number)
    return key


def where(wanted: jax.Array, first: Any, second: Any) -> Any:
    """One of two trees for each entry of the leading axes."""
    return jax.tree.map(
        lambda a, b: jnp.where(wanted.reshape(*wanted.shape, *[1] * (a.ndim - wanted.ndim)), a, b), first, second
    )

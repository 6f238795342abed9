"""Candidates for the next stroke of each drawing, and the choice among them."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sketch.models.rnn_cells import Carry
from sketch.sampling.candidate_config import CandidateConfig


class PenState(NamedTuple):
    """State of a pen; the leading axes are lanes and candidates.

    Attributes:
        carry: state of the decoder.
        row: `[..., 5]`, the last row.
        place: `[..., 2]` from the centre of the box, in its units.
        fresh: `[...]`, True if the next row starts a stroke.
        distance: `[..., side, side]` squared distances of pixels to the stroke.
    """

    carry: Carry
    row: jax.Array
    place: jax.Array
    fresh: jax.Array
    distance: jax.Array


class Candidates(NamedTuple):
    """Candidates for the next stroke of each lane: a stroke, the rest of one, or the end.

    Attributes:
        pen: pen of each candidate.
        rows: `[L, n, points, 5]`.
        length: `[L, n]` number of rows.
        cell: `[L, n]` cell in which a stroke starts; -1 for the rest of a stroke.
        total: `[L, n]` log likelihood of the rows.
        done: `[L, n]`, True if the pen has stopped.
    """

    pen: PenState
    rows: jax.Array
    length: jax.Array
    cell: jax.Array
    total: jax.Array
    done: jax.Array


class SamplerLanes(NamedTuple):
    """Drawings in progress, one in each lane.

    Attributes:
        drawing: `[L]` index of the drawing; at least the number of drawings for an idle lane.
        count: `[L]` number of rows.
        choices: `[L]` number of choices so far.
        finished: `[L]` number of finished strokes.
        total: `[L]` log likelihood of the rows.
        bare: `[L, side, side]`, 1 - ink of the canvas.
        last: `[L, side, side]` ink of the last stroke.
        embedding: `[L, embedding]` embedding of the canvas.
        ink: `[L, side, side]` log odds of the next stroke's ink.
        start: `[L, cells]` log probability of the cell in which the next stroke starts.
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


def choose_candidate(
    config: CandidateConfig, key: jax.Array, lanes: SamplerLanes, candidates: Candidates, images: jax.Array
) -> jax.Array:
    """Return the index `[L]` of the chosen candidate; see `candidate_scores`.

    The first candidate decides whether a drawing ends, so that the choice does not change lengths.
    """
    if config.candidates == 1:
        return jnp.zeros(len(lanes.count), jnp.int32)
    ends = candidates.rows[:, :, 0, 4] > 0
    score = jnp.where(ends, -jnp.inf, candidate_scores(config, lanes, candidates, images))
    keys = jax.vmap(lambda *numbers: fold_in_all(key, *numbers))(lanes.drawing, lanes.choices)
    noise = jax.vmap(lambda key: jax.random.gumbel(key, score.shape[1:]))(keys)
    best = jnp.argmax(score + config.temperature * noise, axis=1)
    return jnp.where(ends[:, 0], 0, best).astype(jnp.int32)


def candidate_scores(
    config: CandidateConfig, lanes: SamplerLanes, candidates: Candidates, images: jax.Array
) -> Float[Array, "lanes candidates"]:
    """Return the score of each candidate; higher is better.

    Args:
        config: weights of the parts of the score.
        lanes: lanes with the predictions for their canvases.
        candidates: the candidates.
        images: `[L, n, side, side]` ink of each candidate.
    """
    ink, bare = (jax.nn.log_sigmoid(sign * lanes.ink)[:, None] for sign in (1.0, -1.0))
    fit = jnp.mean(images * ink + (1.0 - images) * bare, axis=(2, 3))
    start = jnp.take_along_axis(lanes.start, jnp.maximum(candidates.cell, 0), axis=1)
    start = jnp.where(candidates.cell >= 0, start, 0.0)
    likelihood = candidates.total / jnp.maximum(candidates.length, 1)
    return config.ink * fit + config.start * start + config.likelihood * likelihood


def fold_in_all(key: jax.Array, *numbers: jax.Array) -> jax.Array:
    """Return an independent key for each combination of numbers."""
    for number in numbers:
        key = jax.random.fold_in(key, number)
    return key


def select(condition: jax.Array, first: Any, second: Any) -> Any:
    """Select between two trees for each entry of the leading axes."""
    return jax.tree.map(
        lambda a, b: jnp.where(condition.reshape(*condition.shape, *[1] * (a.ndim - condition.ndim)), a, b),
        first,
        second,
    )

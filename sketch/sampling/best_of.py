"""Best-of-n sampling: keep the drawing with the highest score."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from sketch.data.strokes import Drawings, batch_from_stroke5
from sketch.sampling.sample import Samples
from sketch.sampling.stroke_candidates import select


class BestOfN(NamedTuple):
    """The best of several samples of each drawing.

    Attributes:
        samples: the best samples.
        score: `[B]` their scores.
        mean_score: `[B]` mean score of all samples.
        accepted: `[B]` fraction of the samples with a score above 0.
        first_rank: `[B]` int32, number of samples with a higher score than the first.
    """

    samples: Samples
    score: jax.Array
    mean_score: jax.Array
    accepted: jax.Array
    first_rank: jax.Array


def best_of(
    score: Callable[[Drawings], jax.Array], draw: Callable[[jax.Array], Samples], n: int
) -> Callable[[jax.Array], BestOfN]:
    """Return a sampler that draws everything n times and keeps the best samples.

    Args:
        score: logits `[B]` of drawings in the unit of the decoder; above 0 is accepted.
        draw: sampler from a typed PRNG key.
        n: number of samples of each drawing.

    Raises:
        ValueError: if n is below 1.
    """
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}")

    def draw_best(key: jax.Array) -> BestOfN:
        def one(key: jax.Array) -> tuple[Samples, jax.Array]:
            samples = draw(key)
            return samples, score(batch_from_stroke5(samples.rows))

        def next_sample(best: tuple[Samples, jax.Array], key: jax.Array) -> Any:
            samples, scores = one(key)
            return select(scores > best[1], (samples, scores), best), scores

        keys = jax.random.split(key, n)
        first = one(keys[0])
        (samples, best), others = jax.lax.scan(next_sample, first, keys[1:])
        scores = jnp.concatenate([first[1][None], others])
        rank = jnp.sum(scores > first[1], axis=0, dtype=jnp.int32)
        return BestOfN(samples, best, jnp.mean(scores, axis=0), jnp.mean(scores > 0, axis=0), rank)

    return draw_best

"""Mean and deviation of the scores a reward or cost model gives, and what is subtracted and divided by them.

The statistics are recorded in training whether or not they are used, and travel with the model.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

EPSILON = 1e-8


class ScoreStatistics(NamedTuple):
    """What is known of the scores at the ends of texts; S scores each.

    Attributes:
        mean: `[S]`.
        variance: `[S]`.
        count: `[]` int32, texts seen.
    """

    mean: jax.Array
    variance: jax.Array
    count: jax.Array


def nothing(size: int = 1) -> ScoreStatistics:
    """Mean 0, variance 1, of no text."""
    return ScoreStatistics(jnp.zeros(size), jnp.ones(size), jnp.zeros((), jnp.int32))


def moving(state: ScoreStatistics, scores: jax.Array, momentum: float) -> ScoreStatistics:
    """Move towards the mean and the unbiased variance of a batch `[B, S]` of at least two."""
    mean, variance, number = _of(scores)
    return ScoreStatistics(
        momentum * state.mean + (1.0 - momentum) * mean,
        momentum * state.variance + (1.0 - momentum) * variance,
        state.count + number,
    )


def merged(state: ScoreStatistics, scores: jax.Array) -> ScoreStatistics:
    """Merge with a batch `[B, S]` of at least two (Chan, Golub and LeVeque 1979)."""
    mean, variance, number = _of(scores)
    total = state.count + number
    delta = mean - state.mean
    spread = state.variance * state.count + variance * number + jnp.square(delta) * state.count * number / total
    return ScoreStatistics(state.mean + delta * number / total, spread / total, total)


def normalized(scores: jax.Array, state: ScoreStatistics, kind: str) -> jax.Array:
    """Scores `[..., S]` in units of their deviation.

    Args:
        scores: to normalise.
        state: statistics.
        kind: `"reward"` subtracts the mean too; `"cost"` does not, because its sign is the verdict; `"critic"` leaves
            scores as they are.

    Raises:
        ValueError: for another kind.
    """
    if kind not in ("reward", "cost", "critic"):
        raise ValueError(f"kind must be 'reward', 'cost' or 'critic', got {kind!r}")
    if kind == "critic":
        return scores
    centered = scores - state.mean if kind == "reward" else scores
    return centered / (jnp.sqrt(state.variance) + EPSILON)


def _of(scores: jax.Array) -> tuple[jax.Array, jax.Array, int]:
    return jnp.mean(scores, axis=0), jnp.var(scores, axis=0, ddof=1), scores.shape[0]

"""Running mean and variance of the scores of a reward or cost model, and normalisation with them.

The statistics are recorded in every training and saved with the model.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

EPSILON = 1e-8


class ScoreStatistics(NamedTuple):
    """Statistics of the scores at the ends of texts, with S scores each.

    Attributes:
        mean: `[S]`.
        variance: `[S]`.
        count: `[]` int32, number of texts.
    """

    mean: jax.Array
    variance: jax.Array
    count: jax.Array


def init(size: int = 1) -> ScoreStatistics:
    """Return initial statistics: mean 0, variance 1, count 0."""
    return ScoreStatistics(jnp.zeros(size), jnp.ones(size), jnp.zeros((), jnp.int32))


def moving(state: ScoreStatistics, scores: jax.Array, momentum: float) -> ScoreStatistics:
    """Update the moving statistics with the mean and the unbiased variance of a batch `[B, S]` of at least two."""
    mean, variance, number = _of(scores)
    return ScoreStatistics(
        momentum * state.mean + (1.0 - momentum) * mean,
        momentum * state.variance + (1.0 - momentum) * variance,
        state.count + number,
    )


def merged(state: ScoreStatistics, scores: jax.Array) -> ScoreStatistics:
    """Merge the statistics with a batch `[B, S]` of at least two (Chan, Golub and LeVeque 1979)."""
    mean, variance, number = _of(scores)
    total = state.count + number
    delta = mean - state.mean
    spread = state.variance * state.count + variance * number + jnp.square(delta) * state.count * number / total
    return ScoreStatistics(state.mean + delta * number / total, spread / total, total)


def normalized(scores: jax.Array, state: ScoreStatistics, kind: str) -> jax.Array:
    """Return scores `[..., S]` in units of their standard deviation.

    Args:
        scores: scores to normalise.
        state: statistics.
        kind: `"reward"` also subtracts the mean; `"cost"` does not, because its sign is the verdict; `"critic"` returns
            the scores unchanged.

    Raises:
        ValueError: another kind.
    """
    if kind not in ("reward", "cost", "critic"):
        raise ValueError(f"kind must be 'reward', 'cost' or 'critic', got {kind!r}")
    if kind == "critic":
        return scores
    centered = scores - state.mean if kind == "reward" else scores
    return centered / (jnp.sqrt(state.variance) + EPSILON)


def _of(scores: jax.Array) -> tuple[jax.Array, jax.Array, int]:
    return jnp.mean(scores, axis=0), jnp.var(scores, axis=0, ddof=1), scores.shape[0]

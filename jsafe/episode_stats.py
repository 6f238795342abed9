"""Running statistics of recently finished episodes.

A multiplier follows the mean cost of an episode, and everything printed about a run is such a mean. An episode whose
return or cost is not finite is left out: one of them in a window would hide a cost from its limit until it drops out
of the window. The steps that it spoiled are dropped and counted by the updates.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import struct


@struct.dataclass
class EpisodeSums:
    """Sums over the running episode of each environment after each step; every leaf starts with `[T, N]`.

    Attributes:
        done: bool, the episode ended at this step.
        returns: rewards (`State.original_reward`) of the episode up to and including this step.
        cost: `[T, N, C]`, the same for `State.cost`.
        lengths: int32, steps of the episode up to and including this one.
    """

    done: jax.Array
    returns: jax.Array
    cost: jax.Array
    lengths: jax.Array


@struct.dataclass
class EpisodeWindow:
    """The most recent finished episodes, as a ring buffer of `W` entries.

    Attributes:
        returns: `[W]`, undiscounted sums of rewards.
        cost: `[W, C]`, undiscounted sums of `State.cost`.
        lengths: `[W]`, in steps.
        count: `[]` int32, episodes finished so far; the next one is written at `count % W`.
    """

    returns: jax.Array
    cost: jax.Array
    lengths: jax.Array
    count: jax.Array


def empty(size: int, num_costs: int) -> EpisodeWindow:
    """An empty window of `size` entries."""
    zeros = jnp.zeros(size, jnp.float32)
    return EpisodeWindow(
        returns=zeros,
        cost=jnp.zeros((size, num_costs), jnp.float32),
        lengths=zeros,
        count=jnp.zeros((), jnp.int32),
    )


def _counted(sums: EpisodeSums) -> jax.Array:
    """Mask of the steps at which an episode with finite sums finished, in the shape of `done`."""
    finite = jnp.isfinite(sums.returns) & jnp.all(jnp.isfinite(sums.cost), axis=-1)
    return sums.done & finite


def remember(window: EpisodeWindow, sums: EpisodeSums) -> EpisodeWindow:
    """Write the episodes that finished in `sums` into the window, the earliest first."""
    size = window.returns.shape[0]
    done = _counted(sums).reshape(-1)
    rank = jnp.cumsum(done, dtype=jnp.int32) - 1
    finished = jnp.sum(done, dtype=jnp.int32)
    written = done & (rank >= finished - size)
    slot = jnp.where(written, (window.count + rank) % size, size)

    def write(buffer: jax.Array, values: jax.Array) -> jax.Array:
        flat = values.reshape(-1, *buffer.shape[1:]).astype(buffer.dtype)
        return buffer.at[slot].set(flat, mode="drop")

    return EpisodeWindow(
        returns=write(window.returns, sums.returns),
        cost=write(window.cost, sums.cost),
        lengths=write(window.lengths, sums.lengths),
        count=window.count + finished,
    )


def means(window: EpisodeWindow, sums: EpisodeSums) -> dict[str, jax.Array]:
    """Mean return, cost and length of recent episodes.

    The mean is over the window, or over every episode of these steps when they finished more than the window
    holds: with thousands of environments a fixed window would see only the last few steps.

    Returns:
        `return` and `length`: `[]`, and `cost`: `[C]`, NaN while no episode has ever finished; `episodes`: `[]` int32,
        finished in these steps, those with sums that are not finite included.
    """
    size = window.returns.shape[0]
    done = _counted(sums)
    finished = jnp.sum(done, dtype=jnp.int32)
    filled = jnp.minimum(window.count, size)
    valid = jnp.arange(size) < filled

    def total(values: jax.Array, counted: jax.Array) -> jax.Array:
        axes = tuple(range(counted.ndim))
        mask = counted.reshape(*counted.shape, *(1,) * (values.ndim - counted.ndim))
        return jnp.sum(jnp.where(mask, values, 0).astype(jnp.float32), axis=axes)

    def mean(values: jax.Array, recent: jax.Array) -> jax.Array:
        return jnp.where(finished > size, total(recent, done) / finished, total(values, valid) / filled)

    return {
        "return": mean(window.returns, sums.returns),
        "cost": mean(window.cost, sums.cost),
        "length": mean(window.lengths, sums.lengths),
        "episodes": jnp.sum(sums.done, dtype=jnp.int32),
    }


def running_mean_costs(before: EpisodeWindow, sums: EpisodeSums) -> jax.Array:
    """Average `[C]`, over the episodes of an iteration, of the window's mean when each had just finished.

    This smooths twice, and lags behind `means`.

    Args:
        before: the window before these steps.
        sums: sums over the steps of the iteration.

    Returns:
        NaN where no episode finished in the iteration.
    """
    size = before.returns.shape[0]
    done = _counted(sums).reshape(-1)
    finished = jnp.sum(done, dtype=jnp.int32)
    recent = sums.cost.reshape(done.shape[0], -1).astype(jnp.float32)
    rank = jnp.where(done, jnp.cumsum(done) - 1, done.shape[0])
    in_order = jnp.zeros_like(recent).at[rank].set(recent, mode="drop")
    filled = jnp.minimum(before.count, size)
    oldest_first = before.cost[(before.count - size + jnp.arange(size)) % size]
    oldest_first = jnp.where((jnp.arange(size) >= size - filled)[:, None], oldest_first, 0.0)
    total = jnp.cumsum(jnp.concatenate([jnp.zeros_like(recent[:1]), oldest_first, in_order]), axis=0)
    number = jnp.arange(done.shape[0])
    means = (total[size + 1 :] - total[1 : done.shape[0] + 1]) / jnp.minimum(filled + number + 1, size)[:, None]
    return jnp.sum(jnp.where((number < finished)[:, None], means, 0.0), axis=0) / finished

"""The episodes that finished lately: how they are remembered, and their means.

A multiplier follows the mean cost of an episode, and everything printed about a run is such a mean. An episode whose
return or cost is not a finite number is left out: one of them in a window would hide a cost from its limit for as long
as it stays there. The steps that it spoiled are dropped and counted by the updates.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

Finished = Any
"""`jsafe.rollout.Transition`, of which the sums over the episode and `done` are read."""


@struct.dataclass
class EpisodeWindow:
    """The most recent finished episodes, as a ring buffer of `W` entries.

    Attributes:
        returns: `[W]`, undiscounted sums of rewards.
        costs: `[W]`, undiscounted sums of `State.cost_sum`.
        each_cost: `[W, num_costs]`, undiscounted sums of `State.cost`.
        lengths: `[W]`, in steps.
        count: `[]` int32, episodes finished so far; the next one is written at `count % W`.
    """

    returns: jax.Array
    costs: jax.Array
    each_cost: jax.Array
    lengths: jax.Array
    count: jax.Array


def empty(size: int, num_costs: int) -> EpisodeWindow:
    """A window of `size` entries in which no episode stands yet."""
    nothing = jnp.zeros(size, jnp.float32)
    return EpisodeWindow(
        returns=nothing,
        costs=nothing,
        each_cost=jnp.zeros((size, num_costs), jnp.float32),
        lengths=nothing,
        count=jnp.zeros((), jnp.int32),
    )


def _counted(transitions: Finished) -> jax.Array:
    """Where an episode finished whose sums are finite, in the shape of `done`."""
    whole = jnp.isfinite(transitions.episode_return) & jnp.isfinite(transitions.episode_cost)
    return transitions.done & whole & jnp.all(jnp.isfinite(transitions.episode_costs), axis=-1)


def remember(window: EpisodeWindow, transitions: Finished) -> EpisodeWindow:
    """Write the episodes that finished in `transitions` into the window, the earliest first."""
    size = window.costs.shape[0]
    done = _counted(transitions).reshape(-1)
    rank = jnp.cumsum(done, dtype=jnp.int32) - 1
    finished = jnp.sum(done, dtype=jnp.int32)
    kept = done & (rank >= finished - size)
    slot = jnp.where(kept, (window.count + rank) % size, size)

    def write(buffer: jax.Array, values: jax.Array) -> jax.Array:
        flat = values.reshape(-1, *buffer.shape[1:]).astype(buffer.dtype)
        return buffer.at[slot].set(flat, mode="drop")

    return EpisodeWindow(
        returns=write(window.returns, transitions.episode_return),
        costs=write(window.costs, transitions.episode_cost),
        each_cost=write(window.each_cost, transitions.episode_costs),
        lengths=write(window.lengths, transitions.episode_length),
        count=window.count + finished,
    )


def means(window: EpisodeWindow, transitions: Finished) -> dict[str, jax.Array]:
    """Mean return, cost and length of recent episodes.

    The mean is over the window, or over every episode of these transitions when they finished more than the window
    holds: with thousands of environments a fixed window would see only the last few steps.

    Returns:
        `return`, `cost`, `length`: `[]`, NaN while no episode has ever finished; `episodes`: `[]` int32, finished in
        these transitions, those with sums that are not finite included.
    """
    mean = _averager(window, transitions)
    return {
        "return": mean(window.returns, transitions.episode_return),
        "cost": mean(window.costs, transitions.episode_cost),
        "length": mean(window.lengths, transitions.episode_length),
        "episodes": jnp.sum(transitions.done, dtype=jnp.int32),
    }


def mean_costs(window: EpisodeWindow, transitions: Finished) -> jax.Array:
    """Mean cost `[num_costs]` of recent episodes for each constraint, over the same episodes as `means`."""
    return _averager(window, transitions)(window.each_cost, transitions.episode_costs)


def _averager(window: EpisodeWindow, transitions: Finished) -> Callable[[jax.Array, jax.Array], jax.Array]:
    size = window.costs.shape[0]
    done = _counted(transitions)
    finished = jnp.sum(done, dtype=jnp.int32)
    held = jnp.minimum(window.count, size)
    valid = jnp.arange(size) < held

    def total(values: jax.Array, counted: jax.Array) -> jax.Array:
        axes = tuple(range(counted.ndim))
        mask = counted.reshape(*counted.shape, *(1,) * (values.ndim - counted.ndim))
        return jnp.sum(jnp.where(mask, values, 0).astype(jnp.float32), axis=axes)

    def mean(values: jax.Array, recent: jax.Array) -> jax.Array:
        return jnp.where(finished > size, total(recent, done) / finished, total(values, valid) / held)

    return mean


def running_mean_costs(before: EpisodeWindow, transitions: Finished) -> jax.Array:
    """The mean `[1 + num_costs]` over the episodes of an iteration of the window's mean when each had just finished.

    The first entry is of the scalar cost, the others of each cost. This smooths twice, and lags behind `mean_costs`.

    Args:
        before: the window before these transitions.
        transitions: of the iteration.

    Returns:
        NaN where no episode finished in the iteration.
    """
    size = before.costs.shape[0]
    done = _counted(transitions).reshape(-1)
    finished = jnp.sum(done, dtype=jnp.int32)
    recent = jnp.concatenate([transitions.episode_cost[..., None], transitions.episode_costs], axis=-1)
    recent = recent.reshape(done.shape[0], -1).astype(jnp.float32)
    rank = jnp.where(done, jnp.cumsum(done) - 1, done.shape[0])
    in_order = jnp.zeros_like(recent).at[rank].set(recent, mode="drop")
    held = jnp.minimum(before.count, size)
    past = jnp.concatenate([before.costs[:, None], before.each_cost], axis=-1)
    oldest_first = past[(before.count - size + jnp.arange(size)) % size]
    oldest_first = jnp.where((jnp.arange(size) >= size - held)[:, None], oldest_first, 0.0)
    total = jnp.cumsum(jnp.concatenate([jnp.zeros_like(recent[:1]), oldest_first, in_order]), axis=0)
    number = jnp.arange(done.shape[0])
    means = (total[size + 1 :] - total[1 : done.shape[0] + 1]) / jnp.minimum(held + number + 1, size)[:, None]
    return jnp.sum(jnp.where((number < finished)[:, None], means, 0.0), axis=0) / finished

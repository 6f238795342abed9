"""Mean cost of the most recent answers, which drives the multipliers.

`jsafe.episode_stats` averages whole episodes of many environments. An answer is one episode with only a cost, and its
window has one row per cost, so the ring is a type of its own.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp


class CostWindow(NamedTuple):
    """Costs of the most recent answers.

    Attributes:
        costs: `[C, W]`, a ring buffer.
        count: `[]` int32, answers so far.
    """

    costs: jax.Array
    count: jax.Array


def empty(num_costs: int, size: int) -> CostWindow:
    """A window of `size` answers without an answer."""
    return CostWindow(jnp.zeros((num_costs, size)), jnp.zeros((), jnp.int32))


def remember(window: CostWindow, costs: jax.Array) -> CostWindow:
    """Write the costs `[C, B]` of new answers into the window; if they exceed its size, the last ones.

    Answers with a cost that is not finite are left out: such a cost would hide the mean until it leaves the window.
    """
    size = window.costs.shape[1]
    finite = jnp.all(jnp.isfinite(costs), axis=0)
    rank = jnp.cumsum(finite) - 1
    number = jnp.sum(finite, dtype=jnp.int32)
    slots = jnp.where(finite & (rank >= number - size), (window.count + rank) % size, size)
    return CostWindow(window.costs.at[:, slots].set(costs, mode="drop"), window.count + number)


def mean_costs(window: CostWindow) -> jax.Array:
    """Mean cost `[C]` over the window, NaN while it is empty."""
    filled = jnp.arange(window.costs.shape[1]) < window.count
    return jnp.sum(jnp.where(filled, window.costs, 0.0), axis=1) / jnp.minimum(window.count, window.costs.shape[1])

"""Costs of the last answers, whose mean drives a multiplier."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp


class CostWindow(NamedTuple):
    """Costs of the last answers.

    Attributes:
        costs: `[C, W]`, a ring.
        count: `[]` int32, answers so far.
    """

    costs: jax.Array
    count: jax.Array


def remember(window: CostWindow, costs: jax.Array) -> CostWindow:
    """Write the costs `[C, B]` of new answers into the window; of more than it holds, the last ones.

    An answer with a cost that is not finite is left out: it would hide the mean for as long as it stays.
    """
    size = window.costs.shape[1]
    whole = jnp.all(jnp.isfinite(costs), axis=0)
    rank = jnp.cumsum(whole) - 1
    number = jnp.sum(whole, dtype=jnp.int32)
    places = jnp.where(whole & (rank >= number - size), (window.count + rank) % size, size)
    return CostWindow(window.costs.at[:, places].set(costs, mode="drop"), window.count + number)


def mean_costs(window: CostWindow) -> jax.Array:
    """Mean cost `[C]` over the window, NaN while it is empty."""
    held = jnp.arange(window.costs.shape[1]) < window.count
    return jnp.sum(jnp.where(held, window.costs, 0.0), axis=1) / jnp.minimum(window.count, window.costs.shape[1])

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
    """Write the costs `[C, B]` of new answers into the window; of more than it holds, the last ones."""
    size, new = window.costs.shape[1], costs[:, -window.costs.shape[1] :]
    places = (window.count + costs.shape[1] - new.shape[1] + jnp.arange(new.shape[1])) % size
    return CostWindow(window.costs.at[:, places].set(new), window.count + costs.shape[1])


def mean_costs(window: CostWindow) -> jax.Array:
    """Mean cost `[C]` over the window, NaN while it is empty."""
    held = jnp.arange(window.costs.shape[1]) < window.count
    return jnp.sum(jnp.where(held, window.costs, 0.0), axis=1) / jnp.minimum(window.count, window.costs.shape[1])

"""A weight that grows towards the limit, as the slope of a logarithmic barrier."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from algorithms.constraints.limits import ConstrainedConfig
from algorithms.constraints.mixers import weighted
from algorithms.spec import ConstraintPart
from jsafe.config import Traced, hyperparameters, option
from jsafe.multipliers import Multiplier


@hyperparameters
class BarrierConfig(ConstrainedConfig):
    """A weight that grows without bound towards the limit."""

    barrier_coefficient: float = option("one over the steepness t of the barrier", default=0.01, traced=True, above=0)
    barrier_max: float = option("weight at and beyond the limit, and the largest", default=1.0, traced=True, above=0)


def barrier() -> Multiplier:
    """Slope of a logarithmic barrier at the present cost (Liu, Ding and Liu 2020, arXiv:1910.09615, equation 10).

    weight = coefficient / (limit - episode cost), at most barrier_max, and barrier_max beyond the limit
    """

    def init(hyper: Traced) -> jax.Array:
        return jnp.zeros(jnp.shape(hyper["cost_limit"]), jnp.float32)

    def update(state: jax.Array, episode_cost: jax.Array, hyper: Traced) -> jax.Array:
        room = hyper["cost_limit"] - episode_cost
        inside = room > 0.0
        weight = jnp.where(inside, hyper["barrier_coefficient"] / jnp.where(inside, room, 1.0), jnp.inf)
        return jnp.where(jnp.isfinite(room), jnp.minimum(weight, hyper["barrier_max"]), state)

    return Multiplier(init, update, lambda state: state)


BARRIER = ConstraintPart("barrier", BarrierConfig, lambda config: barrier(), weighted)

"""Either the reward counts, or the cost that exceeds its limit most."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from algorithms.constraints import mixers
from algorithms.constraints.limits import ConstrainedConfig
from algorithms.spec import ConstraintPart
from jsafe.config import Traced, hyperparameters, option
from jsafe.multipliers import Multiplier


@hyperparameters
class RectifiedConfig(ConstrainedConfig):
    """Either the reward counts or a violated cost."""

    switch_tolerance: float = option(
        "excess of a cost over its limit from which it alone counts", default=2.0, traced=True, low=0
    )


def rectify() -> Multiplier:
    """Choose the cost to reduce: 1 for the one that exceeds its limit most, 0 for the others and if none does.

    Xu, Liang and Lan 2021, "CRPO: a new approach for safe reinforcement learning with convergence guarantee",
    algorithm 1. A cost counts as exceeding its limit beyond `switch_tolerance`.
    """

    def init(hyper: Traced) -> jax.Array:
        return jnp.zeros(jnp.shape(hyper["cost_limit"]), jnp.float32)

    def update(state: jax.Array, episode_cost: jax.Array, hyper: Traced) -> jax.Array:
        excess = episode_cost - hyper["cost_limit"] - hyper["switch_tolerance"]
        worst = jax.nn.one_hot(jnp.argmax(excess), excess.shape[0], dtype=jnp.float32)
        chosen = jnp.where(jnp.max(excess) > 0.0, worst, 0.0)
        return jnp.where(jnp.all(jnp.isfinite(excess)), chosen, state)

    return Multiplier(init, update, lambda state: state)


RECTIFIED = ConstraintPart("switch", RectifiedConfig, lambda config: rectify(), mixers.rectified)

"""The second axis of an on-policy algorithm: how costs weigh on the policy.

Each constraint keeps the mean undiscounted cost of an episode below its limit. A single limit bounds the sum of an
environment's costs (`State.cost_sum`), as the published benchmarks do; a list of limits bounds each cost
(`Spec.cost_names`) by its own.

The episode cost is the mean over the last `episode_window` finished episodes, or over all that finished in the
iteration when they are more. While no episode has finished it is unknown, and then nothing here moves.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from algorithms.hyper import Hyper, hyperparameters, option
from algorithms.on_policy.parts import ConstraintPart
from jsafe import multipliers
from jsafe.multipliers import NO_LIMIT


@hyperparameters
class Limited(Hyper):
    """Limits on costs."""

    cost_limit: float | tuple[float, ...] = option(
        "largest allowed mean of an episode's undiscounted cost: one number for the sum of all costs, or one for each",
        default=25.0,
        traced=True,
        low=0,
        vector=True,
    )


@hyperparameters
class Multiplied(Limited):
    """Limits with a multiplier for each."""

    multiplier_max: float = option("upper bound of the multiplier", default=NO_LIMIT, traced=True, low=0)
    multiplier_init: float = option("multiplier before the first update", default=0.001, traced=True, low=0)


@hyperparameters
class Lagrange(Multiplied):
    """A multiplier that follows the gradient."""

    multiplier_optimizer: str = option("gradient method of the multiplier", default="adam", choices=("adam", "sgd"))
    multiplier_learning_rate: float = option("step size of the multiplier", default=0.035, traced=True, low=0)


@hyperparameters
class PID(Multiplied):
    """A multiplier set by a PID controller."""

    pid_kp: float = option("gain of the smoothed violation", default=0.1, traced=True, low=0)
    pid_ki: float = option("gain of the accumulated violation", default=0.01, traced=True, low=0)
    pid_kd: float = option("gain of the growth of the cost", default=0.01, traced=True, low=0)
    pid_p_smoothing: float = option(
        "weight of the past in the smoothed violation", default=0.95, traced=True, low=0, high=1
    )
    pid_d_smoothing: float = option("weight of the past in the smoothed cost", default=0.95, traced=True, low=0, high=1)
    pid_delay: int = option("updates over which the growth of the cost is taken", default=10, low=1)


def weighted(reward: jax.Array, costs: jax.Array, weights: jax.Array) -> jax.Array:
    """`(A_reward - sum_i w_i A_cost_i) / (1 + sum_i w_i)` (Ray, Achiam and Amodei 2019, for several costs)."""
    return (reward - costs @ weights) / (1.0 + jnp.sum(weights))


def rewards_only(reward: jax.Array, costs: jax.Array, weights: jax.Array) -> jax.Array:
    """`A_reward`, for updates that treat costs themselves."""
    del costs, weights
    return reward


LIMITS = ConstraintPart(Limited, None, rewards_only)
LAGRANGE = ConstraintPart(Lagrange, lambda chosen: multipliers.lagrange(chosen.multiplier_optimizer), weighted)
PID_CONTROL = ConstraintPart(PID, lambda chosen: multipliers.pid(chosen.pid_delay), weighted)

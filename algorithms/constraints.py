"""The second axis of an on-policy algorithm: how costs weigh on the policy.

Each constraint keeps the mean undiscounted cost of an episode below its limit. A single limit bounds the total cost
(`jsafe.total_cost`), as the published benchmarks do; a list of limits bounds each cost (`Spec.cost_names`) by its own.

The episode cost is the mean over the last `episode_window` finished episodes, or over all that finished in the
iteration when they are more. While no episode has finished it is unknown, and then nothing here moves.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from algorithms.on_policy.interfaces import ConstraintPart, Signal
from jsafe import multipliers
from jsafe.config import Hyper, hyperparameters, option
from jsafe.multipliers import NO_LIMIT, Multiplier


@hyperparameters
class Limited(Hyper):
    """Limits on costs, and what is learned of them."""

    cost_limit: float | tuple[float, ...] = option(
        "largest allowed mean of an episode's undiscounted cost: a number for the total cost, or one for each cost",
        default=25.0,
        traced=True,
        low=0,
        vector=True,
    )
    cost_discount: float = option("discount of costs", default=0.99, traced=True, low=0, high=1)
    cost_gae_lambda: float = option(
        "weight of long-term estimates in cost advantages", default=0.95, traced=True, low=0, high=1
    )
    normalize_costs: bool = option("learn from costs scaled by their running mean and deviation", default=False)
    smooth_costs_twice: bool = option(
        "let limits see the mean of the window's means at each end of an episode, and 0 in the first iteration, as "
        "SafePO does",
        default=False,
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


@hyperparameters
class Slack(Hyper):
    """For updates that compare a violation with advantages, which are per step."""

    cost_units: str = option(
        "unit of a violation beside cost advantages: 'step' divides it by the mean length of an episode, 'discounted' "
        "multiplies it by 1 - cost_discount, 'episode' leaves it as it is, as the libraries do",
        default="step",
        choices=("step", "discounted", "episode"),
    )


@hyperparameters
class Margined(Limited):
    """Limits that an update reads, with a margin that can learn."""

    margin_rate: float = option(
        "what is added, for each unit by which a cost exceeds its limit, to a margin that the update keeps below the "
        "limit; 0 for none, as in the papers, 0.05 in Ray, Achiam and Amodei's code",
        default=0.0,
        traced=True,
        low=0,
    )


@hyperparameters
class Barrier(Limited):
    """A weight that grows without bound towards the limit."""

    barrier_coefficient: float = option("one over the steepness t of the barrier", default=0.01, traced=True, above=0)
    barrier_max: float = option("weight at and beyond the limit, and the largest", default=1.0, traced=True, above=0)


@hyperparameters
class Switch(Limited):
    """Either the reward counts or a violated cost."""

    switch_tolerance: float = option(
        "how far a cost may exceed its limit before it alone counts", default=2.0, traced=True, low=0
    )


def slack(signal: Signal, hyper: Mapping[str, Any], options: Any) -> jax.Array:
    """Expected costs and margins minus limits `[C]` in the unit of the mean of a cost advantage, by `Slack.cost_units`.

    A policy's cost per episode changes by the sum over its steps of the advantages (Kakade and Langford 2002), so one
    unit per episode is `1 / length` per step. Episodes whose cost nobody knows yet count as free.
    """
    excess = jnp.where(jnp.isfinite(signal.episode_costs), signal.violations, -signal.limits) + signal.weights
    if options.cost_units == "step":
        return excess / jnp.where(jnp.isfinite(signal.episode_length), signal.episode_length, 1.0)
    return excess * (1.0 - hyper["cost_discount"]) if options.cost_units == "discounted" else excess


def weighted(reward: jax.Array, costs: jax.Array, weights: jax.Array) -> jax.Array:
    """`(A_reward - sum_i w_i A_cost_i) / (1 + sum_i w_i)` (Ray, Achiam and Amodei 2019, for several costs)."""
    return (reward - costs @ weights) / (1.0 + jnp.sum(weights))


def penalized(reward: jax.Array, costs: jax.Array, weights: jax.Array) -> jax.Array:
    """`A_reward - sum_i w_i A_cost_i`."""
    return reward - costs @ weights


def switched(reward: jax.Array, costs: jax.Array, weights: jax.Array) -> jax.Array:
    """`-A_cost_i` of the cost that is chosen, `A_reward` if none is."""
    return jnp.where(jnp.sum(weights) > 0.0, -(costs @ weights), reward)


def rewards_only(reward: jax.Array, costs: jax.Array, weights: jax.Array) -> jax.Array:
    """`A_reward`, for updates that treat costs themselves."""
    del costs, weights
    return reward


def barrier() -> Multiplier:
    """The slope of a logarithmic barrier at the present cost (Liu, Ding and Liu 2020, arXiv:1910.09615, equation 10).

    weight = coefficient / (limit - episode cost), at most barrier_max, and barrier_max beyond the limit
    """

    def init(hyper: Mapping[str, Any]) -> jax.Array:
        return jnp.zeros(jnp.shape(hyper["cost_limit"]), jnp.float32)

    def update(state: jax.Array, episode_cost: jax.Array, hyper: Mapping[str, Any]) -> jax.Array:
        room = hyper["cost_limit"] - episode_cost
        inside = room > 0.0
        weight = jnp.where(inside, hyper["barrier_coefficient"] / jnp.where(inside, room, 1.0), jnp.inf)
        return jnp.where(jnp.isfinite(room), jnp.minimum(weight, hyper["barrier_max"]), state)

    return Multiplier(init, update, lambda state: state)


def margin() -> Multiplier:
    """What a policy is to stay below its limit by, which grows while the cost exceeds the limit and falls while not.

        margin = max(0, margin + margin_rate * (episode cost - limit))

    A linearised constraint that holds on a batch need not hold for the policy: with as many parameters as samples,
    a step can lower the cost of a batch by following its noise, and then a method that solves each problem exactly
    violates its limit for ever (Ray, Achiam and Amodei 2019, section 5, find CPO to do so; the margin is an option of
    their code).
    """

    def init(hyper: Mapping[str, Any]) -> jax.Array:
        return jnp.zeros(jnp.shape(hyper["cost_limit"]), jnp.float32)

    def update(state: jax.Array, episode_cost: jax.Array, hyper: Mapping[str, Any]) -> jax.Array:
        moved = jnp.maximum(state + hyper["margin_rate"] * (episode_cost - hyper["cost_limit"]), 0.0)
        return jnp.where(jnp.isfinite(episode_cost), moved, state)

    return Multiplier(init, update, lambda state: state)


def switch() -> Multiplier:
    """Choose the cost to reduce: 1 for the one that exceeds its limit most, 0 for the others and if none does.

    Xu, Liang and Lan 2021, "CRPO: a new approach for safe reinforcement learning with convergence guarantee",
    algorithm 1. A cost counts as exceeding its limit beyond `switch_tolerance`.
    """

    def init(hyper: Mapping[str, Any]) -> jax.Array:
        return jnp.zeros(jnp.shape(hyper["cost_limit"]), jnp.float32)

    def update(state: jax.Array, episode_cost: jax.Array, hyper: Mapping[str, Any]) -> jax.Array:
        excess = episode_cost - hyper["cost_limit"] - hyper["switch_tolerance"]
        worst = jax.nn.one_hot(jnp.argmax(excess), excess.shape[0], dtype=jnp.float32)
        chosen = jnp.where(jnp.max(excess) > 0.0, worst, 0.0)
        return jnp.where(jnp.all(jnp.isfinite(excess)), chosen, state)

    return Multiplier(init, update, lambda state: state)


LIMITS = ConstraintPart("limits", Margined, lambda chosen: margin(), rewards_only)
LAGRANGE = ConstraintPart(
    "lagrange", Lagrange, lambda chosen: multipliers.lagrange(chosen.multiplier_optimizer), weighted
)
LAGRANGE_APART = LAGRANGE._replace(combine=rewards_only)
PID_CONTROL = ConstraintPart("pid", PID, lambda chosen: multipliers.pid(chosen.pid_delay), weighted)
BARRIER = ConstraintPart("barrier", Barrier, lambda chosen: barrier(), weighted)
SWITCH = ConstraintPart("switch", Switch, lambda chosen: switch(), switched)

"""Limits that an update reads itself, with a safety margin that can learn, and the unit of a violation."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from algorithms.constraints.limits import ConstrainedConfig
from algorithms.constraints.mixers import rewards_only
from algorithms.spec import ConstraintPart, RunStatus
from jsafe.config import Config, Traced, hyperparameters, option
from jsafe.multipliers import Multiplier


@hyperparameters
class MarginConfig(ConstrainedConfig):
    """Limits that an update reads, with a margin that can learn."""

    margin_rate: float = option(
        "growth of the safety margin for each unit by which a cost exceeds its limit; 0 for no margin, as in the "
        "papers, 0.05 in Ray, Achiam and Amodei's code",
        default=0.0,
        traced=True,
        low=0,
    )


@hyperparameters
class CostUnitsConfig(Config):
    """For updates that compare a violation with advantages, which are per step."""

    cost_units: str = option(
        "unit of a violation next to cost advantages: 'step' divides it by the mean length of an episode, 'discounted' "
        "multiplies it by 1 - cost_discount, 'episode' leaves it as it is, as the libraries do",
        default="step",
        choices=("step", "discounted", "episode"),
    )


def margin() -> Multiplier:
    """Safety margin below the limit; it grows while the cost exceeds the limit and shrinks otherwise.

        margin = max(0, margin + margin_rate * (episode cost - limit))

    A linearised constraint that holds on a batch need not hold for the policy. With as many parameters as samples,
    a step can lower the cost of a batch by following its noise. A method that solves each problem exactly then violates
    its limit for ever (Ray, Achiam and Amodei 2019, section 5, find CPO to do so; the margin is an option of their
    code).
    """

    def init(hyper: Traced) -> jax.Array:
        return jnp.zeros(jnp.shape(hyper["cost_limit"]), jnp.float32)

    def update(state: jax.Array, episode_cost: jax.Array, hyper: Traced) -> jax.Array:
        moved = jnp.maximum(state + hyper["margin_rate"] * (episode_cost - hyper["cost_limit"]), 0.0)
        return jnp.where(jnp.isfinite(episode_cost), moved, state)

    return Multiplier(init, update, lambda state: state)


def violation(status: RunStatus, hyper: Traced, config: Any) -> jax.Array:
    """Expected costs and margins minus limits `[C]`, in the unit of the mean of a cost advantage.

    A policy's cost per episode changes by the sum over its steps of the advantages (Kakade and Langford 2002), so one
    unit per episode is `1 / length` per step. Episodes whose cost is not known yet count as free.

    Args:
        status: costs, limits and margins (`weights`).
        hyper: `cost_discount`.
        config: `CostUnitsConfig`.
    """
    excess = jnp.where(jnp.isfinite(status.episode_costs), status.violations, -status.limits) + status.weights
    if config.cost_units == "step":
        return excess / jnp.where(jnp.isfinite(status.episode_length), status.episode_length, 1.0)
    return excess * (1.0 - hyper["cost_discount"]) if config.cost_units == "discounted" else excess


LIMITS = ConstraintPart("limits", MarginConfig, lambda config: margin(), rewards_only)

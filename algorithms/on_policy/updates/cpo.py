"""Constrained policy optimisation (Achiam et al. 2017, "Constrained policy optimization", algorithm 1)."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from algorithms.constraints.margin import CostUnitsConfig, violation
from algorithms.on_policy import trust_region_step
from algorithms.on_policy.interfaces import Networks, Update, UpdatePart
from algorithms.on_policy.trust_region_step import LineSearchConfig, ProposedStep, Region, SurrogateValues
from algorithms.spec import RunStatus
from jsafe import trust_region
from jsafe.config import Traced, hyperparameters, option


@hyperparameters
class CostProjectionConfig(CostUnitsConfig, LineSearchConfig):
    """Options of CPO and PCPO."""


@hyperparameters
class CPOConfig(CostProjectionConfig):
    """Constrained policy optimisation."""

    line_search_tries: int = option("number of times the step may be shortened", default=20, low=1)
    dual: str = option(
        "solver of the step; 'library' repeats the wrong dual of OmniSafe and SafePO for one constraint "
        "(see jsafe.trust_region.cpo_step)",
        default="paper",
        choices=("paper", "library"),
    )


def rule(region: Region, status: RunStatus, hyper: Traced, config: Any) -> ProposedStep:
    """The best step within the trust region and the linearised constraints, or back towards them.

    Any number of constraints. A step is shortened until the divergence is within the radius, no cost has grown by more
    than the room that is left below its limit, and, unless the policy is recovering, the surrogate has not fallen.
    """
    slack = violation(status, hyper, config)
    solved = trust_region.cpo_step(
        region.gradient,
        region.cost_gradients(),
        slack,
        region.product,
        region.radius,
        dual=config.dual,
        cg_iterations=config.cg_iterations,
    )
    improving = solved.case > 1

    def accept(reached: SurrogateValues) -> jax.Array:
        improved = ~improving | (reached.surrogate >= region.start.surrogate)
        return improved & costs_hold(reached, region, slack) & (reached.kl <= region.radius)

    return ProposedStep(solved.step, accept, {"case": solved.case, "dual_multiplier": jnp.sum(solved.multiplier)})


def costs_hold(reached: SurrogateValues, region: Region, slack: jax.Array) -> jax.Array:
    """True if no cost has grown by more than the room below its limit, or at all where there is none."""
    return jnp.all(reached.costs - region.start.costs <= jnp.maximum(-slack, 0.0))


def make(networks: Networks, values: tuple[str, ...], config: CPOConfig) -> Update:
    """Build the update.

    Raises:
        ValueError: for several constraints with the dual of the libraries, or more than the exact one holds.
    """
    count, most = len(values) - 1, 1 if config.dual == "library" else trust_region.MAX_CONSTRAINTS
    if count > most:
        supported = "one limit" if most == 1 else f"at most {most} limits"
        raise ValueError(f"cpo with dual={config.dual!r} supports {supported}, got {count}")
    return trust_region_step.make(rule, networks, values, config)


PART = UpdatePart("cpo", CPOConfig, make)

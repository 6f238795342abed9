"""Projection-based constrained policy optimisation (Yang et al. 2020, arXiv:2010.03152, algorithm 1)."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from algorithms.constraints.margin import violation
from algorithms.on_policy import trust_region_step
from algorithms.on_policy.interfaces import Networks, Update, UpdatePart
from algorithms.on_policy.trust_region_step import ProposedStep, Region, SurrogateValues
from algorithms.on_policy.updates.cpo import CostProjectionConfig, costs_hold
from algorithms.spec import RunStatus
from jsafe import trust_region
from jsafe.config import Traced, hyperparameters, option


@hyperparameters
class PCPOConfig(CostProjectionConfig):
    """Projection-based constrained policy optimisation."""

    line_search_tries: int = option("number of times the step may be shortened", default=200, low=1)
    projection: str = option(
        "the metric of the projection; 'library' repeats OmniSafe's and SafePO's step along the plain gradient "
        "(see jsafe.trust_region.pcpo_step)",
        default="kl",
        choices=("kl", "l2", "library"),
    )


def rule(region: Region, status: RunStatus, hyper: Traced, config: Any) -> ProposedStep:
    """The natural step for the reward, projected onto the linearised constraint; for one constraint.

    It is shortened until the divergence is within the radius and the cost has not grown beyond the room below its
    limit. The surrogate may fall: where the constraint is violated the projection has to give up reward.
    """
    slack = violation(status, hyper, config)
    solved = trust_region.pcpo_step(
        region.gradient,
        region.cost_gradients(),
        slack,
        region.product,
        region.radius,
        projection=config.projection,
        cg_iterations=config.cg_iterations,
    )

    def accept(reached: SurrogateValues) -> jax.Array:
        return costs_hold(reached, region, slack) & (reached.kl <= region.radius)

    return ProposedStep(solved.step, accept, {"case": solved.case, "dual_multiplier": jnp.sum(solved.multiplier)})


def make(networks: Networks, values: tuple[str, ...], config: PCPOConfig) -> Update:
    """Build the update.

    Raises:
        ValueError: for several constraints.
    """
    if len(values) > 2:
        raise ValueError(f"pcpo supports one limit, got {len(values) - 1}")
    return trust_region_step.make(rule, networks, values, config)


PART = UpdatePart("pcpo", PCPOConfig, make)

"""Projection-based constrained policy optimisation (Yang et al. 2020, arXiv:2010.03152, algorithm 1)."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from algorithms import constraints
from algorithms.on_policy import trust_region_step
from algorithms.on_policy.interfaces import Hyper, Networks, Signal, Update, UpdatePart
from algorithms.on_policy.trust_region_step import Measured, Proposal, Region
from algorithms.on_policy.updates.cpo import ProjectedOptions, costs_hold
from jsafe import trust_region
from jsafe.config import hyperparameters, option


@hyperparameters
class PCPO(ProjectedOptions):
    """Projection-based constrained policy optimisation."""

    line_search_tries: int = option("how often the step may be shortened", default=200, low=1)
    projection: str = option(
        "the metric of the projection; 'library' repeats OmniSafe's and SafePO's step along the plain gradient "
        "(see jsafe.trust_region.pcpo_step)",
        default="kl",
        choices=("kl", "l2", "library"),
    )


def rule(region: Region, signal: Signal, hyper: Hyper, options: Any) -> Proposal:
    """The natural step for the reward, projected onto the linearised constraint; for one constraint.

    It is shortened until the divergence is within the radius and the cost has not grown beyond the room below its
    limit. The surrogate may fall: where the constraint is violated the projection has to give up reward.
    """
    slack = constraints.slack(signal, hyper, options)
    solved = trust_region.pcpo_step(
        region.gradient,
        region.cost_gradients(),
        slack,
        region.product,
        region.radius,
        projection=options.projection,
        cg_iterations=options.cg_iterations,
    )

    def accept(found: Measured) -> jax.Array:
        return costs_hold(found, region, slack) & (found.kl <= region.radius)

    return Proposal(solved.step, accept, {"case": solved.case, "price": jnp.sum(solved.multiplier)})


def make(networks: Networks, values: tuple[str, ...], options: PCPO) -> Update:
    """Build the update.

    Raises:
        ValueError: for several constraints.
    """
    if len(values) > 2:
        raise ValueError(f"pcpo holds one constraint, and cost_limit gives {len(values) - 1}")
    return trust_region_step.make(rule, networks, values, options)


PART = UpdatePart("pcpo", PCPO, make)

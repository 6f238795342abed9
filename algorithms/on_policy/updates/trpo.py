"""Trust region policy optimisation (Schulman et al. 2015, "Trust region policy optimization", appendix C)."""

from __future__ import annotations

import functools
from typing import Any

import jax

from algorithms.on_policy import trust_region_step
from algorithms.on_policy.interfaces import UpdatePart
from algorithms.on_policy.trust_region_step import LineSearchConfig, ProposedStep, Region, SurrogateValues
from algorithms.spec import RunStatus
from jsafe.config import Traced


def rule(region: Region, status: RunStatus, hyper: Traced, config: Any) -> ProposedStep:
    """The natural step, shortened until the surrogate does not fall and the divergence is within the radius."""
    del status, hyper

    def accept(reached: SurrogateValues) -> jax.Array:
        return (reached.surrogate >= region.start.surrogate) & (reached.kl <= region.radius)

    return ProposedStep(trust_region_step.natural_step(region, config), accept, {})


PART = UpdatePart("trust_region", LineSearchConfig, functools.partial(trust_region_step.make, rule))

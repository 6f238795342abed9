"""Trust region policy optimisation (Schulman et al. 2015, "Trust region policy optimization", appendix C)."""

from __future__ import annotations

from typing import Any

import jax

from algorithms.on_policy import trust_region_step
from algorithms.on_policy.interfaces import Hyper, Signal, UpdatePart
from algorithms.on_policy.trust_region_step import Measured, Proposal, Region, Searched


def rule(region: Region, signal: Signal, hyper: Hyper, options: Any) -> Proposal:
    """The natural step, shortened until the surrogate does not fall and the divergence is within the radius."""
    del signal, hyper

    def accept(found: Measured) -> jax.Array:
        return (found.surrogate >= region.start.surrogate) & (found.kl <= region.radius)

    return Proposal(trust_region_step.natural_step(region, options), accept, {})


PART = UpdatePart("trust_region", Searched, trust_region_step.maker(rule))

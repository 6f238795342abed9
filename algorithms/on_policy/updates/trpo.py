"""Trust region policy optimisation (Schulman et al. 2015, "Trust region policy optimization", appendix C)."""

from __future__ import annotations

from typing import Any

import jax

from algorithms.on_policy import second_order
from algorithms.on_policy.parts import Hyper, Signal, UpdatePart
from algorithms.on_policy.second_order import Measured, Proposal, Region, Searched


def rule(region: Region, signal: Signal, hyper: Hyper, options: Any) -> Proposal:
    """The natural step, shortened until the surrogate does not fall and the divergence is within the radius."""
    del signal, hyper

    def accept(found: Measured) -> jax.Array:
        return (found.surrogate >= region.start.surrogate) & (found.kl <= region.radius)

    return Proposal(second_order.natural_step(region, options), accept, {})


PART = UpdatePart("trust_region", Searched, second_order.maker(rule))

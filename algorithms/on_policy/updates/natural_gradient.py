"""The natural policy gradient (Kakade 2001, "A natural policy gradient")."""

from __future__ import annotations

from typing import Any

from algorithms.on_policy import trust_region_step
from algorithms.on_policy.interfaces import Hyper, Signal, UpdatePart
from algorithms.on_policy.trust_region_step import Proposal, Region, SecondOrder


def rule(region: Region, signal: Signal, hyper: Hyper, options: Any) -> Proposal:
    """Go along the natural gradient to the boundary of the trust region, unchecked."""
    del signal, hyper
    return Proposal(trust_region_step.natural_step(region, options), None, {})


PART = UpdatePart("natural_gradient", SecondOrder, trust_region_step.maker(rule))

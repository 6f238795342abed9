"""The natural policy gradient (Kakade 2001, "A natural policy gradient")."""

from __future__ import annotations

from typing import Any

from algorithms.on_policy import second_order
from algorithms.on_policy.parts import Hyper, Signal, UpdatePart
from algorithms.on_policy.second_order import Proposal, Region, SecondOrder


def rule(region: Region, signal: Signal, hyper: Hyper, options: Any) -> Proposal:
    """Go along the natural gradient to the boundary of the trust region, unchecked."""
    del signal, hyper
    return Proposal(second_order.natural_step(region, options), None, {})


PART = UpdatePart("natural_gradient", SecondOrder, second_order.maker(rule))

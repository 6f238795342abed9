"""The natural policy gradient (Kakade 2001, "A natural policy gradient")."""

from __future__ import annotations

import functools
from typing import Any

from algorithms.on_policy import trust_region_step
from algorithms.on_policy.interfaces import UpdatePart
from algorithms.on_policy.trust_region_step import ProposedStep, Region, TrustRegionConfig
from algorithms.spec import RunStatus
from jsafe.config import Traced


def rule(region: Region, status: RunStatus, hyper: Traced, config: Any) -> ProposedStep:
    """Go along the natural gradient to the boundary of the trust region, unchecked."""
    del status, hyper
    return ProposedStep(trust_region_step.natural_step(region, config), None, {})


PART = UpdatePart("natural_gradient", TrustRegionConfig, functools.partial(trust_region_step.make, rule))

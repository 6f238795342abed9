"""The constraint of a method that ignores costs."""

from __future__ import annotations

import jax.numpy as jnp

from algorithms.constraints.mixers import rewards_only
from algorithms.spec import ConstraintPart
from jsafe.config import Config
from jsafe.multipliers import Multiplier


def no_multiplier() -> Multiplier:
    """A multiplier of no cost: it has no state and no weights."""
    return Multiplier(
        init=lambda hyper: (), update=lambda state, cost, hyper: state, value=lambda state: jnp.zeros(0, jnp.float32)
    )


NO_CONSTRAINT = ConstraintPart("none", Config, lambda config: no_multiplier(), rewards_only, limits=lambda hyper: None)

"""Multipliers that follow the gradient of the Lagrangian (`jsafe.multipliers.lagrange`)."""

from __future__ import annotations

from algorithms.constraints.limits import MultiplierConfig
from algorithms.constraints.mixers import rewards_only, weighted
from algorithms.spec import ConstraintPart
from jsafe import multipliers
from jsafe.config import hyperparameters, option


@hyperparameters
class LagrangeConfig(MultiplierConfig):
    """A multiplier that follows the gradient."""

    multiplier_optimizer: str = option("gradient method of the multiplier", default="adam", choices=("adam", "sgd"))
    multiplier_learning_rate: float = option("step size of the multiplier", default=0.035, traced=True, low=0)


def make(config: LagrangeConfig) -> multipliers.Multiplier:
    """Build the multiplier."""
    return multipliers.lagrange(config.multiplier_optimizer)


LAGRANGE = ConstraintPart("lagrange", LagrangeConfig, make, weighted)
LAGRANGE_SEPARATE = LAGRANGE._replace(mix=rewards_only)
"""For updates that weigh the costs themselves."""

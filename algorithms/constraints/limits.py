"""Hyper-parameters that several constraints share."""

from __future__ import annotations

from jsafe.config import NO_LIMIT, Config, hyperparameters, option


@hyperparameters
class ConstrainedConfig(Config):
    """Limits on costs, and settings of what is learned of them."""

    cost_limit: float | tuple[float, ...] = option(
        "largest allowed mean of an episode's undiscounted cost: a number for the total cost, or one for each cost",
        default=25.0,
        traced=True,
        low=0,
        vector=True,
    )
    cost_discount: float = option("discount of costs", default=0.99, traced=True, low=0, high=1)


@hyperparameters
class MultiplierConfig(ConstrainedConfig):
    """Limits with one multiplier each."""

    multiplier_max: float = option("upper bound of the multiplier", default=NO_LIMIT, traced=True, low=0)
    multiplier_init: float = option("multiplier before the first update", default=0.001, traced=True, low=0)

"""Multipliers set by a PID controller of the cost (`jsafe.multipliers.pid`)."""

from __future__ import annotations

from algorithms.constraints.limits import MultiplierConfig
from algorithms.constraints.mixers import weighted
from algorithms.spec import ConstraintPart
from jsafe import multipliers
from jsafe.config import hyperparameters, option


@hyperparameters
class PIDConfig(MultiplierConfig):
    """A multiplier set by a PID controller."""

    pid_kp: float = option("gain of the smoothed violation", default=0.1, traced=True, low=0)
    pid_ki: float = option("gain of the accumulated violation", default=0.01, traced=True, low=0)
    pid_kd: float = option("gain of the growth of the cost", default=0.01, traced=True, low=0)
    pid_p_smoothing: float = option(
        "weight of the past in the smoothed violation", default=0.95, traced=True, low=0, high=1
    )
    pid_d_smoothing: float = option("weight of the past in the smoothed cost", default=0.95, traced=True, low=0, high=1)
    pid_delay: int = option("updates over which the growth of the cost is taken", default=10, low=1)


def make(config: PIDConfig) -> multipliers.Multiplier:
    """Build the multiplier."""
    return multipliers.pid(config.pid_delay)


PID_CONTROL = ConstraintPart("pid", PIDConfig, make, weighted)

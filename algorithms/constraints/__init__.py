"""Ways in which costs weigh on a policy, shared by the families of algorithms.

Each constraint keeps the mean undiscounted cost of an episode below its limit. A single limit bounds the total cost
(`jsafe.total_cost`), as the published benchmarks do; a list of limits bounds each cost (`Spec.cost_names`) by its own.

The episode cost is the mean over the last `episode_window` finished episodes, or over all that finished in the
iteration when they are more. While no episode has finished it is unknown, and then nothing here moves.
"""

from algorithms.constraints.barrier import BARRIER
from algorithms.constraints.lagrange import LAGRANGE, LAGRANGE_SEPARATE
from algorithms.constraints.limits import ConstrainedConfig, MultiplierConfig
from algorithms.constraints.margin import LIMITS
from algorithms.constraints.mixers import penalized, rewards_only, weighted
from algorithms.constraints.pid import PID_CONTROL
from algorithms.constraints.rectified import RECTIFIED
from algorithms.constraints.unconstrained import NO_CONSTRAINT

__all__ = [
    "BARRIER",
    "LAGRANGE",
    "LAGRANGE_SEPARATE",
    "LIMITS",
    "NO_CONSTRAINT",
    "PID_CONTROL",
    "RECTIFIED",
    "ConstrainedConfig",
    "MultiplierConfig",
    "penalized",
    "rewards_only",
    "weighted",
]

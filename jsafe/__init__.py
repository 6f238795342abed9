"""jsafe: safe learning in JAX, as pure compiled functions. This package is the core that every part shares."""

from jsafe.cmdp import Env, Spec, State
from jsafe.constrained import total_cost
from jsafe.policy import Policy, load_policy
from jsafe.population import Layout
from jsafe.trainer import Metrics, MetricSpec, PolicySpec, Trainer, TrainerInfo, TrainState, run
from jsafe.training.callbacks import Callback, TimeLimit
from jsafe.training.fit import FitResult, fit

__version__ = "0.1.0"

__all__ = [
    "Callback",
    "Env",
    "FitResult",
    "Layout",
    "MetricSpec",
    "Metrics",
    "Policy",
    "PolicySpec",
    "Spec",
    "State",
    "TimeLimit",
    "TrainState",
    "Trainer",
    "TrainerInfo",
    "fit",
    "load_policy",
    "run",
    "total_cost",
]

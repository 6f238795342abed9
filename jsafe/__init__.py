"""jsafe: safe learning in JAX, as pure compiled functions. This package is the core that every part shares."""

from jsafe.cmdp import Env, Spec, State
from jsafe.trainer import Metrics, PolicySpec, Trainer, TrainerInfo, TrainState, run

__version__ = "0.1.0"

__all__ = ["Env", "Metrics", "PolicySpec", "Spec", "State", "TrainState", "Trainer", "TrainerInfo", "run"]

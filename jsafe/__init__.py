"""jsafe: safe learning in JAX, as pure compiled functions. This package is the core that every part shares.

Public names are imported at their first use, so that `jsafe.config` and other modules without JAX load at once.
`jsafe.envs`, `jsafe.algorithms`, `jsafe.rlhf` and `jsafe.sketch` are the packages `envs_mjx`, `algorithms`, `rlhf` and
`sketch` of this installation, whatever else of these names is on the path.
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import TYPE_CHECKING, Any

from jsafe import siblings

if TYPE_CHECKING:
    from jsafe import spaces
    from jsafe.cmdp import Env, Spec, State
    from jsafe.constrained import total_cost
    from jsafe.policy import Policy, load_policy
    from jsafe.policy_spec import PolicySpec
    from jsafe.population import Layout
    from jsafe.state_check import check_env
    from jsafe.trainer import Metrics, MetricSpec, Trainer, TrainerInfo, TrainState, run
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
    "check_env",
    "fit",
    "load_policy",
    "run",
    "spaces",
    "total_cost",
]

_MODULES = {
    "Callback": "jsafe.training.callbacks",
    "Env": "jsafe.cmdp",
    "FitResult": "jsafe.training.fit",
    "Layout": "jsafe.population",
    "MetricSpec": "jsafe.trainer",
    "Metrics": "jsafe.trainer",
    "Policy": "jsafe.policy",
    "PolicySpec": "jsafe.policy_spec",
    "Spec": "jsafe.cmdp",
    "State": "jsafe.cmdp",
    "TimeLimit": "jsafe.training.callbacks",
    "TrainState": "jsafe.trainer",
    "Trainer": "jsafe.trainer",
    "TrainerInfo": "jsafe.trainer",
    "check_env": "jsafe.state_check",
    "fit": "jsafe.training.fit",
    "load_policy": "jsafe.policy",
    "run": "jsafe.trainer",
    "total_cost": "jsafe.constrained",
}
"""Module of each public name."""


def __dir__() -> list[str]:
    """List the public names, imported or not, for completion."""
    return sorted({*globals(), *_MODULES, *siblings.ALIASES})


def __getattr__(name: str) -> Any:
    """Import a public name or a submodule at its first use."""
    if name in _MODULES:
        value = getattr(importlib.import_module(_MODULES[name]), name)
    elif name in siblings.ALIASES:
        value = siblings.load(siblings.ALIASES[name])
    elif importlib.util.find_spec(f"{__name__}.{name}") is not None:
        value = importlib.import_module(f"{__name__}.{name}")
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value

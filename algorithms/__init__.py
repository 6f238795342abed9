"""Safe reinforcement learning on any CMDP: `make(name, env)` gives a `jsafe.Trainer`."""

from algorithms.on_policy.interfaces import Networks
from algorithms.registry import configure, describe, make, names, resolve, rewrite

__all__ = ["Networks", "configure", "describe", "make", "names", "resolve", "rewrite"]

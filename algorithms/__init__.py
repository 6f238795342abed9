"""Safe reinforcement learning on any CMDP: `make(name, env)` gives a `jsafe.Trainer`.

Names are imported when they are first used, so that a part such as `algorithms.constraints` loads no family.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from algorithms.on_policy.interfaces import Networks
    from algorithms.registry import configure, describe, make, names, resolve, rewrite

__all__ = ["Networks", "configure", "describe", "make", "names", "resolve", "rewrite"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = "algorithms.on_policy.interfaces" if name == "Networks" else "algorithms.registry"
    return getattr(importlib.import_module(home), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

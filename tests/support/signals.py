"""Run status passed to an update, for tests of updates alone."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from algorithms.spec import RunStatus


def signal(**changes: Any) -> RunStatus:
    """One constraint with weight 1, an episode cost at its limit of 25, and episodes of 1,000 steps."""
    values = {"weights": [1.0], "episode_costs": [25.0], "limits": [25.0], "episode_length": 1000.0, "progress": 0.0}
    return RunStatus(**{name: jnp.asarray(value, jnp.float32) for name, value in {**values, **changes}.items()})

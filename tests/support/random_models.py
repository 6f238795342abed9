"""Untrained models, each drawn by one compiled function: drawn operation by operation, they would be hundreds."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np


def params_of(model, seed: int = 0) -> dict[str, Any]:
    """Random parameters of a language model or a score model, as host arrays."""
    ids = np.zeros((1, 2), np.int32)
    return jax.device_get(jax.jit(model.init)(jax.random.key(seed), ids, ids == 0)["params"])

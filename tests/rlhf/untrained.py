"""Untrained models, drawn with NumPy: nothing is compiled for what is only an input of a test."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np


def params_of(model, seed: int = 0) -> dict[str, Any]:
    """What a model begins with: normal matrices, norms of one and biases of zero; arrays of the host."""
    ids = np.zeros((1, 2), np.int32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), ids, ids > -1)["params"]
    rng = np.random.default_rng(seed)

    def draw(path: Any, leaf: Any) -> np.ndarray:
        name = path[-1].key
        if name == "scale":
            return np.ones(leaf.shape, leaf.dtype)
        if name in ("score_bias", "score_words"):
            return np.zeros(leaf.shape, leaf.dtype)
        return rng.normal(0.0, model.config.init_std, leaf.shape).astype(leaf.dtype)

    return jax.tree_util.tree_map_with_path(draw, shapes)

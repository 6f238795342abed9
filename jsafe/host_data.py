"""What stays on the host, weights a run begins with and data: a compiled program asks for them and holds no copy."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np


def loaded(tree: Any, key: jax.Array) -> Any:
    """The arrays of a tree, inside a program.

    Args:
        tree: arrays of the host; their shapes alone are enough for a program that is not run.
        key: any typed key of the caller; under `vmap` it gives each member a copy of its own.
    """
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(np.shape(x), x.dtype), tree)
    return jax.pure_callback(lambda _: tree, shapes, jax.random.key_data(key), vmap_method="sequential")


def rows(source: Any, chosen: jax.Array) -> Any:
    """Rows of every array of a tree, inside a program.

    Args:
        source: arrays of the host, `[N, ...]` each.
        chosen: `[...]` int32, below N.

    Returns:
        The tree with arrays `[*chosen.shape, ...]`.
    """
    wanted = jax.tree.map(lambda x: jax.ShapeDtypeStruct((*chosen.shape, *x.shape[1:]), x.dtype), source)

    def fetch(places: jax.Array) -> Any:
        return jax.tree.map(lambda x: np.asarray(x)[np.asarray(places)], source)

    return jax.pure_callback(fetch, wanted, chosen, vmap_method="broadcast_all")

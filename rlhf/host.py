"""What stays on the host, weights a run begins with and data: a compiled program asks for them and holds no copy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np


def loaded(tree: Any, key: jax.Array) -> Any:
    """The arrays of a tree, inside a program.

    Args:
        tree: arrays of the host.
        key: any typed key of the caller; under `vmap` it gives each member a copy of its own.
    """
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(np.shape(x), np.asarray(x).dtype), tree)
    return jax.pure_callback(lambda _: tree, shapes, jax.random.key_data(key), vmap_method="sequential")


def each_once(tree: Any) -> tuple[list[Any], Callable[[Sequence[Any]], Any]]:
    """The arrays of a tree without repetition, and what makes the tree again from as many arrays.

    Models that stand on one copy of their weights on the host stand on one copy on the device.
    """
    leaves, structure = jax.tree.flatten(tree)
    once = {id(leaf): leaf for leaf in leaves}
    places = {name: number for number, name in enumerate(once)}
    at = [places[id(leaf)] for leaf in leaves]
    return list(once.values()), lambda arrays: jax.tree.unflatten(structure, [arrays[i] for i in at])


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

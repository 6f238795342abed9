"""Arrays that stay on the host: a compiled program fetches initial weights and rows of data, and embeds no copy.

On a mesh each device fetches its own part, so no array is gathered on the way. With several processes, each process
serves its own devices and needs all weights and rows on its host.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import AbstractMesh, NamedSharding, PartitionSpec


def loaded(tree: Any, key: jax.Array) -> Any:
    """Return the arrays of a tree, inside a program.

    Args:
        tree: arrays of the host; their shapes are enough for a program that is only compiled.
        key: any typed key of the caller; under `vmap` it gives each member its own copy.
    """
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(np.shape(x), x.dtype), tree)
    return jax.pure_callback(lambda _: tree, shapes, jax.random.key_data(key), vmap_method="sequential")


def loaded_on_mesh(tree: Any, key: jax.Array, mesh: AbstractMesh, specs: Any) -> Any:
    """Return the arrays of a tree, inside a program on a mesh.

    Args:
        tree: arrays of the host; see `loaded`.
        key: any typed key of the caller; see `loaded`.
        mesh: the mesh.
        specs: tree of a `PartitionSpec` for each array, with at most one mesh axis for each dimension.
    """
    shardings = [NamedSharding(mesh, spec) for spec in jax.tree.leaves(specs, is_leaf=_is_spec)]
    leaves, structure = jax.tree.flatten(tree)
    shapes = [jax.ShapeDtypeStruct(s.shard_shape(np.shape(x)), x.dtype) for x, s in zip(leaves, shardings, strict=True)]

    def part(data: jax.Array) -> Any:
        def fetch(_: Any, *indices: Any) -> list[np.ndarray]:
            position = {axis: int(index) for axis, index in zip(mesh.axis_names, indices, strict=True)}
            parts = zip(leaves, shapes, shardings, strict=True)
            return [np.asarray(x)[_slices(s.spec, shape.shape, position)] for x, shape, s in parts]

        indices = [jax.lax.axis_index(axis) for axis in mesh.axis_names]
        return structure.unflatten(jax.pure_callback(fetch, shapes, data, *indices, vmap_method="sequential"))

    # check_vma is off because JAX cannot infer how the result of a callback varies with the device.
    data = jax.random.key_data(key)
    return jax.shard_map(part, in_specs=PartitionSpec(), out_specs=specs, check_vma=False)(data)


def _slices(spec: PartitionSpec, shard: tuple[int, ...], position: dict[str, int]) -> tuple[slice, ...]:
    """Slices of an array that make up the shard of the device at a position of the mesh."""
    indices = [0 if axis is None else position[axis] for axis in spec]  # pyright: ignore[reportArgumentType]
    return tuple(slice(index * size, (index + 1) * size) for index, size in zip(indices, shard, strict=True))


def deduplicate(tree: Any) -> tuple[dict[str, Any], Callable[[Mapping[str, Any]], Any]]:
    """Split a tree into its distinct arrays, by path, and a function that rebuilds the tree from them.

    Models that share one copy of their weights on the host share one copy on the device.
    """
    entries, structure = jax.tree_util.tree_flatten_with_path(tree)
    names: dict[int, str] = {}
    for path, leaf in entries:
        names.setdefault(id(leaf), jax.tree_util.keystr(path, simple=True, separator="/"))
    order = [names[id(leaf)] for _, leaf in entries]
    arrays = {names[id(leaf)]: leaf for _, leaf in entries}
    return arrays, lambda arrays: jax.tree.unflatten(structure, [arrays[name] for name in order])


def rows(source: Any, indices: jax.Array) -> Any:
    """Return rows of every array of a tree, inside a program.

    Args:
        source: arrays of the host, `[N, ...]` each.
        indices: `[...]` int32, below N.

    Returns:
        The tree with arrays `[*indices.shape, ...]`.
    """
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct((*indices.shape, *x.shape[1:]), x.dtype), source)

    def fetch(chosen: jax.Array) -> Any:
        return jax.tree.map(lambda x: np.asarray(x)[np.asarray(chosen)], source)

    return jax.pure_callback(fetch, shapes, indices, vmap_method="broadcast_all")


def rows_on_mesh(source: Any, indices: jax.Array, spec: PartitionSpec) -> Any:
    """Return rows of every array of a tree, inside a program on a mesh.

    Args:
        source: arrays of the host; see `rows`.
        indices: `[...]` int32, below N.
        spec: partition of the indices, and so of the rows.
    """
    fetch = jax.shard_map(lambda part: rows(source, part), in_specs=spec, out_specs=spec, check_vma=False)
    return fetch(indices)


def _is_spec(x: Any) -> bool:
    return isinstance(x, PartitionSpec)

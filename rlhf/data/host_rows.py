"""`jsafe.host_data` for language models, whose weights and rows may be spread over a mesh.

On a mesh each device asks for its own part, so nothing is gathered on the way; with several processes, each answers for
its own devices and needs all rows and weights on its host.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from jsafe import host_data
from rlhf.parallel import sharding


def loaded(tree: Any, key: jax.Array) -> Any:
    """The arrays of a tree, inside a program; on a mesh, cut as `rlhf.parallel.sharding` says.

    Args:
        tree: arrays of the host; their shapes alone are enough for a program that is not run.
        key: any typed key of the caller; under `vmap` it gives each member a copy of its own.
    """
    over, data = sharding.current(), jax.random.key_data(key)
    if over is None:
        return host_data.loaded(tree, key)
    specs = sharding.specs(tree, over)
    cut = [NamedSharding(over, spec) for spec in jax.tree.leaves(specs, is_leaf=_is_spec)]
    leaves, structure = jax.tree.flatten(tree)
    shapes = [jax.ShapeDtypeStruct(s.shard_shape(np.shape(x)), x.dtype) for x, s in zip(leaves, cut, strict=True)]

    def part(data: jax.Array) -> Any:
        def fetch(_: Any, *place: Any) -> list[np.ndarray]:
            at = {axis: int(number) for axis, number in zip(over.axis_names, place, strict=True)}
            parts = zip(leaves, shapes, cut, strict=True)
            return [np.asarray(x)[_slices(s.spec, shape.shape, at)] for x, shape, s in parts]

        place = [jax.lax.axis_index(axis) for axis in over.axis_names]
        return structure.unflatten(jax.pure_callback(fetch, shapes, data, *place, vmap_method="sequential"))

    # check_vma is off because a callback's result varies with the device in a way that JAX cannot know.
    return jax.shard_map(part, in_specs=PartitionSpec(), out_specs=specs, check_vma=False)(data)


def _slices(spec: PartitionSpec, part: tuple[int, ...], at: dict[str, int]) -> tuple[slice, ...]:
    """Where a device's part of an array of parameters begins and ends; their dimensions are cut along one axis each."""
    places = [0 if axis is None else at[axis] for axis in spec]  # pyright: ignore[reportArgumentType]
    return tuple(slice(place * size, (place + 1) * size) for place, size in zip(places, part, strict=True))


def each_once(tree: Any) -> tuple[dict[str, Any], Callable[[Mapping[str, Any]], Any]]:
    """The arrays of a tree without repetition, by the path of the first, and what makes the tree again from as many.

    Models that stand on one copy of their weights on the host stand on one copy on the device.
    """
    found, structure = jax.tree_util.tree_flatten_with_path(tree)
    names: dict[int, str] = {}
    for path, leaf in found:
        names.setdefault(id(leaf), jax.tree_util.keystr(path, simple=True, separator="/"))
    at = [names[id(leaf)] for _, leaf in found]
    arrays = {names[id(leaf)]: leaf for _, leaf in found}
    return arrays, lambda arrays: jax.tree.unflatten(structure, [arrays[name] for name in at])


def rows(source: Any, chosen: jax.Array) -> Any:
    """Rows of every array of a tree, inside a program; on a mesh, those of the last axis of `chosen` are spread.

    Args:
        source: arrays of the host, `[N, ...]` each.
        chosen: `[...]` int32, below N.

    Returns:
        The tree with arrays `[*chosen.shape, ...]`.

    Raises:
        ValueError: on a mesh whose `data` times `fsdp` does not divide the rows.
    """

    over = sharding.current()
    if over is None:
        return host_data.rows(source, chosen)
    spread = (*(None,) * (chosen.ndim - 1), "batch")
    spec = sharding.partition(f"rows {list(chosen.shape)}", chosen.shape, spread, over.shape)
    return jax.shard_map(lambda part: host_data.rows(source, part), in_specs=spec, out_specs=spec, check_vma=False)(
        chosen
    )


def _is_spec(x: Any) -> bool:
    return isinstance(x, PartitionSpec)

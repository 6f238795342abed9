"""How a language model is laid over devices: two tables, from parameter to logical axes and from these to the mesh.

Only layouts are said here; XLA's partitioner adds the communication (Xu et al. 2021, arXiv 2105.04663). Nothing changes
what is computed but the order of sums.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec

from jsafe import host_data
from jsafe.population import Layout

AXES = ("data", "fsdp", "tensor")
"""Of a mesh. `data` holds copies of the model that see other rows; `fsdp` too, and each keeps a part of every parameter
and moment (Rajbhandari et al. 2020, ZeRO stage 3); `tensor` splits heads, the gated layer and the vocabulary (Shoeybi
et al. 2019)."""

LOGICAL: dict[str, tuple[str | None, ...]] = {
    "decoder/embedding": ("vocab", "embed"),
    "head": ("vocab", "embed"),
    "attention/q": ("embed", "heads", None),
    "attention/k": ("embed", "kv_heads", None),
    "attention/v": ("embed", "kv_heads", None),
    "attention/o": ("heads", None, "embed"),
    "mlp/gate": ("embed", "mlp"),
    "mlp/up": ("embed", "mlp"),
    "mlp/down": ("mlp", "embed"),
}
"""Logical axes of a parameter by the end of its path; inside `layers` one more stands in front. A parameter that is not
listed (norms, heads of scores, low-rank factors, statistics) is small and every device has a copy."""

MESH_AXES: dict[str, tuple[str, ...]] = {
    "batch": ("data", "fsdp"),
    "copy": ("data",),
    "embed": ("fsdp",),
    "vocab": ("tensor",),
    "heads": ("tensor",),
    "kv_heads": ("tensor",),
    "mlp": ("tensor",),
    "layers": (),
}
"""Axes of the mesh that a logical axis is cut along."""

LARGEST_COPY = 1 << 26
"""Elements of a parameter that every device may have a copy of; a larger one belongs in `LOGICAL`."""


def parse(text: str) -> dict[str, int]:
    """Sizes of the axes from `data=2,fsdp=4`; an axis that is not named has size 1.

    Raises:
        ValueError: an unknown axis, one named twice, or a size that is not a whole number of at least 1.
    """
    sizes: dict[str, int] = {}
    for piece in text.split(","):
        name, _, size = piece.partition("=")
        name = name.strip()
        if name not in AXES or name in sizes or not size.strip().isdigit() or int(size) < 1:
            raise ValueError(f"expected a mesh such as data=2,fsdp=4,tensor=1, each axis at most once, got {text!r}")
        sizes[name] = int(size)
    return {axis: sizes.get(axis, 1) for axis in AXES}


def mesh(data: int = 1, fsdp: int = 1, tensor: int = 1) -> Mesh:
    """All devices, of all processes, as a mesh.

    Raises:
        ValueError: the sizes do not multiply to the number of devices.
    """
    shape, devices = (data, fsdp, tensor), jax.devices()
    if math.prod(shape) != len(devices):
        raise ValueError(
            f"a mesh of data={data}, fsdp={fsdp}, tensor={tensor} needs {math.prod(shape)} devices, "
            f"and there are {len(devices)} ({devices[0].platform})"
        )
    return jax.make_mesh(shape, AXES, axis_types=(AxisType.Auto,) * len(AXES))


def abstract_mesh(data: int = 1, fsdp: int = 1, tensor: int = 1) -> AbstractMesh:
    """A mesh of devices that need not exist, to reckon with."""
    return AbstractMesh((data, fsdp, tensor), AXES, axis_types=(AxisType.Auto,) * len(AXES))


def layout(over: Mesh | AbstractMesh) -> Layout:
    """What `jsafe.fit` needs to spread a run of language models over a mesh."""
    return Layout(over, lambda state: specs(state, over))


def specs(tree: Any, over: Mesh | AbstractMesh) -> Any:
    """How each array of a tree is cut: parameters by their names, moments as their parameters, all else not at all.

    Args:
        tree: arrays or their shapes; parameters, or a state that holds them anywhere.
        over: the mesh.

    Returns:
        The tree with a `PartitionSpec` for each array.

    Raises:
        ValueError: a dimension that its axis does not divide, or a large array that no table knows, by name.
    """
    return jax.tree_util.tree_map_with_path(lambda path, leaf: _spec(path, leaf, over), tree)


def logical_axes(path: tuple[Any, ...], shape: tuple[int, ...]) -> tuple[str | None, ...]:
    """Logical axes of the array at a path of a tree, None for dimensions that are never cut.

    Raises:
        ValueError: the array is too large to be copied, and no table knows it.
    """
    names = jax.tree_util.keystr(path, simple=True, separator="/").split("/")
    for length in (2, 1):
        axes = LOGICAL.get("/".join(names[-length:]))
        if axes is not None:
            axes = ("layers", *axes) if "layers" in names else axes
            if len(axes) == len(shape):
                return axes
    if math.prod(shape) > LARGEST_COPY:
        raise ValueError(
            f"{'/'.join(names)} of shape {list(shape)} is too large for a copy on every device, and "
            "rlhf.parallel.sharding.LOGICAL does not say how it is cut"
        )
    return (None,) * len(shape)


def _spec(path: tuple[Any, ...], leaf: Any, over: Mesh | AbstractMesh) -> PartitionSpec:
    shape = np.shape(leaf)
    name = jax.tree_util.keystr(path, simple=True, separator="/")
    return partition(name, shape, logical_axes(path, shape), over.shape)


def partition(
    name: str, shape: tuple[int, ...], logical: tuple[str | None, ...], sizes: Mapping[str, int]
) -> PartitionSpec:
    """How an array is cut.

    Args:
        name: of the array, for the message.
        shape: of the array.
        logical: axis of each dimension.
        sizes: of the mesh's axes.

    Raises:
        ValueError: the axes of a dimension do not divide it.
    """
    cut: list[str | tuple[str, ...] | None] = []
    for place, (size, axis) in enumerate(zip(shape, logical, strict=True)):
        axes = MESH_AXES[axis] if axis else ()
        parts = math.prod(sizes[a] for a in axes)
        if size % parts:
            wanted = ", ".join(f"{a}={sizes[a]}" for a in axes)
            raise ValueError(f"{name}: dimension {place} ({axis}) has {size} entries, which {wanted} does not divide")
        cut.append(axes[0] if len(axes) == 1 else axes or None)
    return PartitionSpec(*cut)


def current() -> AbstractMesh | None:
    """The mesh of the run that is being traced; None on one device."""
    found = jax.sharding.get_abstract_mesh()
    return found if found.axis_names == AXES and not found.manual_axes else None


def loaded(tree: Any, key: jax.Array) -> Any:
    """`jsafe.host_data.loaded`, partitioned by the tables if there is a mesh."""
    over = current()
    return host_data.loaded(tree, key) if over is None else host_data.loaded_on_mesh(tree, key, over, specs(tree, over))


def rows(source: Any, indices: jax.Array) -> Any:
    """`jsafe.host_data.rows`, with the last axis of the indices spread over `data` and `fsdp` if there is a mesh.

    Raises:
        ValueError: `data` times `fsdp` does not divide the rows.
    """
    over = current()
    if over is None:
        return host_data.rows(source, indices)
    logical = (*(None,) * (indices.ndim - 1), "batch")
    spec = partition(f"rows {list(indices.shape)}", indices.shape, logical, over.shape)
    return host_data.rows_on_mesh(source, indices, spec)


def constrain(x: jax.Array, *logical: str | None) -> jax.Array:
    """The same array, cut along these logical axes if there is a mesh.

    Without it the partitioner may prefer to gather activations instead of weights.

    Raises:
        ValueError: the axes of a dimension do not divide it.
    """
    over = current()
    if over is None:
        return x
    return jax.lax.with_sharding_constraint(x, partition(f"rows {list(x.shape)}", x.shape, logical, over.shape))


def constrain_rows(tree: Any) -> Any:
    """A tree of rows `[B, ...]` with the rows spread over `data` and `fsdp`."""
    return jax.tree.map(lambda x: constrain(x, "batch", *(None,) * (x.ndim - 1)), tree)


def constrain_parameters(tree: Any) -> Any:
    """Parameters, or gradients, cut as the tables say: a gradient is then summed where it is kept."""
    over = current()
    if over is None:
        return tree
    return jax.tree.map(jax.lax.with_sharding_constraint, tree, specs(tree, over))


def shard_bytes(tree: Any, over: Mesh | AbstractMesh) -> int:
    """Bytes of a tree on one device."""
    found = zip(jax.tree.leaves(tree), jax.tree.leaves(specs(tree, over), is_leaf=_is_spec), strict=True)
    return sum(
        math.prod(NamedSharding(over, spec).shard_shape(leaf.shape)) * leaf.dtype.itemsize for leaf, spec in found
    )


def _is_spec(x: Any) -> bool:
    return isinstance(x, PartitionSpec)

"""Sharding of language models: tables from parameters to logical axes, and from these to axes of the mesh.

The tables define layouts only; XLA's partitioner adds the communication (Xu et al. 2021, arXiv 2105.04663). Results
change only by the order of sums.
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
"""Axes of a mesh. `data` has copies of the model on different rows; `fsdp` too, with a part of every parameter and
moment on each device (Rajbhandari et al. 2020, ZeRO stage 3); `tensor` splits heads, the gated MLP and the vocabulary
(Shoeybi et al. 2019)."""

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
"""Logical axes of a parameter by the end of its path; inside `layers` one more comes first. Parameters that are not
listed (norms, score heads, low-rank factors, statistics) are small, and every device has a copy."""

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
"""Axes of the mesh that a logical axis is split over."""

LARGEST_COPY = 1 << 26
"""Largest number of elements of a replicated parameter; larger ones belong in `LOGICAL`."""


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
    """Return a mesh of all devices of all processes.

    Raises:
        ValueError: the sizes do not multiply to the number of devices.
    """
    shape, devices = (data, fsdp, tensor), jax.devices()
    if math.prod(shape) != len(devices):
        raise ValueError(
            f"a mesh of data={data}, fsdp={fsdp}, tensor={tensor} needs {math.prod(shape)} devices, "
            f"got {len(devices)} ({devices[0].platform})"
        )
    return jax.make_mesh(shape, AXES, axis_types=(AxisType.Auto,) * len(AXES))


def abstract_mesh(data: int = 1, fsdp: int = 1, tensor: int = 1) -> AbstractMesh:
    """Return a mesh of devices that need not exist, for estimates."""
    return AbstractMesh((data, fsdp, tensor), AXES, axis_types=(AxisType.Auto,) * len(AXES))


def layout(over: Mesh | AbstractMesh) -> Layout:
    """Return the layout that spreads a run of `jsafe.fit` over a mesh."""
    return Layout(over, lambda state: specs(state, over))


def specs(tree: Any, over: Mesh | AbstractMesh) -> Any:
    """Partition of each array of a tree: parameters by name, moments like their parameters, the rest replicated.

    Args:
        tree: arrays or their shapes; parameters, or a state that contains them.
        over: the mesh.

    Returns:
        The tree with a `PartitionSpec` for each array.

    Raises:
        ValueError: an axis does not divide its dimension, or a large array is in no table; the message has its name.
    """
    return jax.tree_util.tree_map_with_path(lambda path, leaf: _spec(path, leaf, over), tree)


def logical_axes(path: tuple[Any, ...], shape: tuple[int, ...]) -> tuple[str | None, ...]:
    """Logical axes of the array at a path of a tree, None for dimensions that are never split.

    Raises:
        ValueError: the array is too large to be replicated, and is in no table.
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
            f"{'/'.join(names)} of shape {list(shape)} is too large for a copy on every device; "
            "add its axes to rlhf.parallel.sharding.LOGICAL"
        )
    return (None,) * len(shape)


def _spec(path: tuple[Any, ...], leaf: Any, over: Mesh | AbstractMesh) -> PartitionSpec:
    shape = np.shape(leaf)
    name = jax.tree_util.keystr(path, simple=True, separator="/")
    return partition(name, shape, logical_axes(path, shape), over.shape)


def partition(
    name: str, shape: tuple[int, ...], logical: tuple[str | None, ...], sizes: Mapping[str, int]
) -> PartitionSpec:
    """Partition of an array.

    Args:
        name: name of the array, for the message.
        shape: shape of the array.
        logical: logical axis of each dimension.
        sizes: sizes of the mesh's axes.

    Raises:
        ValueError: the axes of a dimension do not divide it.
    """
    cut: list[str | tuple[str, ...] | None] = []
    for place, (size, axis) in enumerate(zip(shape, logical, strict=True)):
        axes = MESH_AXES[axis] if axis else ()
        parts = math.prod(sizes[a] for a in axes)
        if size % parts:
            divisors = ", ".join(f"{a}={sizes[a]}" for a in axes)
            raise ValueError(f"{name}: dimension {place} ({axis}) has {size} entries, which {divisors} does not divide")
        cut.append(axes[0] if len(axes) == 1 else axes or None)
    return PartitionSpec(*cut)


def current() -> AbstractMesh | None:
    """Return the mesh of the run that is being traced, None on one device."""
    mesh = jax.sharding.get_abstract_mesh()
    return mesh if mesh.axis_names == AXES and not mesh.manual_axes else None


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
    """Constrain an array to be split along logical axes if there is a mesh.

    Without constraints the partitioner may gather activations instead of weights.

    Raises:
        ValueError: the axes of a dimension do not divide it.
    """
    over = current()
    if over is None:
        return x
    return jax.lax.with_sharding_constraint(x, partition(f"rows {list(x.shape)}", x.shape, logical, over.shape))


def constrain_rows(tree: Any) -> Any:
    """Constrain a tree of rows `[B, ...]` to be spread over `data` and `fsdp`."""
    return jax.tree.map(lambda x: constrain(x, "batch", *(None,) * (x.ndim - 1)), tree)


def constrain_parameters(tree: Any) -> Any:
    """Constrain parameters or gradients to the tables, so that each device sums its own part of a gradient."""
    over = current()
    if over is None:
        return tree
    return jax.tree.map(jax.lax.with_sharding_constraint, tree, specs(tree, over))


def shard_bytes(tree: Any, over: Mesh | AbstractMesh) -> int:
    """Bytes of a tree on one device."""
    pairs = zip(jax.tree.leaves(tree), jax.tree.leaves(specs(tree, over), is_leaf=_is_spec), strict=True)
    return sum(
        math.prod(NamedSharding(over, spec).shard_shape(leaf.shape)) * leaf.dtype.itemsize for leaf, spec in pairs
    )


def _is_spec(x: Any) -> bool:
    return isinstance(x, PartitionSpec)

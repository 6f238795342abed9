"""Several processes that run one program (`jax.distributed`): who writes, what all decide, arrays that none has whole.

Every process calls the same functions in the same order. The docstring of a function names communication with others.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

GATHERED = 1 << 30
"""Bytes that are gathered on every device at once; an array that is larger comes alone."""


def is_first() -> bool:
    """True for the process that writes, which includes a single process."""
    return jax.process_index() == 0


def spans(mesh: Any) -> bool:
    """True if the devices of a mesh belong to several processes."""
    return len({device.process_index for device in mesh.devices.flat}) > 1


def wait(name: str) -> None:
    """Continue when every process has reached this call. Communicates with the others."""
    from jax.experimental import multihost_utils

    multihost_utils.sync_global_devices(name)


def any_of(*flags: bool) -> list[bool]:
    """Return, for each flag, whether it is true in any process. Communicates with the others."""
    from jax.experimental import multihost_utils

    return [bool(x) for x in np.any(multihost_utils.process_allgather(np.array(flags)), axis=0)]


def place(x: Any, sharding: Any) -> jax.Array:
    """An array that every process has whole, cut over devices of all of them; each puts its own parts there."""
    if _is_key(x):
        return jax.random.wrap_key_data(place(jax.random.key_data(x), sharding), impl=jax.random.key_impl(x))
    held = np.asarray(x)
    return jax.make_array_from_callback(held.shape, sharding, lambda index: held[index])


def on_host(tree: Any, keep: bool = True) -> Any:
    """The whole of every array of a tree, as NumPy arrays and typed keys of this process. Communicates with the others.

    Args:
        tree: arrays, perhaps of devices of other processes.
        keep: False where the arrays are not wanted; None stands for each then.
    """
    leaves, structure = jax.tree.flatten(tree)
    gathered_arrays: list[Any] = []
    for group in _groups([jax.random.key_data(x) if _is_key(x) else x for x in leaves]):
        remote = [i for i, x in enumerate(group) if _is_remote(x)]
        if remote:
            whole = NamedSharding(group[remote[0]].sharding.mesh, PartitionSpec())
            gathered = jax.jit(lambda *xs: xs, out_shardings=whole)(*(group[i] for i in remote))
            for i, x in zip(remote, gathered, strict=True):
                group[i] = x
        gathered_arrays += [np.asarray(x) if keep else None for x in group]
    if keep:
        pairs = zip(leaves, gathered_arrays, strict=True)
        gathered_arrays = [
            jax.random.wrap_key_data(y, impl=jax.random.key_impl(x)) if _is_key(x) else y for x, y in pairs
        ]
    return structure.unflatten(gathered_arrays)


def _groups(arrays: list[Any]) -> Iterator[list[Any]]:
    """Arrays in order, as many at once as may be gathered at once."""
    group, size = [], 0
    for x in arrays:
        if group and size + x.nbytes > GATHERED:
            yield group
            group, size = [], 0
        group.append(x)
        size += x.nbytes
    if group:
        yield group


def _is_remote(x: Any) -> bool:
    return isinstance(x, jax.Array) and not x.is_fully_addressable and not x.is_fully_replicated


def _is_key(x: Any) -> bool:
    return jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)

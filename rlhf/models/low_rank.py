"""Low-rank adapters of matrices, as layers read them (Hu et al. 2022, arXiv 2106.09685)."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import struct

SUFFIX = "_lora"
"""Suffix of an adapter: that of the matrix `q` is the parameter `q_lora`."""


@struct.dataclass
class LowRank:
    """Low-rank update of a matrix: `scale * a @ b`.

    Attributes:
        a: `[*inputs, r]`, after the axis of layers if they are stacked.
        b: `[r, *outputs]`.
        scale: alpha / r, static.
        key: key of the dropout of inputs, None without dropout.
        keep: probability of keeping an input.
    """

    a: jax.Array
    b: jax.Array
    scale: float = struct.field(pytree_node=False)
    key: jax.Array | None = None
    keep: float = struct.field(pytree_node=False, default=1.0)


def adapted(layer: nn.Module, name: str, x: jax.Array, y: jax.Array) -> jax.Array:
    """`y + scale * (x a) b` if the matrix has an adapter, else y; the sum of the matrices is never formed.

    Args:
        layer: whose matrix it is.
        name: name of the matrix.
        x: `[..., *inputs]`, what the matrix is applied to.
        y: `[..., *outputs]`, what it gives.
    """
    if not layer.has_variable("params", name + SUFFIX):
        return y
    adapter: LowRank = layer.get_variable("params", name + SUFFIX)
    if adapter.key is not None:
        x = jnp.where(jax.random.bernoulli(adapter.key, adapter.keep, x.shape), x / adapter.keep, 0.0).astype(x.dtype)
    inner = jnp.tensordot(x, adapter.a.astype(y.dtype), adapter.a.ndim - 1)
    return y + adapter.scale * jnp.tensordot(inner, adapter.b.astype(y.dtype), 1)

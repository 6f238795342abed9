"""Convolutions as matrix products, which are faster than XLA's convolutions inside loops on a CPU."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def convolved(
    images: Float[Array, "batch height width channels"],
    kernel: Float[Array, "rows columns channels features"],
    stride: int = 1,
) -> Float[Array, "batch newheight newwidth features"]:
    """Convolve images with a kernel, with padding "SAME".

    The shifted images, concatenated along their channels, are multiplied by the kernel. On a CPU, XLA uses a fast
    library for convolutions only outside of loops; a training step within a scan was 23 times slower than this.
    """
    batch, *size, channels = images.shape
    rows, columns = kernel.shape[:2]
    pads = jax.lax.padtype_to_pads(size, (rows, columns), (stride, stride), "SAME")
    padded = jnp.pad(images, ((0, 0), *pads, (0, 0)))
    height, width = (-(-side // stride) for side in size)

    def shifted(row: int, column: int) -> jax.Array:
        end = (batch, row + stride * (height - 1) + 1, column + stride * (width - 1) + 1, channels)
        return jax.lax.slice(padded, (0, row, column, 0), end, (1, stride, stride, 1))

    patches = jnp.concatenate([shifted(i, j) for i in range(rows) for j in range(columns)], axis=-1)
    return patches @ kernel.reshape(-1, kernel.shape[-1])


def _for_linen(images: Any, kernel: Any, strides: Sequence[int], padding: Any, **options: Any) -> jax.Array:
    """Adapter for `flax.linen.Conv`, which passes further arguments."""
    plain = all(set(jax.tree.leaves(options.get(name))) <= {1} for name in ("lhs_dilation", "rhs_dilation"))
    if padding != "SAME" or len(set(strides)) != 1 or not plain or options.get("feature_group_count", 1) != 1:
        raise ValueError("convolutions must have padding 'SAME', one stride, no dilation and one feature group")
    return convolved(images, kernel, strides[0])


Conv = partial(nn.Conv, conv_general_dilated=_for_linen)
"""`flax.linen.Conv` with the same parameters and results, computed by `convolved`."""

"""Attention of a decoder: positions, shared key-value heads, and a cache of earlier tokens."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from rlhf.models.architecture import ModelConfig
from rlhf.models.low_rank import adapted

LOWEST = float(np.finfo(np.float32).min)
"""Score of a masked key. It is finite, so that a query without an unmasked key gives a mean instead of NaN."""


class LayerCache(NamedTuple):
    """Keys and values of one layer, T slots.

    Attributes:
        keys: `[B, T, KV, D]`, already rotated.
        values: `[B, T, KV, D]`.
    """

    keys: jax.Array
    values: jax.Array


class Positions(NamedTuple):
    """Positional terms shared by all layers, for Q new tokens and K keys.

    Attributes:
        cos: `[B or 1, Q, D]` float32, of the rotations; None for ALiBi.
        sin: `[B or 1, Q, D]`.
        bias: `[B or 1, 1 or heads, Q, K]` float32, added to scores.
        start: slot of the first new token in the cache; None without a cache.
    """

    cos: jax.Array | None
    sin: jax.Array | None
    bias: jax.Array
    start: jax.Array | None


def inverse_wavelengths(config: ModelConfig) -> np.ndarray:
    """Rotation angle `[D / 2]` of each pair of dimensions from one token to the next.

    `theta^(-2i / D)` (Su et al. 2021), scaled as in Llama 3.1 if the model has `rope_scaling`.
    """
    plain = config.rope_theta ** (-np.arange(0, config.head_dim, 2, dtype=np.float64) / config.head_dim)
    scaling = config.rope_scaling
    if scaling is None:
        return plain
    turns = scaling.original_length * plain / (2 * math.pi)  # in a text of the original length
    share = (turns - scaling.low_frequency) / (scaling.high_frequency - scaling.low_frequency)
    share = np.clip(share, 0.0, 1.0)
    return plain * (share + (1.0 - share) / scaling.factor)


def rotations(config: ModelConfig, positions: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Cosines and sines `[..., D]` for positions `[...]`, in float32: 256 and 257 are equal in bfloat16."""
    angles = positions.astype(jnp.float32)[..., None] * jnp.asarray(inverse_wavelengths(config), jnp.float32)
    angles = jnp.concatenate([angles, angles], axis=-1)
    return jnp.cos(angles), jnp.sin(angles)


def rotate(x: jax.Array, cos: jax.Array, sin: jax.Array) -> jax.Array:
    """Rotate the pairs `(x_i, x_(i + D/2))` of `[B, Q, heads, D]` in float32; the result has the type of x."""
    wide = x.astype(jnp.float32)
    low, high = jnp.split(wide, 2, axis=-1)
    turned = jnp.concatenate([-high, low], axis=-1)
    return (wide * cos[:, :, None] + turned * sin[:, :, None]).astype(x.dtype)


def alibi_slopes(num_heads: int) -> np.ndarray:
    """Slopes `[heads]`, the decrease of a head's score per token of distance (Press, Smith and Lewis 2022).

    A power of two gives a geometric sequence; otherwise the largest power of two below is followed by every other
    entry of the next one.
    """

    def geometric(n: int) -> np.ndarray:
        return 2.0 ** (-8.0 / n * np.arange(1, n + 1))

    below = 2 ** math.floor(math.log2(num_heads))
    return np.concatenate([geometric(below), geometric(2 * below)[0::2][: num_heads - below]])


def score_bias(config: ModelConfig, queries: jax.Array, keys: jax.Array, seen: jax.Array) -> jax.Array:
    """Bias on the scores of keys for queries: `[B or 1, 1 or heads, Q, K]`, float32.

    Args:
        config: configuration of the model.
        queries: `[Q]`, columns of the queries.
        keys: `[K]`, columns of the keys.
        seen: `[B, K]`, False for padding.
    """
    distance = (queries[:, None] - keys[None, :])[None, None]
    allowed = (distance >= 0) & seen[:, None, None, :]
    bias = jnp.zeros((1, 1, 1, 1), jnp.float32)
    if config.position == "alibi":
        # The exact bias slope * (j - i). Adding slope * j in bfloat16, as the published code does, rounds to multiples
        # of 16 at the end of a long text.
        slopes = jnp.asarray(alibi_slopes(config.num_heads), jnp.float32)
        bias = -slopes[None, :, None, None] * distance.astype(jnp.float32)
    return jnp.where(allowed, bias, LOWEST)


class Attention(nn.Module):
    """Attention of one layer.

    `num_heads / num_kv_heads` query heads share one key-value head. Scores and their softmax are float32.
    """

    config: ModelConfig
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: jax.Array, positions: Positions, cache: LayerCache | None = None
    ) -> tuple[jax.Array, LayerCache | None]:
        """`x [B, Q, H] -> [B, Q, H]`, and the cache including the new keys and values."""
        config = self.config
        batch, length, _ = x.shape

        def project(name: str, heads: int) -> jax.Array:
            shape = (config.hidden_size, heads, config.head_dim)
            kernel = self.param(name, nn.initializers.normal(config.init_std), shape, self.param_dtype)
            return adapted(self, name, x, jnp.einsum("bqh,hnd->bqnd", x, kernel.astype(self.dtype)))

        q = project("q", config.num_heads)
        k, v = project("k", config.num_kv_heads), project("v", config.num_kv_heads)
        if positions.cos is not None and positions.sin is not None:
            q, k = rotate(q, positions.cos, positions.sin), rotate(k, positions.cos, positions.sin)
        if cache is not None and positions.start is not None:
            at = (0, positions.start, 0, 0)
            cache = LayerCache(
                jax.lax.dynamic_update_slice(cache.keys, k.astype(cache.keys.dtype), at),
                jax.lax.dynamic_update_slice(cache.values, v.astype(cache.values.dtype), at),
            )
            k, v = cache.keys.astype(self.dtype), cache.values.astype(self.dtype)
        groups = config.num_heads // config.num_kv_heads
        q = q.reshape(batch, length, config.num_kv_heads, groups, config.head_dim)
        scores = jnp.einsum("bqngd,bknd->bngqk", q, k, preferred_element_type=jnp.float32)
        scores = scores / math.sqrt(config.head_dim) + _by_group(positions.bias, config.num_kv_heads)
        weights = jax.nn.softmax(scores, axis=-1).astype(self.dtype)
        mixed = jnp.einsum("bngqk,bknd->bqngd", weights, v).reshape(batch, length, config.num_heads, config.head_dim)
        shape = (config.num_heads, config.head_dim, config.hidden_size)
        out = self.param("o", nn.initializers.normal(config.init_std), shape, self.param_dtype)
        return adapted(self, "o", mixed, jnp.einsum("bqnd,ndh->bqh", mixed, out.astype(self.dtype))), cache


def _by_group(bias: jax.Array, num_kv_heads: int) -> jax.Array:
    """`[B, heads or 1, Q, K] -> [B, KV or 1, group or 1, Q, K]`."""
    if bias.shape[1] == 1:
        return bias[:, :, None]
    return bias.reshape(bias.shape[0], num_kv_heads, -1, *bias.shape[2:])

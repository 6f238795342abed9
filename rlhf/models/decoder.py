"""Decoder of a language model: embedding, pre-norm blocks and last norm, with or without a cache."""

from __future__ import annotations

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import struct

from rlhf.models.architecture import ModelConfig
from rlhf.models.attention import Attention, LayerCache, Positions, rotations, score_bias
from rlhf.models.low_rank import adapted
from rlhf.parallel import sharding


@struct.dataclass
class Cache:
    """Keys and values of the tokens so far, T slots.

    Attributes:
        layers: keys and values `[layers, B, T, KV, D]`.
        seen: `[B, T]`, True for slots with a token that is not padding.
        length: `[]` int32, slots in use.
    """

    layers: LayerCache
    seen: jax.Array
    length: jax.Array


def empty_cache(config: ModelConfig, batch: int, slots: int, dtype: Any = jnp.float32) -> Cache:
    """A cache for texts of at most `slots` tokens, padding included."""
    shape = (config.num_layers, batch, slots, config.num_kv_heads, config.head_dim)
    empty = sharding.constrain(jnp.zeros(shape, dtype), "layers", "batch", None, "kv_heads", None)
    return Cache(
        layers=LayerCache(empty, empty),
        seen=jnp.zeros((batch, slots), bool),
        length=jnp.zeros((), jnp.int32),
    )


class RMSNorm(nn.Module):
    """`x / sqrt(mean(x^2) + eps) * scale`, the mean in float32 (Zhang and Sennrich 2019)."""

    eps: float
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Normalise the last axis."""
        scale = self.param("scale", nn.initializers.ones, (x.shape[-1],), self.param_dtype)
        wide = x.astype(jnp.float32)
        wide = wide * jax.lax.rsqrt(jnp.mean(jnp.square(wide), axis=-1, keepdims=True) + self.eps)
        return wide.astype(self.dtype) * scale.astype(self.dtype)


class MLP(nn.Module):
    """`down(silu(gate x) * up x)`."""

    config: ModelConfig
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """`[B, Q, H] -> [B, Q, H]`."""

        def times(name: str, x: jax.Array, columns: int) -> jax.Array:
            init = nn.initializers.normal(self.config.init_std)
            kernel = self.param(name, init, (x.shape[-1], columns), self.param_dtype)
            return adapted(self, name, x, x @ kernel.astype(self.dtype))

        hidden, inner = self.config.hidden_size, self.config.intermediate_size
        gated = jax.nn.silu(times("gate", x, inner)) * times("up", x, inner)
        return times("down", gated, hidden)


class Block(nn.Module):
    """One layer: attention and the gated MLP, each with a preceding norm and a residual connection."""

    config: ModelConfig
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: jax.Array, positions: Positions, cache: LayerCache | None
    ) -> tuple[jax.Array, LayerCache | None]:
        """`x [B, Q, H] -> [B, Q, H]`, and the layer's cache."""
        config, types = self.config, (self.dtype, self.param_dtype)
        normed = RMSNorm(config.norm_eps, *types, name="ln_1")(x)
        mixed, cache = Attention(config, *types, name="attention")(normed, positions, cache)
        x = x + mixed
        normed = RMSNorm(config.norm_eps, *types, name="ln_2")(x)
        return x + MLP(config, *types, name="mlp")(normed), cache


class Decoder(nn.Module):
    """Map token ids to the hidden states after the last norm.

    Layers are one block scanned over stacked parameters, so that compile time does not grow with depth.

    Attributes:
        config: configuration of the model.
        dtype: type of activations and matrix products.
        param_dtype: type of the parameters.
        remat: store only the input of each layer, and recompute the rest in the backward pass.
    """

    config: ModelConfig
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32
    remat: bool = False

    @nn.compact
    def __call__(
        self, ids: jax.Array, mask: jax.Array | None = None, cache: Cache | None = None
    ) -> tuple[jax.Array, Cache | None]:
        """Hidden states of new tokens.

        Positions are columns. Padding on the left shifts them, which changes nothing, because rotations and ALiBi
        depend on differences only.

        Args:
            ids: `[B, Q]`.
            mask: `[B, Q]`, False for padding; None without padding.
            cache: cache of earlier tokens, with room for the new ones.

        Returns:
            `[B, Q, H]`, and the cache including the new tokens.
        """
        config = self.config
        init = nn.initializers.normal(config.init_std)
        table = self.param("embedding", init, (config.vocab_size, config.hidden_size), self.param_dtype)
        x = jnp.take(table, ids, axis=0).astype(self.dtype)
        # On a mesh a device looks up its part of the hidden size, for the rows of its whole copy of the model.
        x = sharding.constrain_rows(sharding.constrain(x, "copy", None, "embed"))
        mask = jnp.ones(ids.shape, bool) if mask is None else mask
        positions, cache = _positions(config, mask, cache)

        def block(module: Block, x: jax.Array, cache: LayerCache | None) -> tuple[jax.Array, LayerCache | None]:
            x, cache = module(x, positions, cache)
            return sharding.constrain_rows(x), cache

        scanned = nn.scan(
            nn.remat(block, prevent_cse=False) if self.remat else block,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            length=config.num_layers,
            in_axes=0,
            out_axes=0,
        )
        blocks = Block(config, self.dtype, self.param_dtype, name="layers")
        x, layers = scanned(blocks, x, cache.layers if cache else None)
        if cache is not None:
            cache = dataclasses.replace(cache, layers=layers)
        return RMSNorm(config.norm_eps, self.dtype, self.param_dtype, name="ln_f")(x), cache


def _positions(config: ModelConfig, mask: jax.Array, cache: Cache | None) -> tuple[Positions, Cache | None]:
    """Rotations and biases of new tokens, and the cache including their mask."""
    new = jnp.arange(mask.shape[1])
    start = None
    if cache is None:
        seen, keys = mask, new
    else:
        start = cache.length
        new = new + start
        seen = jax.lax.dynamic_update_slice(cache.seen, mask, (0, start))
        keys = jnp.arange(seen.shape[1])
        cache = dataclasses.replace(cache, seen=seen, length=start + mask.shape[1])
    cos, sin = rotations(config, new[None]) if config.position == "rope" else (None, None)
    return Positions(cos, sin, score_bias(config, new, keys, seen), start), cache

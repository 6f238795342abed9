"""Heads on a decoder: logits of the next token, scores, or logits of labels."""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import flax.linen as nn
import jax
import jax.numpy as jnp

from rlhf.models.architecture import ModelConfig
from rlhf.models.decoder import Cache, Decoder
from rlhf.parallel import sharding


def unit_rows(weight: jax.Array) -> jax.Array:
    """Rows of `[V, H]` scaled to length one, in float32 (Baichuan 2's NormHead; rows of zeros stay zero)."""
    wide = weight.astype(jnp.float32)
    return wide / jnp.maximum(jnp.linalg.norm(wide, axis=-1, keepdims=True), 1e-12)


class LanguageModel(nn.Module):
    """A decoder with an output layer over the vocabulary.

    Attributes:
        config: configuration of the model.
        dtype: type of activations and matrix products.
        param_dtype: type of the parameters.
        remat: see `Decoder`.
        head_is_unit: the stored output layer already has unit rows, so that generation need not scale it per token.
        loss_chunk: tokens whose logits a loss keeps in memory (`rlhf.losses.chunked_logits`), 0 for the whole batch.
    """

    config: ModelConfig
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32
    remat: bool = False
    head_is_unit: bool = False
    loss_chunk: int = 0

    def setup(self) -> None:
        """Create the submodules."""
        config = self.config
        self.decoder = Decoder(config, self.dtype, self.param_dtype, self.remat)
        if not config.tied:
            # Kaiming uniform with a = sqrt(5), which is U(-1 / sqrt(H), 1 / sqrt(H)), for NormHead.
            width = config.hidden_size**-0.5
            init = _uniform(width) if config.norm_head else nn.initializers.normal(config.init_std)
            self.head = self.param("head", init, (config.vocab_size, config.hidden_size), self.param_dtype)

    def hidden(
        self, ids: jax.Array, mask: jax.Array | None = None, cache: Cache | None = None
    ) -> tuple[jax.Array, Cache | None]:
        """Hidden states `[B, Q, H]` and the cache."""
        return self.decoder(ids, mask, cache)

    def logits(self, hidden: jax.Array) -> jax.Array:
        """`[..., H] -> [..., V]`, in float32."""
        weight = self.output_layer().astype(self.dtype)
        logits = jnp.einsum("...h,vh->...v", hidden, weight, preferred_element_type=jnp.float32)
        return sharding.constrain(logits, "batch", *(None,) * (logits.ndim - 2), "vocab")

    def output_layer(self) -> jax.Array:
        """`[V, H]`, with unit rows if the model has them."""
        weight = self.decoder.variables["params"]["embedding"] if self.config.tied else self.head
        return unit_rows(weight) if self.config.norm_head and not self.head_is_unit else weight

    def __call__(
        self, ids: jax.Array, mask: jax.Array | None = None, cache: Cache | None = None
    ) -> tuple[jax.Array, Cache | None]:
        """Logits `[B, Q, V]` of the token after each, in float32, and the cache."""
        hidden, cache = self.hidden(ids, mask, cache)
        return self.logits(hidden), cache


class Scores(NamedTuple):
    """Output of a score model.

    Attributes:
        scores: `[B, L, S]` float32, scores of each token.
        end_scores: `[B, S]`, scores of the last token that is not padding.
        end: `[B]` int32, column of that token.
    """

    scores: jax.Array
    end_scores: jax.Array
    end: jax.Array


class ScoreModel(nn.Module):
    """A decoder with a linear layer: a reward or cost model, a critic, or a classifier of `size` labels.

    Attributes:
        config: configuration of the model.
        size: S, number of scores.
        bias: True for a linear layer with a bias.
        dtype: type of activations and matrix products.
        param_dtype: type of the parameters.
        remat: see `Decoder`.
    """

    config: ModelConfig
    size: int = 1
    bias: bool = True
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32
    remat: bool = False

    @nn.compact
    def __call__(self, ids: jax.Array, mask: jax.Array) -> Scores:
        """Score `ids [B, L]`; `mask [B, L]` is False for padding."""
        config = self.config
        hidden, _ = Decoder(config, self.dtype, self.param_dtype, self.remat, name="decoder")(ids, mask)
        kernel = self.param(
            "score_head", nn.initializers.normal(config.init_std), (config.hidden_size, self.size), self.param_dtype
        )
        scores = hidden.astype(jnp.float32) @ kernel.astype(jnp.float32)
        if self.bias:
            scores = scores + self.param("score_bias", nn.initializers.zeros, (self.size,), self.param_dtype)
        if config.score_words:
            words = self.param("score_words", nn.initializers.zeros, (config.vocab_size, self.size), self.param_dtype)
            scores = scores + words.astype(jnp.float32)[ids]
        if config.score_pooling == "mean":
            counted = mask & after(ids, config.score_after)
            scores = mean_so_far(scores, counted, config.score_shrinkage)
            if config.score_openings:
                shape = (config.vocab_size, self.size)
                openings = self.param("score_openings", nn.initializers.zeros, shape, self.param_dtype)
                scores = scores + openings_so_far(openings.astype(jnp.float32)[ids], counted, config.score_openings)
        end = last_token(mask)
        return Scores(scores, jnp.take_along_axis(scores, end[:, None, None], axis=1)[:, 0], end)


def score_tokens(model: ScoreModel, params: Any, ids: Any, mask: Any) -> Scores:
    """Scores of texts `[B, L]` under a score model."""
    return cast(Scores, model.apply({"params": params}, ids, mask))


def mean_so_far(scores: jax.Array, counted: jax.Array, shrinkage: float = 0.0) -> jax.Array:
    """Running mean `[B, L, S]` of the scores of counted tokens and of `shrinkage` scores of 0.

    Tokens before the first counted one have their own score.
    """
    count = jnp.cumsum(counted, axis=1)[..., None]
    mean = jnp.cumsum(jnp.where(counted[..., None], scores, 0.0), axis=1) / jnp.maximum(count + shrinkage, 1)
    return jnp.where(count > 0, mean, scores)


def opening(counted: jax.Array, number: int) -> jax.Array:
    """Mask `[B, L]` of the first `number` counted tokens."""
    return counted & (jnp.cumsum(counted, axis=1) <= number)


def openings_so_far(scores: jax.Array, counted: jax.Array, number: int) -> jax.Array:
    """Running sum `[B, L, S]` of the scores of the first `number` counted tokens, divided by `number`."""
    return jnp.cumsum(jnp.where(opening(counted, number)[..., None], scores, 0.0), axis=1) / number


def after(ids: jax.Array, marker: tuple[int, ...]) -> jax.Array:
    """Mask `[B, L]` of the tokens after the last occurrence of `marker`; all tokens of a text without it."""
    columns, size = jnp.arange(ids.shape[1]), len(marker)
    if not 0 < size <= ids.shape[1]:
        return jnp.ones(ids.shape, bool)
    starts = ids.shape[1] - size + 1
    matches = jnp.all(jnp.stack([ids[:, i : i + starts] == token for i, token in enumerate(marker)]), axis=0)
    end = jnp.max(jnp.where(matches, columns[:starts] + size, 0), axis=1)
    return columns >= end[:, None]


def last_token(mask: jax.Array) -> jax.Array:
    """Column `[B]` of the last True of `[B, L]`; 0 in a row without a True."""
    return jnp.where(jnp.any(mask, axis=-1), mask.shape[-1] - 1 - jnp.argmax(mask[:, ::-1], axis=-1), 0)


def _uniform(width: float) -> nn.initializers.Initializer:
    def init(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
        return jax.random.uniform(key, shape, dtype, -width, width)

    return init

"""Sampling of answers: one compiled function for the prompt and all generated tokens."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rlhf.config import SamplingConfig
from rlhf.models.decoder import empty_cache
from rlhf.models.heads import LanguageModel


class Answers(NamedTuple):
    """Prompts followed by answers.

    Attributes:
        ids: `[B, S + N]`, prompt and answer, padded after the end of the answer.
        mask: `[B, S + N]`, False for padding; the end-of-text token counts as answer.
        steps: `[]` int32, tokens sampled until all rows ended.
    """

    ids: jax.Array
    mask: jax.Array
    steps: jax.Array


def shaped(logits: jax.Array, used: jax.Array, sampling: SamplingConfig) -> jax.Array:
    """Logits `[B, V]` to sample a token from; excluded tokens have minus infinity.

    Args:
        logits: `[B, V]` float32.
        used: `[B, V]` bool, tokens of prompt and answer.
        sampling: sampling options.
    """
    penalty = sampling.repetition_penalty
    if penalty != 1.0:
        logits = jnp.where(used, jnp.where(logits > 0.0, logits / penalty, logits * penalty), logits)
    if sampling.temperature not in (0.0, 1.0):
        logits = logits / sampling.temperature
    if 0 < sampling.top_k < logits.shape[-1]:
        least = jax.lax.top_k(logits, sampling.top_k)[0][:, -1:]
        logits = jnp.where(logits < least, -jnp.inf, logits)
    if sampling.top_p < 1.0:
        order = jnp.argsort(-logits, axis=-1, stable=True)
        likely = jax.nn.softmax(jnp.take_along_axis(logits, order, axis=-1), axis=-1)
        # A token stays while the sum before it is below top_p, so the token that reaches top_p stays too.
        stays = jnp.cumsum(likely, axis=-1) - likely < sampling.top_p
        kept = jnp.zeros_like(stays).at[jnp.arange(len(order))[:, None], order].set(stays)
        logits = jnp.where(kept, logits, -jnp.inf)
    return logits


def generate(
    model: LanguageModel,
    variables: Any,
    key: jax.Array,
    ids: jax.Array,
    mask: jax.Array,
    sampling: SamplingConfig,
    *,
    pad: int,
    cache_dtype: Any = None,
) -> Answers:
    """Sample answers to prompts; `model`, `sampling` and `pad` are static under `jit`.

    Args:
        model: the language model.
        variables: variables of the model.
        key: a typed key.
        ids: `[B, S]`, prompts, padded on the left.
        mask: `[B, S]`, False for padding.
        sampling: sampling options.
        pad: id of padding.
        cache_dtype: type of cached keys and values; None for that of the model's activations.
    """
    batch, start = ids.shape
    total = start + sampling.max_new_tokens
    config = model.config
    empty = empty_cache(config, batch, total, model.dtype if cache_dtype is None else cache_dtype)
    hidden, cache = model.apply(variables, ids, mask, empty, method=LanguageModel.hidden)
    rows = jnp.arange(batch)
    used = jnp.zeros((batch, config.vocab_size), bool).at[rows[:, None], ids].max(mask)

    def logits_of(hidden: jax.Array) -> jax.Array:
        return jnp.asarray(model.apply(variables, hidden[:, -1], method=LanguageModel.logits))

    def draw(logits: jax.Array, used: jax.Array, number: jax.Array) -> jax.Array:
        final = shaped(logits, used, sampling)
        if sampling.temperature == 0.0:
            return jnp.argmax(final, axis=-1)
        return jax.random.categorical(jax.random.fold_in(key, number), final)

    def grow(carry: tuple[Any, ...]) -> tuple[Any, ...]:
        number, ids, mask, used, ended, logits, cache = carry
        token = jnp.where(ended, pad, draw(logits, used, number)).astype(ids.dtype)
        column = start + number
        ids = jax.lax.dynamic_update_slice(ids, token[:, None], (0, column))
        mask = jax.lax.dynamic_update_slice(mask, ~ended[:, None], (0, column))
        used = used.at[rows, jnp.minimum(token, config.vocab_size - 1)].max(~ended)
        hidden, cache = model.apply(variables, token[:, None], ~ended[:, None], cache, method=LanguageModel.hidden)
        ended = ended | jnp.isin(token, jnp.asarray(config.ends))
        return number + 1, ids, mask, used, ended, logits_of(hidden), cache

    begin = (
        jnp.zeros((), jnp.int32),
        jnp.full((batch, total), pad, ids.dtype).at[:, :start].set(ids),
        jnp.zeros((batch, total), bool).at[:, :start].set(mask),
        used,
        jnp.zeros(batch, bool),
        logits_of(hidden),
        cache,
    )
    number, ids, mask, *_ = jax.lax.while_loop(
        lambda carry: (carry[0] < sampling.max_new_tokens) & ~jnp.all(carry[4]), grow, begin
    )
    return Answers(ids, mask, number)

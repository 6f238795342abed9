"""Drawing answers: one compiled function for the prompt and all tokens that follow it."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rlhf.models.decoder import empty_cache
from rlhf.models.heads import LanguageModel


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sampling:
    """How the next token is drawn: the penalty first, then temperature, `top_k`, `top_p`, as Hugging Face does.

    Attributes:
        max_new_tokens: longest answer.
        temperature: 0 takes the most likely token.
        top_k: draw from so many tokens, 0 for all.
        top_p: draw from the fewest tokens that have this probability together.
        repetition_penalty: above 1 makes tokens of prompt and answer less likely; positive logits are divided by it,
            negative ones multiplied (Keskar et al. 2019).
    """

    max_new_tokens: int
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    repetition_penalty: float = 1.0

    def __post_init__(self) -> None:
        """Refuse what makes no sense.

        Raises:
            ValueError: the message names the setting, its value and what was expected.
        """
        if self.max_new_tokens < 1:
            raise ValueError(f"max_new_tokens must be at least 1, got {self.max_new_tokens}")
        if not 0.0 <= self.temperature < float("inf"):
            raise ValueError(f"temperature must be at least 0, got {self.temperature}")
        if self.top_k < 0:
            raise ValueError(f"top_k must be at least 0, got {self.top_k}")
        if not 0.0 < self.top_p <= 1.0:
            raise ValueError(f"top_p must be above 0 and at most 1, got {self.top_p}")
        if not self.repetition_penalty > 0.0:
            raise ValueError(f"repetition_penalty must be above 0, got {self.repetition_penalty}")


class Answers(NamedTuple):
    """Prompts with answers behind them.

    Attributes:
        ids: `[B, S + N]`, prompt and answer, padded after the answer's end.
        mask: `[B, S + N]`, False for padding; the end of a text counts.
        steps: `[]` int32, tokens drawn before all rows had ended.
    """

    ids: jax.Array
    mask: jax.Array
    steps: jax.Array


def shaped(logits: jax.Array, used: jax.Array, sampling: Sampling) -> jax.Array:
    """Logits `[B, V]` that a token is drawn from; tokens that are left out have minus infinity.

    Args:
        logits: `[B, V]` float32.
        used: `[B, V]` bool, tokens of prompt and answer.
        sampling: how.
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
        # A token stays while those before it fall short of top_p, so that the one that reaches it stays too.
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
    sampling: Sampling,
    *,
    pad: int,
    cache_dtype: Any = jnp.float32,
) -> Answers:
    """Answer prompts; to be jitted with `model`, `sampling` and `pad` static.

    Args:
        model: the language model.
        variables: its parameters.
        key: a typed key.
        ids: `[B, S]`, prompts, padded on the left.
        mask: `[B, S]`, False for padding.
        sampling: how tokens are drawn.
        pad: id to fill up with.
        cache_dtype: of keys and values.
    """
    batch, start = ids.shape
    total = start + sampling.max_new_tokens
    config = model.config
    hidden, cache = model.apply(
        variables, ids, mask, empty_cache(config, batch, total, cache_dtype), method=LanguageModel.hidden
    )
    rows = jnp.arange(batch)
    used = jnp.zeros((batch, config.vocab_size), bool).at[rows[:, None], ids].max(mask)

    def logits_of(hidden: jax.Array) -> jax.Array:
        return jnp.asarray(model.apply(variables, hidden[:, -1], method=LanguageModel.logits))

    def draw(logits: jax.Array, used: jax.Array, number: jax.Array) -> jax.Array:
        found = shaped(logits, used, sampling)
        if sampling.temperature == 0.0:
            return jnp.argmax(found, axis=-1)
        return jax.random.categorical(jax.random.fold_in(key, number), found)

    def grow(carry: tuple[Any, ...]) -> tuple[Any, ...]:
        number, ids, mask, used, ended, logits, cache = carry
        token = jnp.where(ended, pad, draw(logits, used, number)).astype(ids.dtype)
        column = start + number
        ids = jax.lax.dynamic_update_slice(ids, token[:, None], (0, column))
        mask = jax.lax.dynamic_update_slice(mask, ~ended[:, None], (0, column))
        used = used.at[rows, jnp.minimum(token, config.vocab_size - 1)].max(~ended)
        hidden, cache = model.apply(variables, token[:, None], ~ended[:, None], cache, method=LanguageModel.hidden)
        ended = ended | (token == config.eos_id)
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

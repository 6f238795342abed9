"""Random changes of texts in training."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jsafe.supervised import Augment
from rlhf.data.encoding import Labelled, Supervised
from rlhf.data.preference_batch import PreferenceBatch
from rlhf.tokenizer.tokenizer import Tokenizer

SCORED = {"ids": "mask", "chosen": "chosen_mask", "rejected": "rejected_mask"}
"""Fields of texts that are scored, with their masks."""


def token_dropout(rate: float, tokenizer: Tokenizer) -> Augment | None:
    """Leave out each token with probability `rate`, except the start and the end of a text.

    The remaining tokens must suffice to distinguish texts, so that a model cannot memorise a few texts (word dropout,
    Iyyer et al. 2015). In texts that are scored, dropped tokens count as padding, so that a score is computed from the
    remaining tokens. In texts for language modelling, they are read as padding, and the next token is still predicted.
    None for a rate of 0.

    Args:
        rate: between 0 and 1.
        tokenizer: tokenizer of the texts.
    """
    if not rate:
        return None
    kept = [i for i in (tokenizer.bos, tokenizer.eos) if i is not None]

    def apply(key: jax.Array, batch: Any) -> Any:
        def gone(ids: jax.Array, number: int) -> jax.Array:
            drawn = jax.random.bernoulli(jax.random.fold_in(key, number), rate, ids.shape)
            return drawn & ~jnp.isin(ids, jnp.asarray(kept, ids.dtype))

        if isinstance(batch, Supervised):
            pad = jnp.asarray(tokenizer.pad, batch.ids.dtype)
            return batch._replace(ids=jnp.where(gone(batch.ids, 0), pad, batch.ids))  # type: ignore[arg-type]
        if not isinstance(batch, PreferenceBatch | Labelled):
            raise TypeError(f"token_dropout is for texts that are learned or scored, got {type(batch).__name__}")
        texts = [(name, seen) for name, seen in SCORED.items() if name in batch._fields]
        return batch._replace(
            **{seen: getattr(batch, seen) & ~gone(getattr(batch, name), i) for i, (name, seen) in enumerate(texts)}
        )

    return apply

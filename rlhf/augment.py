"""What changes texts at random while a model learns from them."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from rlhf.tokens import Tokenizer
from rlhf.training import Augment

TEXTS = ("ids", "better", "worse")


def token_dropout(rate: float, tokenizer: Tokenizer) -> Augment | None:
    """Hide each token with probability `rate` behind the padding's, except the start and the end of a text.

    What is left must do to tell texts apart, so that a model cannot learn few texts by heart (word dropout, Iyyer et
    al. 2015). None for a rate of 0.

    Args:
        rate: between 0 and 1.
        tokenizer: of the texts.
    """
    if not rate:
        return None
    kept = [i for i in (tokenizer.bos, tokenizer.eos) if i is not None]

    def apply(key: jax.Array, batch: Any) -> Any:
        hidden = {}
        for number, name in enumerate(n for n in TEXTS if n in batch._fields):
            ids = getattr(batch, name)
            gone = jax.random.bernoulli(jax.random.fold_in(key, number), rate, ids.shape)
            gone &= ~jnp.isin(ids, jnp.asarray(kept, ids.dtype))
            hidden[name] = jnp.where(gone, jnp.asarray(tokenizer.pad, ids.dtype), ids)
        return batch._replace(**hidden)

    return apply

"""Log-probabilities and cross-entropy of language models, from logits or from a model and its texts."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from rlhf.data.encoding import Supervised
from rlhf.losses import chunked_logits
from rlhf.losses.chunked_logits import Predictions
from rlhf.models.heads import LanguageModel

Array = Any


def token_log_probs(logits: jax.Array, ids: jax.Array) -> jax.Array:
    """Log-probabilities `[B, L - 1]` of tokens 1 to L - 1, from logits `[B, L, V]`."""
    return chunked_logits.from_logits(logits[:, :-1], ids[:, 1:]).log_probs


def cross_entropy_from_logits(logits: jax.Array, labels: jax.Array, z_loss_weight: float = 0.0) -> jax.Array:
    """`cross_entropy` from logits `[B, L, V]`."""
    targets = jnp.maximum(labels[:, 1:], 0)
    predictions = chunked_logits.from_logits(logits[:, :-1], targets, largest=bool(z_loss_weight))
    return cross_entropy(predictions, labels, z_loss_weight)


def cross_entropy(
    predictions: Predictions, labels: jax.Array, z_loss_weight: float = 0.0, share: Array = None
) -> jax.Array:
    """Mean cross-entropy of the tokens whose label is not negative; the label of column t is token t.

    A `z_loss_weight` adds that weight times the mean over all columns of the squared largest logit (Baichuan 2,
    section 1.5), padding included, as published.

    Args:
        predictions: `[B, L - 1]`, of tokens 1 to L - 1, with the largest logits if `z_loss_weight` is positive.
        labels: `[B, L]`.
        z_loss_weight: weight of the squared largest logits.
        share: weight of the cross-entropy alone, `Supervised.share`.
    """
    counted = labels[:, 1:] >= 0
    loss = -jnp.sum(jnp.where(counted, predictions.log_probs, 0.0)) / jnp.maximum(jnp.sum(counted), 1)
    if share is not None:
        loss = loss * share
    if predictions.largest is None:
        return loss
    return loss + z_loss_weight * jnp.mean(jnp.square(predictions.largest))


def predict(
    model: LanguageModel, params: Any, ids: Array, mask: Array, targets: Array, *, largest: bool = False
) -> Predictions:
    """Predictions of the tokens `[B, L - 1]` that follow each column of texts `[B, L]`.

    Logits are computed all at once, or in chunks of the model's `loss_chunk` tokens.
    """
    variables = {"params": params}
    if not model.loss_chunk or model.loss_chunk >= targets.size:
        logits, _ = model.apply(variables, ids, mask)
        return chunked_logits.from_logits(logits[:, :-1], targets, largest=largest)
    hidden, _ = model.apply(variables, ids, mask, method=LanguageModel.hidden)
    layer = jnp.asarray(model.apply(variables, method=LanguageModel.output_layer)).astype(model.dtype)
    return chunked_logits.from_hidden(hidden[:, :-1], layer, targets, model.loss_chunk, largest=largest)


def log_probs(model: LanguageModel, params: Any, ids: Array, mask: Array) -> jax.Array:
    """Log-probabilities `[B, L - 1]` of tokens 1 to L - 1."""
    return predict(model, params, ids, mask, ids[:, 1:]).log_probs


def language_model_loss(model: LanguageModel, params: Any, batch: Supervised, z_loss_weight: float = 0.0) -> jax.Array:
    """`cross_entropy` of texts under a model."""
    targets = jnp.maximum(batch.labels[:, 1:], 0)
    predictions = predict(model, params, batch.ids, batch.mask, targets, largest=bool(z_loss_weight))
    return cross_entropy(predictions, batch.labels, z_loss_weight, batch.share)

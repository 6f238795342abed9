"""Objectives of the supervised stages: a model and a loss of `rlhf.losses`, as a function of parameters and batch."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jsafe.padded_batches import in_batches
from jsafe.supervised import Loss, LossOutput
from rlhf.data.encoding import Array, Labelled, Supervised
from rlhf.data.preference_batch import PreferenceBatch
from rlhf.losses import preference
from rlhf.losses.language_model import language_model_loss, log_probs
from rlhf.models.heads import LanguageModel, ScoreModel, score_tokens


def share_by_learned_tokens(parts: Supervised) -> Supervised:
    """Weight the parts of a batch by their learned tokens, so that the mean over parts is the mean over all tokens.

    Args:
        parts: arrays `[parts, B, L]`.
    """
    learned = jnp.sum(parts.labels[..., 1:] >= 0, axis=(1, 2))
    return parts._replace(share=learned / jnp.maximum(jnp.mean(learned), 1.0 / len(learned)))


def supervised(model: LanguageModel) -> Loss:
    """Cross-entropy of answers, plus the max-z loss of models that have one. Batches are `Supervised`."""

    def loss(params: Any, batch: Supervised) -> LossOutput:
        return LossOutput(language_model_loss(model, params, batch, model.config.z_loss_weight))

    return loss


def _score_both(model: ScoreModel, params: Any, batch: PreferenceBatch) -> tuple[jax.Array, jax.Array]:
    """Scores `[B, L]` of chosen and rejected answers, from one forward pass over all of them."""
    ids = jnp.concatenate([batch.chosen, batch.rejected])
    mask = jnp.concatenate([batch.chosen_mask, batch.rejected_mask])
    chosen, rejected = jnp.split(score_tokens(model, params, ids, mask).scores[..., 0], 2)
    return chosen, rejected


def _end_scores(chosen: jax.Array, rejected: jax.Array, batch: PreferenceBatch) -> jax.Array:
    return jnp.concatenate(preference.end_scores(chosen, rejected, batch))[:, None]


def reward(model: ScoreModel, *, regularization: float = 0.001, level: str = "sequence") -> Loss:
    """Bradley-Terry loss. Batches are `PreferenceBatch`; the chosen answer is the more helpful one."""

    def loss(params: Any, batch: PreferenceBatch) -> LossOutput:
        scores = _score_both(model, params, batch)
        value, metrics = preference.reward_loss(*scores, batch, regularization=regularization, level=level)
        return LossOutput(value, metrics, _end_scores(*scores, batch))

    return loss


def cost(model: ScoreModel, *, regularization: float = 0.001, level: str = "sequence") -> Loss:
    """Pairwise loss plus loss of the sign. Batches are `PreferenceBatch`; the chosen answer is the less harmful one."""

    def loss(params: Any, batch: PreferenceBatch) -> LossOutput:
        scores = _score_both(model, params, batch)
        value, metrics = preference.cost_loss(*scores, batch, regularization=regularization, level=level)
        return LossOutput(value, metrics, _end_scores(*scores, batch))

    return loss


class ReferencedPairs(NamedTuple):
    """Preference pairs with the log-probabilities of the frozen reference model.

    Attributes:
        pairs: preference pairs by helpfulness.
        chosen_log_probs: `[N, L - 1]`, of the chosen answers under the reference.
        rejected_log_probs: `[N, L - 1]`, of the rejected answers under the reference.
    """

    pairs: PreferenceBatch
    chosen_log_probs: Array
    rejected_log_probs: Array


def with_reference(model: LanguageModel, params: Any, pairs: PreferenceBatch, batch_size: int = 16) -> ReferencedPairs:
    """Evaluate the frozen model once on every pair, so that it need not stay in memory while training."""
    evaluate = jax.jit(log_probs, static_argnums=0)  # parameters are arguments, so that none is compiled in
    params = jax.device_put(params)  # once instead of with every batch

    def over(ids: Array, mask: Array) -> np.ndarray:
        batches = in_batches((ids, mask), batch_size)
        parts = [np.asarray(evaluate(model, params, *part))[:count] for part, count in batches]
        return np.concatenate(parts) if parts else np.zeros((0, ids.shape[1] - 1), np.float32)

    return ReferencedPairs(pairs, over(pairs.chosen, pairs.chosen_mask), over(pairs.rejected, pairs.rejected_mask))


def dpo(model: LanguageModel, *, beta: float = 0.1, published_off_by_one: bool = False) -> Loss:
    """Direct preference optimisation. Batches are `ReferencedPairs`."""

    def loss(params: Any, batch: ReferencedPairs) -> LossOutput:
        pairs = batch.pairs
        ids = jnp.concatenate([pairs.chosen, pairs.rejected])
        mask = jnp.concatenate([pairs.chosen_mask, pairs.rejected_mask])
        chosen, rejected = jnp.split(log_probs(model, params, ids, mask), 2)
        reference = (batch.chosen_log_probs, batch.rejected_log_probs)
        value, metrics = preference.dpo_loss(
            (chosen, rejected), reference, pairs, beta=beta, published_off_by_one=published_off_by_one
        )
        return LossOutput(value, metrics)

    return loss


def moderation(model: ScoreModel) -> Loss:
    """Mean binary cross-entropy of all labels (Ji et al. 2023, BeaverTails). Batches are `Labelled`."""

    def loss(params: Any, batch: Labelled) -> LossOutput:
        logits = score_tokens(model, params, batch.ids, batch.mask).end_scores
        value = jnp.mean(optax.sigmoid_binary_cross_entropy(logits, batch.labels))
        flagged = jnp.any(logits > 0.0, axis=-1) == jnp.any(batch.labels > 0.5, axis=-1)
        return LossOutput(value, {"flagged_accuracy": jnp.mean(flagged)})

    return loss

"""Accuracy of reward and cost models on preference pairs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from jsafe.padded_batches import in_batches
from rlhf.data.preference_batch import PreferenceBatch
from rlhf.evaluation.intervals import Estimate, bootstrap_mean
from rlhf.models.heads import ScoreModel, score_tokens


def score_texts(model: ScoreModel, params: Any, ids: np.ndarray, mask: np.ndarray, batch_size: int = 32) -> np.ndarray:
    """Return the scores `[N, S]` of texts `[N, L]`, batch by batch in one compiled program."""
    score = jax.jit(lambda params, ids, mask: score_tokens(model, params, ids, mask).end_scores)
    scores = [np.asarray(score(params, *part))[:count] for part, count in in_batches((ids, mask), batch_size)]
    return np.concatenate(scores) if scores else np.zeros((0, model.size), np.float32)


def score_pairs(model: ScoreModel, params: Any, pairs: PreferenceBatch, batch_size: int = 32) -> np.ndarray:
    """Return the scores `[N, 2]` of the chosen and of the rejected responses."""
    chosen = score_texts(model, params, np.asarray(pairs.chosen), np.asarray(pairs.chosen_mask), batch_size)
    rejected = score_texts(model, params, np.asarray(pairs.rejected), np.asarray(pairs.rejected_mask), batch_size)
    return np.stack([chosen[:, 0], rejected[:, 0]], axis=1)


def ranking_accuracy(scores: np.ndarray, groups: Sequence[Any], *, harm: bool) -> Estimate:
    """Return the share of pairs `scores [N, 2]` in the right order.

    Args:
        scores: scores of the chosen and of the rejected responses.
        groups: `[N]`, prompt of each pair.
        harm: True for costs, where the chosen (less harmful) response should score lower.
    """
    chosen, rejected = scores.T
    return bootstrap_mean(chosen < rejected if harm else chosen > rejected, groups)


def sign_accuracy(scores: np.ndarray, signs: np.ndarray, groups: Sequence[Any]) -> Estimate:
    """Return the share of labelled responses on the right side of 0.

    Args:
        scores: costs `[N, 2]`.
        signs: `[N, 2]`, +1 for a safe response, -1 for a harmful one, 0 without a label.
        groups: `[N]`, prompt of each pair.
    """
    labelled = signs != 0
    correct = np.where(labelled, -signs * scores > 0, 0.0)
    flat = [group for group, row in zip(groups, labelled, strict=True) for known in row if known]
    return bootstrap_mean(correct[labelled], flat)

"""Held-out evaluation of the models that the supervised stages train."""

from __future__ import annotations

import dataclasses
import functools
import warnings
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jsafe.padded_batches import in_batches
from rlhf.chat_templates.safe_rlhf import IGNORED
from rlhf.checkpoints.model_folder import Model
from rlhf.data.encoding import Encoded, Labelled, Supervised
from rlhf.data.plain_text import HeldOutText
from rlhf.data.preference_batch import PreferenceBatch
from rlhf.data.schemas import Example
from rlhf.evaluation import bag_of_words, moderation, preference_accuracy
from rlhf.evaluation.intervals import bootstrap_mean
from rlhf.losses import preference
from rlhf.losses.language_model import log_probs
from rlhf.models.heads import LanguageModel, ScoreModel
from rlhf.training import objectives

LOSS_CHUNK = 1024
"""Tokens whose logits are held at once."""


def _accuracies(kind: str, scores: np.ndarray, signs: np.ndarray, groups: Sequence[Any]) -> dict[str, Any]:
    metrics = {"ranking_accuracy": preference_accuracy.ranking_accuracy(scores, groups, harm=kind == "cost")._asdict()}
    if kind == "cost":
        metrics["sign_accuracy"] = preference_accuracy.sign_accuracy(scores, signs, groups)._asdict()
    return metrics


def evaluate_judge(
    kind: str,
    model: Model,
    pairs: Encoded[PreferenceBatch],
    train: Sequence[Example],
    *,
    baseline: bool = True,
    dtype: str = "float32",
) -> dict[str, Any]:
    """Evaluate a reward or cost model on held-out pairs.

    Args:
        kind: `"reward"` or `"cost"`.
        model: the trained model.
        pairs: held-out pairs in the tokens of the model.
        train: training rows, which the baseline is fitted to.
        baseline: also fit a bag of words (`rlhf.evaluation.bag_of_words`) and evaluate it on the same pairs.
        dtype: type of activations.

    Returns:
        `ranking_accuracy`, for a cost model also `sign_accuracy`, each with an interval; the same of the `baseline`,
        None without scikit-learn; counts of pairs and prompts; mean scores.
    """
    prompts = [row.prompt for row in pairs.rows]
    scores = preference_accuracy.score_pairs(ScoreModel(model.config, dtype=dtype), model.params, pairs.batch)
    signs = np.stack([pairs.batch.chosen_safe, pairs.batch.rejected_safe], axis=1)
    train_prompts = {row.prompt for row in train}
    report = _accuracies(kind, scores, signs, prompts)
    report |= {"pairs": len(prompts), "prompts": len(set(prompts)), "training_pairs": len(train)}
    report["prompts_also_learned_from"] = len(train_prompts & set(prompts))
    report["mean_score"] = {"first": float(scores[:, 0].mean()), "second": float(scores[:, 1].mean())}
    if baseline:
        try:
            baseline_scores = bag_of_words.score_pairs(kind, train, pairs.rows)
            report["baseline"] = _accuracies(kind, baseline_scores, signs, prompts)
        except ImportError as error:
            warnings.warn(str(error), stacklevel=2)
            report["baseline"] = None
    return report


def evaluate_dpo(
    model: Model,
    reference: Model,
    pairs: Encoded[PreferenceBatch],
    *,
    beta: float = 0.1,
    published_off_by_one: bool = False,
    dtype: str = "float32",
) -> dict[str, Any]:
    """Evaluate the implied reward of a DPO model: share of held-out pairs in the right order, and the margin.

    Args:
        model: the trained model.
        reference: the model that training started with.
        pairs: held-out pairs in the tokens of the model.
        beta: factor of the implied reward.
        published_off_by_one: see `rlhf.losses.preference.dpo_loss`.
        dtype: type of activations.
    """
    language_model = LanguageModel(model.config, dtype, loss_chunk=LOSS_CHUNK)
    new, old = (objectives.with_reference(language_model, one.params, pairs.batch) for one in (model, reference))
    rewards = preference.implied_rewards(
        (new.chosen_log_probs, new.rejected_log_probs),
        (old.chosen_log_probs, old.rejected_log_probs),
        PreferenceBatch(*(jnp.asarray(x) for x in pairs.batch)),
        beta=beta,
        published_off_by_one=published_off_by_one,
    )
    chosen, rejected = (np.asarray(x) for x in rewards)
    prompts = [row.prompt for row in pairs.rows]
    return {
        "pairs": len(prompts),
        "prompts": len(set(prompts)),
        "accuracy": bootstrap_mean(chosen > rejected, prompts)._asdict(),
        "margin": bootstrap_mean(chosen - rejected, prompts)._asdict(),
    }


def evaluate_moderation(
    model: Model, answers: Encoded[Labelled], names: Sequence[str], *, dtype: str = "float32"
) -> dict[str, Any]:
    """Evaluate a moderation model as the published evaluation does, with an interval of the flagged accuracy.

    Args:
        model: the trained model.
        answers: held-out responses with labels.
        names: names of the K labels.
        dtype: type of activations.
    """
    scorer = ScoreModel(model.config, len(names), dtype=dtype)
    data = answers.batch
    logits = preference_accuracy.score_texts(scorer, model.params, data.ids, data.mask)
    by_category = moderation.classification_metrics(1 / (1 + np.exp(-logits)), data.labels, names)
    correct = np.any(logits > 0, axis=1) == np.any(data.labels > 0.5, axis=1)
    accuracy = bootstrap_mean(correct, [row.prompt for row in answers.rows])
    return {"rows": len(data.ids), "flagged_accuracy": accuracy._asdict(), "by_category": by_category}


def evaluate_answers(
    model: Model, answers: Encoded[Supervised], *, dtype: str = "float32", batch_size: int = 16
) -> dict[str, Any]:
    """Return the cross-entropy per token of held-out responses, and the perplexity."""
    config = dataclasses.replace(model.config, z_loss_weight=0.0)
    loss = objectives.supervised(LanguageModel(config, dtype, loss_chunk=LOSS_CHUNK))
    batch_loss = jax.jit(lambda params, batch: loss(params, batch).loss)
    total = count = 0.0
    for part, rows in in_batches(answers.batch[:3], batch_size):
        batch = Supervised(*part)
        batch.labels[rows:] = IGNORED
        tokens = float(np.sum(batch.labels[:, 1:] >= 0))
        total, count = total + float(batch_loss(model.params, batch)) * tokens, count + tokens
    mean = total / max(count, 1.0)
    return {"rows": len(answers.batch.ids), "cross_entropy": mean, "perplexity": float(np.exp(mean))}


@functools.partial(jax.jit, static_argnums=0)
def _log_probs(model: LanguageModel, params: Any, ids: jax.Array, mask: jax.Array) -> jax.Array:
    """Compiled once for all models of a configuration, such as the checkpoints of one run."""
    return log_probs(model, params, ids, mask)


def evaluate_text(
    model: Model, held_out: HeldOutText, *, batch_size: int = 16, dtype: str = "float32"
) -> dict[str, Any]:
    """Return the cross-entropy per token of plain text, the perplexity, and bits per byte."""
    token_log_probs = functools.partial(
        _log_probs, LanguageModel(model.config, dtype, loss_chunk=LOSS_CHUNK), model.params
    )
    total = 0.0
    for (ids, mask), rows in in_batches((held_out.ids, held_out.mask), batch_size):
        total -= float(np.sum(np.asarray(token_log_probs(ids, mask), np.float64)[:rows], where=mask[:rows, 1:]))
    mean = total / held_out.tokens
    report = {"cross_entropy": mean, "perplexity": float(np.exp(mean))}
    report |= {"predicted": held_out.tokens, "bytes": held_out.bytes}
    return report | {"bits_per_byte": total / np.log(2) / held_out.bytes}

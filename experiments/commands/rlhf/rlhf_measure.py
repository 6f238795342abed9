"""What a trained model is worth on samples that were kept apart."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.cli.result import note
from jsafe.batching import in_batches
from rlhf.chat_templates.safe_rlhf import IGNORED
from rlhf.checkpoints.model_folder import Model
from rlhf.data import beavertails, encoding
from rlhf.data.plain_text import Held
from rlhf.data.preference_batch import PreferenceBatch
from rlhf.data.schemas import Sample
from rlhf.evaluation import preference_accuracy
from rlhf.losses import language_model as language_losses
from rlhf.losses import preference as preference_losses
from rlhf.models.heads import LanguageModel, ScoreModel
from rlhf.training import objectives

EVALUATED = 1024
"""Tokens whose logits are held at once while a language model is measured."""


def measure(
    given: dict[str, Any],
    model: Model,
    learned: Sequence[Sample],
    kept: Sequence[Sample],
    length: int,
    start: Callable[[], Model],
) -> dict[str, Any]:
    """The figures of a stage, by name.

    Args:
        given: what the command was given.
        model: trained.
        learned: what it was trained on.
        kept: what it was not.
        length: longest text.
        start: opens the model that the training began with.
    """
    name, dtype = given["stage"], given["hyper"].get("dtype", "float32")
    if name == "dpo":
        return direct_preference(given, model, start(), kept, length, dtype)
    if name in ("reward", "cost"):
        return preference(name, model, learned, kept, length, given["skip"], given["baseline"], dtype)
    if name == "moderation":
        return moderation(model, kept, length, given["skip"], dtype)
    return language(model, kept, length, given["skip"], dtype)


def preference(
    kind: str,
    model: Model,
    learned: Sequence[Sample],
    kept: Sequence[Sample],
    length: int,
    skip: bool,
    baseline: bool = True,
    dtype: str = "float32",
) -> dict[str, Any]:
    """Ranking accuracy, for a cost model also that of the sign, with intervals, beside a bag of words."""
    by = "safer" if kind == "cost" else "better"
    pairs, groups = encoding.pairs_and_prompts(kept, model.tokenizer, length, by=by, skip=skip)
    scorer = ScoreModel(model.config, dtype=dtype)
    scores = preference_accuracy.score_pairs(scorer, model.params, pairs)
    signs = np.stack([pairs.chosen_safe, pairs.rejected_safe], axis=1)
    found = _figures(kind, scores, signs, groups)
    seen = {s.prompt for s in learned}
    found |= {"pairs": len(groups), "prompts": len(set(groups)), "training_pairs": len(learned)}
    found["prompts_also_learned_from"] = len(seen & set(groups))
    found["mean_score"] = {"first": float(scores[:, 0].mean()), "second": float(scores[:, 1].mean())}
    if not baseline:
        return found
    try:
        found["baseline"] = _baseline(kind, by, learned, kept, pairs, groups, model, length)
    except ImportError as error:
        note(str(error))
        found["baseline"] = None
    return found


def direct_preference(
    given: dict[str, Any], model: Model, start: Model, kept: Sequence[Sample], length: int, dtype: str = "float32"
) -> dict[str, Any]:
    """How often the implied reward of the better answer is the larger one, and by how much, with intervals."""
    pairs, groups = encoding.pairs_and_prompts(kept, model.tokenizer, length, by="better", skip=given["skip"])
    language_model = LanguageModel(model.config, dtype, loss_chunk=EVALUATED)
    new, old = (objectives.with_reference(language_model, m.params, pairs) for m in (model, start))
    compared = jax.tree.map(jnp.asarray, pairs)
    rewards = preference_losses.implied_rewards(
        (new.chosen_log_probs, new.rejected_log_probs),
        (old.chosen_log_probs, old.rejected_log_probs),
        compared,
        beta=given["scale"],
        published_off_by_one=given["quirk"],
    )
    better, worse = (np.asarray(x) for x in rewards)
    return {
        "pairs": len(groups),
        "prompts": len(set(groups)),
        "accuracy": preference_accuracy.share(better > worse, groups)._asdict(),
        "margin": preference_accuracy.share(better - worse, groups)._asdict(),
    }


def _figures(kind: str, scores: np.ndarray, signs: np.ndarray, groups: Sequence[Any]) -> dict[str, Any]:
    figures = {"ranking_accuracy": preference_accuracy.ranking_accuracy(scores, groups, harm=kind == "cost")._asdict()}
    if kind == "cost":
        figures["sign_accuracy"] = preference_accuracy.sign_accuracy(scores, signs, groups)._asdict()
    return figures


def _ordered(sample: Sample, by: str) -> tuple[str, str]:
    first = sample.safer if by == "safer" else sample.better
    answers = (sample.answer or "", sample.other or "")
    return answers if first else (answers[1], answers[0])


def _baseline(
    kind: str,
    by: str,
    learned: Sequence[Sample],
    kept: Sequence[Sample],
    pairs: PreferenceBatch,
    groups: Sequence[Any],
    model: Model,
    length: int,
) -> dict[str, Any]:
    """A bag of words on the same rows: the second answer of a pair, or the harmful one, is what it looks for."""
    texts, harmful, prompts = [], [], []
    for sample in learned:
        labels = (sample.safe, sample.other_safe)
        if kind == "cost" and None not in labels:
            for answer, safe in zip((sample.answer, sample.other), labels, strict=True):
                texts.append(preference_accuracy.text_of(sample, answer or ""))
                harmful.append(not safe)
                prompts.append(sample.prompt)
        elif kind == "reward":
            for number, answer in enumerate(_ordered(sample, by)):
                texts.append(preference_accuracy.text_of(sample, answer))
                harmful.append(number == 1)
                prompts.append(sample.prompt)
    scorer = preference_accuracy.bag_of_words(texts, harmful, prompts)
    used = [s for s in kept if len(encoding.preferences([s], model.tokenizer, length, by=by, skip=True)[0].chosen)]
    scores = np.stack(
        [scorer([preference_accuracy.text_of(s, _ordered(s, by)[i]) for s in used]) for i in (0, 1)], axis=1
    )
    signs = np.stack([pairs.chosen_safe, pairs.rejected_safe], axis=1)
    return _figures("cost", scores, signs, groups) if kind == "cost" else _figures("reward", -scores, signs, groups)


def moderation(model: Model, kept: Sequence[Sample], length: int, skip: bool, dtype: str = "float32") -> dict[str, Any]:
    """What the published evaluation of the moderation model logs."""
    names = beavertails.CATEGORIES
    data, _ = encoding.labelled(kept, names, model.tokenizer, length, skip=skip)
    groups = [s.prompt for s in kept if len(encoding.labelled([s], names, model.tokenizer, length, skip=True)[0].ids)]
    scorer = ScoreModel(model.config, len(names), dtype=dtype)
    logits = preference_accuracy.score_texts(scorer, model.params, data.ids, data.mask)
    rows = beavertails.moderation_metrics(1 / (1 + np.exp(-logits)), data.labels)
    right = np.any(logits > 0, axis=1) == np.any(data.labels > 0.5, axis=1)
    found = {"flagged_accuracy": preference_accuracy.share(right, groups)._asdict()}
    return {"rows": len(data.ids), **found, "by_category": rows}


@functools.partial(jax.jit, static_argnums=0)
def _log_probs(model: LanguageModel, params: Any, ids: jax.Array, mask: jax.Array) -> jax.Array:
    """Compiled once for all models of a configuration, such as those of one training."""
    return language_losses.log_probs(model, params, ids, mask)


def plain_text(model: Model, held: Held, batch_size: int = 16, dtype: str = "float32") -> dict[str, Any]:
    """Cross-entropy of a token of plain texts, ends included, its exponential, and bits for each byte."""
    ask = functools.partial(_log_probs, LanguageModel(model.config, dtype, loss_chunk=EVALUATED), model.params)
    total = 0.0
    for (ids, mask), rows in in_batches((held.ids, held.mask), batch_size):
        total -= float(np.sum(np.asarray(ask(ids, mask), np.float64)[:rows], where=mask[:rows, 1:]))
    mean = total / held.tokens
    found = {"cross_entropy": mean, "perplexity": float(np.exp(mean)), "predicted": held.tokens, "bytes": held.bytes}
    return found | {"bits_per_byte": total / np.log(2) / held.bytes}


def language(
    model: Model, kept: Sequence[Sample], length: int, skip: bool, dtype: str = "float32", batch_size: int = 16
) -> dict[str, Any]:
    """Cross-entropy of a token of the answers, and its exponential."""
    data, _ = encoding.supervised(kept, model.tokenizer, length, skip=skip)
    config = dataclasses.replace(model.config, z_loss_weight=0.0)
    loss = objectives.supervised(LanguageModel(config, dtype, loss_chunk=EVALUATED))
    ask = jax.jit(lambda params, batch: loss(params, batch).loss)
    total = count = 0.0
    for part, rows in in_batches(data, batch_size):
        batch = encoding.Supervised(*part)
        batch.labels[rows:] = IGNORED
        number = float(np.sum(batch.labels[:, 1:] >= 0))
        total, count = total + float(ask(model.params, batch)) * number, count + number
    mean = total / max(count, 1.0)
    return {"rows": len(data.ids), "cross_entropy": mean, "perplexity": float(np.exp(mean))}

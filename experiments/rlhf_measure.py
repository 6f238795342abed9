"""What a trained model is worth on samples that were kept apart."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from experiments.outcome import note
from rlhf import beavertails, judging, objectives
from rlhf.batches import in_batches
from rlhf.data import examples
from rlhf.data.samples import Sample
from rlhf.folder import Model
from rlhf.models.heads import LanguageModel, ScoreModel
from rlhf.text import IGNORED


def measure(
    given: dict[str, Any], model: Model, learned: Sequence[Sample], kept: Sequence[Sample], length: int
) -> dict[str, Any]:
    """The figures of a stage, by name.

    Args:
        given: what the command was given.
        model: trained.
        learned: what it was trained on.
        kept: what it was not.
        length: longest text.
    """
    name = given["stage"]
    if name in ("reward", "cost"):
        return preference(name, model, learned, kept, length, given["skip"], given["baseline"])
    if name == "moderation":
        return moderation(model, kept, length, given["skip"])
    return language(model, kept, length, given["skip"])


def preference(
    kind: str,
    model: Model,
    learned: Sequence[Sample],
    kept: Sequence[Sample],
    length: int,
    skip: bool,
    baseline: bool = True,
) -> dict[str, Any]:
    """Ranking accuracy, for a cost model also that of the sign, with intervals, beside a bag of words."""
    by = "safer" if kind == "cost" else "better"
    usable, groups = [], []
    for sample in kept:  # one by one, so that prompts and pairs stay side by side
        pair, left_out = examples.preferences([sample], model.tokenizer, length, by=by, skip=True)
        if left_out and not skip:
            raise ValueError(f"a pair to measure on cannot be used: {next(iter(left_out))}")
        if len(pair.better):
            usable.append(pair)
            groups.append(sample.prompt)
    if not usable:
        raise ValueError("none of the pairs to measure on can be used")
    pairs = examples.Preferences(*(np.concatenate(column) for column in zip(*usable, strict=True)))
    scorer = ScoreModel(model.config)
    scores = judging.score_pairs(scorer, model.params, pairs)
    signs = np.stack([pairs.better_sign, pairs.worse_sign], axis=1)
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


def _figures(kind: str, scores: np.ndarray, signs: np.ndarray, groups: Sequence[Any]) -> dict[str, Any]:
    figures = {"ranking_accuracy": judging.ranking_accuracy(scores, groups, harm=kind == "cost")._asdict()}
    if kind == "cost":
        figures["sign_accuracy"] = judging.sign_accuracy(scores, signs, groups)._asdict()
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
    pairs: examples.Preferences,
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
                texts.append(judging.text_of(sample, answer or ""))
                harmful.append(not safe)
                prompts.append(sample.prompt)
        elif kind == "reward":
            for number, answer in enumerate(_ordered(sample, by)):
                texts.append(judging.text_of(sample, answer))
                harmful.append(number == 1)
                prompts.append(sample.prompt)
    scorer = judging.bag_of_words(texts, harmful, prompts)
    used = [s for s in kept if len(examples.preferences([s], model.tokenizer, length, by=by, skip=True)[0].better)]
    scores = np.stack([scorer([judging.text_of(s, _ordered(s, by)[i]) for s in used]) for i in (0, 1)], axis=1)
    signs = np.stack([pairs.better_sign, pairs.worse_sign], axis=1)
    return _figures("cost", scores, signs, groups) if kind == "cost" else _figures("reward", -scores, signs, groups)


def moderation(model: Model, kept: Sequence[Sample], length: int, skip: bool) -> dict[str, Any]:
    """What the published evaluation of the moderation model logs."""
    names = beavertails.CATEGORIES
    data, _ = examples.labelled(kept, names, model.tokenizer, length, skip=skip)
    logits = judging.score_texts(ScoreModel(model.config, len(names)), model.params, data.ids, data.mask)
    rows = beavertails.moderation_metrics(1 / (1 + np.exp(-logits)), data.labels)
    return {"rows": len(data.ids), "flagged_accuracy": rows["flagged"]["accuracy"], "by_category": rows}


def language(model: Model, kept: Sequence[Sample], length: int, skip: bool, batch_size: int = 16) -> dict[str, Any]:
    """Cross-entropy of a token of the answers, and its exponential."""
    data, _ = examples.supervised(kept, model.tokenizer, length, skip=skip)
    config = dataclasses.replace(model.config, z_loss_weight=0.0)
    loss = objectives.supervised(LanguageModel(config))
    ask = jax.jit(lambda params, batch: loss(params, batch).loss)
    total = count = 0.0
    for part, rows in in_batches(data, batch_size):
        batch = examples.Supervised(*part)
        batch.labels[rows:] = IGNORED
        number = float(np.sum(batch.labels[:, 1:] >= 0))
        total, count = total + float(ask(model.params, batch)) * number, count + number
    mean = total / max(count, 1.0)
    return {"rows": len(data.ids), "cross_entropy": mean, "perplexity": float(np.exp(mean))}

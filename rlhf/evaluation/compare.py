"""Comparison of language models on the same prompts by reward and cost models.

The divergence from the base model is that of training: the mean over a model's own responses of the log-ratio to the
base, in nats per response.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jsafe.padded_batches import in_batches
from rlhf.chat_templates.safe_rlhf import format_prompt
from rlhf.checkpoints.model_folder import Model
from rlhf.data import encoding
from rlhf.data.schemas import Example
from rlhf.evaluation import head_to_head
from rlhf.evaluation.intervals import bootstrap_mean
from rlhf.evaluation.preference_accuracy import score_texts
from rlhf.generation.answers import answer_prompts
from rlhf.generation.generate import Answers, SamplingConfig
from rlhf.losses.language_model import log_probs
from rlhf.models.heads import LanguageModel, ScoreModel
from rlhf.tokenizer.tokenizer import difference

LOG = logging.getLogger(__name__)

LOSS_CHUNK = 1024
"""Tokens whose logits are held at once."""

LENGTH_QUANTILES = (5, 50, 95)
"""Reported quantiles of the lengths of responses, in per cent."""


class Judge(NamedTuple):
    """A model that scores responses.

    Attributes:
        kind: `"reward"` or `"cost"`; lower costs are better.
        model: the model.
    """

    kind: str
    model: Model


class Responses(NamedTuple):
    """Responses of one model, and their scores.

    Attributes:
        name: name of the model.
        rows: N prompts with the model's responses.
        lengths: `[N]`, tokens of the responses.
        divergence: `[N]`, log-ratio to the base model in nats; None for a model with other tokens.
        scores: `[N]` by judge.
    """

    name: str
    rows: list[Example]
    lengths: np.ndarray
    divergence: np.ndarray | None
    scores: Mapping[str, np.ndarray]


class ResponseConfig(NamedTuple):
    """Settings of the responses.

    Attributes:
        sampling: sampling settings.
        seed: seed of the samples.
        prompt_length: maximum number of tokens of a prompt.
        batch_size: number of prompts in a batch.
        skip: leave out prompts that are too long.
        dtype: type of activations.
    """

    sampling: SamplingConfig
    seed: int = 0
    prompt_length: int = 64
    batch_size: int = 16
    skip: bool = False
    dtype: str = "float32"


def collect_responses(
    models: Iterable[tuple[str, Callable[[], Model]]],
    prompts: Sequence[Example],
    judges: Mapping[str, Judge],
    config: ResponseConfig,
) -> list[Responses]:
    """Let each model answer the same prompts, and score the responses with every judge.

    Args:
        models: name and loader of each model, so that one model at a time is in memory with the first, the base.
        prompts: the prompts.
        judges: by name.
        config: settings of the responses.
    """
    base: Model | None = None
    collected = []
    for name, load in models:
        LOG.info("%s answers %d prompts ...", name, len(prompts))
        model = load()
        base = base or model
        rows, answers = answer_prompts(
            model,
            prompts,
            config.sampling,
            seed=config.seed,
            prompt_length=config.prompt_length,
            batch_size=config.batch_size,
            skip=config.skip,
            dtype=config.dtype,
        )
        lengths = np.asarray(answers.mask)[:, config.prompt_length :].sum(1)
        kl = divergence(model, base, answers, config.prompt_length, config.batch_size, config.dtype)
        scores = {key: _scores(judge.model, model, rows, answers, config.dtype) for key, judge in judges.items()}
        collected.append(Responses(name, rows, lengths, kl, scores))
    return collected


def _scores(judge: Model, model: Model, rows: Sequence[Example], answers: Answers, dtype: str) -> np.ndarray:
    """Scores `[N]` of a model's responses."""
    ids, mask = judge_tokens(judge, model, rows, answers)
    return score_texts(ScoreModel(judge.config, dtype=dtype), judge.params, ids, mask)[:, 0]


_log_probs = jax.jit(log_probs, static_argnums=0)


def divergence(
    model: Model, base: Model, answers: Answers, prompt_length: int, batch_size: int, dtype: str = "float32"
) -> np.ndarray | None:
    """Return the log-ratio of each response under its model and under the base.

    Args:
        model: the model that sampled the responses.
        base: the model it is compared with.
        answers: prompts with responses, `[N, L]`.
        prompt_length: number of columns of the prompts.
        batch_size: number of texts in a batch.
        dtype: type of activations.

    Returns:
        `[N]` in nats, at temperature 1 whatever the sampling; None if the models have different tokens.
    """
    if difference(model.tokenizer, base.tokenizer) or np.max(answers.ids) >= base.config.vocab_size:
        return None
    arrays = (np.asarray(answers.ids), np.asarray(answers.mask))

    def response_log_probs(own: Model) -> np.ndarray:
        scorer = LanguageModel(own.config, dtype, loss_chunk=LOSS_CHUNK)
        batches = in_batches(arrays, batch_size)
        parts = [np.asarray(_log_probs(scorer, own.params, *part))[:count] for part, count in batches]
        return np.concatenate(parts)[:, prompt_length - 1 :]

    log_ratio = response_log_probs(model) - response_log_probs(base)
    return np.sum(np.where(arrays[1][:, prompt_length:], log_ratio, 0.0), axis=1)


def judge_tokens(
    judge: Model, model: Model, rows: Sequence[Example], answers: Answers
) -> tuple[np.ndarray, np.ndarray]:
    """Return prompts with a model's responses in the tokens of a judge: ids `[N, L]` and mask.

    These are the sampled ids, unless the judge has other tokens. Then the texts are tokenised for the judge, with an
    end-of-text token, as published.
    """
    if not difference(judge.tokenizer, model.tokenizer) and model.tokenizer.pad < judge.config.vocab_size:
        return np.asarray(answers.ids), np.asarray(answers.mask)
    encode, eos = judge.tokenizer.encode, judge.tokenizer.eos_text
    prompts = [format_prompt(row.prompt, eos) for row in rows]
    texts = [prompt + (row.response or "") for prompt, row in zip(prompts, rows, strict=True)]
    length = 1 + max(len(encode(text)) for text in (*prompts, *texts))
    batch = encoding.supervised(rows, judge.tokenizer, length).batch
    return batch.ids, batch.mask


def compare(responses: Sequence[Responses], judges: Mapping[str, Judge]) -> dict[str, Any]:
    """Return the metrics of all models, and the verdicts of each judge on every pair of models.

    Args:
        responses: responses of each model, the base first.
        judges: by name. The first reward and the first cost model define the rewards and costs of the metrics.
    """
    reward, cost = (np.array([r.scores[first_judge(judges, kind)] for r in responses]) for kind in ("reward", "cost"))
    data = model_metrics(responses, reward, cost)
    data["judges"] = [judge_verdicts(name, judge.kind, responses) for name, judge in judges.items()]
    return data


def first_judge(judges: Mapping[str, Judge], kind: str) -> str:
    """Return the name of the first judge of a kind."""
    return next(name for name, judge in judges.items() if judge.kind == kind)


def judge_verdicts(judge: str, kind: str, responses: Sequence[Responses]) -> dict[str, Any]:
    """Return the mean scores, Elo ratings and win rates of M models under one judge."""
    prompts = [row.prompt for row in responses[0].rows]
    scores = [one.scores[judge] for one in responses]
    preferred = -np.array(scores) if kind == "cost" else np.array(scores)
    ratings = head_to_head.elo(preferred)
    models = []
    for i, one in enumerate(responses):
        wins = {
            other.name: head_to_head.win_rate(preferred[k], preferred[i], prompts)._asdict()
            for k, other in enumerate(responses)
            if k != i
        }
        score = bootstrap_mean(scores[i], prompts)._asdict()
        models.append({"model": one.name, "score": score, "elo": ratings[i]._asdict(), "wins_against": wins})
    return {"judge": judge, "kind": kind, "models": models}


def model_metrics(responses: Sequence[Responses], reward: np.ndarray, cost: np.ndarray) -> dict[str, Any]:
    """Return the metrics of models on the same prompts.

    Args:
        responses: responses of M models, the base first.
        reward: `[M, N]`.
        cost: `[M, N]`.
    """
    prompts = [row.prompt for row in responses[0].rows]
    ratings = {"helpful": head_to_head.elo(reward), "harmless": head_to_head.elo(-cost)}
    rows = []
    for i, one in enumerate(responses):
        row: dict[str, Any] = {
            "model": one.name,
            "reward": bootstrap_mean(reward[i], prompts)._asdict(),
            "cost": bootstrap_mean(cost[i], prompts)._asdict(),
            "harmful": bootstrap_mean(cost[i] > 0, prompts)._asdict(),
            "length": float(np.mean(one.lengths)),
            "lengths": {f"{q}": float(np.quantile(one.lengths, q / 100)) for q in LENGTH_QUANTILES},
            "elo": {kind: rating[i]._asdict() for kind, rating in ratings.items()},
        }
        if one.divergence is not None:
            row["kl"] = bootstrap_mean(one.divergence, prompts)._asdict()
            row["kl_per_token"] = float(np.sum(one.divergence) / max(np.sum(one.lengths), 1))
        row |= _harmful_by_category(one.rows, cost[i])
        if i:
            row["wins_helpful"] = head_to_head.win_rate(reward[0], reward[i], prompts)._asdict()
            row["wins_harmless"] = head_to_head.win_rate(-cost[0], -cost[i], prompts)._asdict()
            row["verdicts"] = head_to_head.verdicts((reward[0], reward[i]), (cost[0], cost[i]))
        rows.append(row)
    return {"prompts": len(prompts), "base": responses[0].name, "models": rows}


def _harmful_by_category(rows: Sequence[Example], cost: np.ndarray) -> dict[str, dict[str, float]]:
    """Share of harmful responses by the category of the question, where the prompts have one."""
    labels = [next(iter(row.labels), None) if row.labels else None for row in rows]
    if not any(labels):
        return {}
    category = np.array([str(label) for label in labels])
    shares = {name: float(np.mean(cost[category == name] > 0)) for name in sorted(set(category.tolist()))}
    return {"harmful_by_category": shares}

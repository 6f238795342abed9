"""Reward and cost models that are trained from scratch on a few hundred prompts.

The decoder of such a model memorises its prompts, so most of the score comes from unigram scores: a convex problem,
solved before training (`rlhf.judges.unigram_scores`). They need the mean of an answer's tokens as pooling.
"""

from __future__ import annotations

import dataclasses
import logging

import numpy as np

from rlhf.adapters import lora
from rlhf.chat_templates.chat_template import answer_marker
from rlhf.checkpoints import model_folder
from rlhf.checkpoints.model_folder import Model
from rlhf.data.encoding import Encoded
from rlhf.data.preference_batch import PreferenceBatch
from rlhf.judges import unigram_scores
from rlhf.tokenizer.tokenizer import Tokenizer

LOG = logging.getLogger(__name__)

ORDER = {"reward": "better", "cost": "safer"}
"""Preference that each kind of judge is trained on, see `rlhf.data.encoding.preferences`."""

OPENINGS = 4
"""Number of tokens at the beginning of an answer with scores of their own."""

SHRINKAGE = 3.0
"""Number of virtual tokens of score 0 in a pooled answer, so that the shortest answers do not have extreme scores."""


def from_scratch(
    size: str,
    tokenizer: Tokenizer,
    kind: str,
    pairs: Encoded[PreferenceBatch],
    *,
    pooling: str = "mean",
    fit_unigrams: bool | None = None,
    seed: int = 0,
) -> Model:
    """Return an untrained judge with fitted unigram scores.

    Args:
        size: a size of `rlhf.checkpoints.model_folder`, for example `"small"`.
        tokenizer: its tokenizer, for example from `rlhf.tokenizer.train_bpe.learn_tokenizer`.
        kind: `"reward"` or `"cost"`.
        pairs: training pairs in the tokens of the tokenizer.
        pooling: `"mean"` over the tokens of an answer, or its `"last"` token.
        fit_unigrams: fit unigram scores; None for a model with mean pooling.
        seed: seed of the random weights.
    """
    model = with_scores(model_folder.fresh(size, tokenizer, seed), pooling=pooling, seed=seed)
    return with_unigram_scores(model, kind, pairs) if fits_unigrams(model, fit_unigrams) else model


def fits_unigrams(model: Model, choice: bool | None) -> bool:
    """True if unigram scores are fitted: the choice, or for None, a model with mean pooling."""
    return model.config.score_pooling == "mean" if choice is None else choice


def with_scores(model: Model, num_scores: int = 1, *, pooling: str = "mean", seed: int = 0) -> Model:
    """Return a language model's decoder under a new head of scores."""
    return model_folder.with_scores(with_pooling(model, pooling), num_scores, seed)


def with_pooling(model: Model, pooling: str | None) -> Model:
    """Return the model with another pooling of scores; None keeps its own."""
    if pooling is None or pooling == model.config.score_pooling:
        return model
    mean = pooling == "mean"
    config = dataclasses.replace(
        model.config,
        score_pooling=pooling,
        score_after=answer_marker(model.tokenizer) if mean else (),
        score_shrinkage=SHRINKAGE if mean else 0.0,
        score_words=False,
        score_openings=0,
    )
    params = {name: part for name, part in model.params.items() if name not in lora.FIXED}
    return model._replace(config=config, params=params)


def with_unigram_scores(model: Model, kind: str, pairs: Encoded[PreferenceBatch]) -> Model:
    """Return the model with token scores fitted to pairs, and a head of zeros.

    Args:
        model: with mean pooling.
        kind: `"reward"` or `"cost"`.
        pairs: training pairs in the tokens of the model.

    Raises:
        ValueError: the model pools by the last token.
    """
    if model.config.score_pooling != "mean":
        raise ValueError("unigram scores need mean pooling, got a model that scores the last token. Use --pooling mean")
    config = dataclasses.replace(model.config, score_words=True, score_openings=OPENINGS)
    prompts = [row.prompt for row in pairs.rows]
    classes = unigram_scores.spellings(model.tokenizer, config.vocab_size)
    fitted = unigram_scores.fit(config, kind, pairs.batch, prompts, classes)
    LOG.info("unigram scores fitted to %s pairs, weight of their squares %g", f"{len(prompts):,}", fitted.strength)
    params = {**model.params, "score_bias": np.array([fitted.bias], np.float32)}
    params |= {"score_words": fitted.words[:, None], "score_openings": fitted.openings[:, None]}
    params["score_head"] = np.zeros_like(model.params["score_head"])
    return model._replace(config=config, params=params)

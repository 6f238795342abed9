"""How well a reward or cost model judges texts it has not seen, with intervals, beside a bag of words.

Answers to one prompt are alike, so intervals come from drawing prompts, not pairs, with replacement.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jsafe.batching import in_batches
from rlhf.data.preference_batch import PreferenceBatch
from rlhf.data.schemas import Sample
from rlhf.models.heads import ScoreModel, score_tokens

LEVEL = 0.95


class Share(NamedTuple):
    """A share with its bootstrap interval.

    Attributes:
        value: what was found.
        low: lower end of the interval.
        high: upper end.
    """

    value: float
    low: float
    high: float


def score_texts(model: ScoreModel, params: Any, ids: np.ndarray, mask: np.ndarray, batch_size: int = 32) -> np.ndarray:
    """Scores `[N, S]` of texts `[N, L]`, batch by batch in one compiled program."""
    ask = jax.jit(lambda params, ids, mask: score_tokens(model, params, ids, mask).end_scores)
    found = [np.asarray(ask(params, *part))[:count] for part, count in in_batches((ids, mask), batch_size)]
    return np.concatenate(found) if found else np.zeros((0, model.size), np.float32)


def score_pairs(model: ScoreModel, params: Any, pairs: PreferenceBatch, batch_size: int = 32) -> np.ndarray:
    """Scores `[N, 2]` of the better (or safer) answers and of the others."""
    first = score_texts(model, params, np.asarray(pairs.chosen), np.asarray(pairs.chosen_mask), batch_size)
    second = score_texts(model, params, np.asarray(pairs.rejected), np.asarray(pairs.rejected_mask), batch_size)
    return np.stack([first[:, 0], second[:, 0]], axis=1)


def share(right: np.ndarray, groups: Sequence[Any], draws: int = 2000, seed: int = 0) -> Share:
    """Mean of `right [N]` with an interval from drawing groups (prompts) with replacement.

    Args:
        right: 0 or 1, or anything between.
        groups: `[N]`, hashable, of each entry.
        draws: of the bootstrap.
        seed: of it.
    """
    if not len(right):
        return Share(float("nan"), float("nan"), float("nan"))
    numbers = {group: i for i, group in enumerate(dict.fromkeys(groups))}
    at = np.array([numbers[group] for group in groups])
    total = np.bincount(at, weights=np.asarray(right, float))
    count = np.bincount(at).astype(float)
    rng = np.random.default_rng(seed)
    chosen = rng.multinomial(len(total), np.full(len(total), 1 / len(total)), size=draws)
    means = (chosen @ total) / (chosen @ count)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Share(float(np.mean(right)), float(low), float(high))


def ranking_accuracy(scores: np.ndarray, groups: Sequence[Any], *, harm: bool) -> Share:
    """Pairs in the right order: `scores [N, 2]`, the better answer first, or the less harmful one if `harm`."""
    return share(scores[:, 0] < scores[:, 1] if harm else scores[:, 0] > scores[:, 1], groups)


def sign_accuracy(scores: np.ndarray, signs: np.ndarray, groups: Sequence[Any]) -> Share:
    """Answers on the right side of 0: costs `[N, 2]` and signs `[N, 2]`, +1 for a safe answer; 0 is not counted."""
    known = signs != 0
    right = np.where(known, -signs * scores > 0, 0.0)
    flat = [group for group, row in zip(groups, known, strict=True) for k in row if k]
    return share(right[known], flat)


Scorer = Callable[[Sequence[str]], np.ndarray]


def bag_of_words(texts: Sequence[str], harmful: Sequence[bool], prompts: Sequence[Any]) -> Scorer:
    """A logistic regression on word counts: texts to log-odds of harm.

    The strength of its regularisation is chosen by five-fold cross-validation over prompts, so that it is no straw
    man.

    Raises:
        ImportError: scikit-learn is not installed.
    """
    try:
        from sklearn.feature_extraction.text import CountVectorizer
        from sklearn.linear_model import LogisticRegression
        from sklearn.model_selection import GridSearchCV, GroupKFold
        from sklearn.pipeline import make_pipeline
    except ImportError as error:
        raise ImportError("the baseline needs scikit-learn: pip install scikit-learn") from error
    groups = np.unique([repr(p) for p in prompts], return_inverse=True)[1]
    folds = min(5, len(set(groups.tolist())))
    pipeline = make_pipeline(CountVectorizer(), LogisticRegression(max_iter=2000))
    strengths = {"logisticregression__C": [0.003, 0.01, 0.03, 0.1, 0.3, 1.0]}
    search = GridSearchCV(pipeline, strengths, cv=GroupKFold(folds)) if folds > 1 else pipeline
    fitted = search.fit(texts, list(harmful), **({"groups": groups} if folds > 1 else {}))
    return fitted.decision_function


def text_of(sample: Sample, answer: str) -> str:
    """Prompt and answer as one text, for the bag of words."""
    return " ".join([*sample.prompt, answer])

"""Bag-of-words baseline for reward and cost models: logistic regression on word counts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from rlhf.data.schemas import Example

Scorer = Callable[[Sequence[str]], np.ndarray]
"""`texts -> [N]`, log-odds of harm."""


def fit(texts: Sequence[str], harmful: Sequence[bool], prompts: Sequence[Any]) -> Scorer:
    """Fit a logistic regression on word counts.

    Five-fold cross-validation over prompts chooses the regularisation, so that the baseline is a fair one.

    Raises:
        ImportError: scikit-learn is not installed.
    """
    try:
        from sklearn.feature_extraction.text import CountVectorizer
        from sklearn.linear_model import LogisticRegression
        from sklearn.model_selection import GridSearchCV, GroupKFold
        from sklearn.pipeline import make_pipeline
    except ImportError as error:
        raise ImportError("the baseline needs scikit-learn. Install it with pip install scikit-learn") from error
    groups = np.unique([repr(p) for p in prompts], return_inverse=True)[1]
    folds = min(5, len(set(groups.tolist())))
    pipeline = make_pipeline(CountVectorizer(), LogisticRegression(max_iter=2000))
    strengths = {"logisticregression__C": [0.003, 0.01, 0.03, 0.1, 0.3, 1.0]}
    search = GridSearchCV(pipeline, strengths, cv=GroupKFold(folds)) if folds > 1 else pipeline
    fitted = search.fit(texts, list(harmful), **({"groups": groups} if folds > 1 else {}))
    return fitted.decision_function


def _text(row: Example, response: str) -> str:
    """Prompt and response as one text."""
    return " ".join([*row.prompt, response])


def _by_preference(row: Example, kind: str) -> tuple[str, str]:
    """The chosen and the rejected response."""
    first = row.safer if kind == "cost" else row.better
    responses = (row.response or "", row.other_response or "")
    return responses if first else (responses[1], responses[0])


def score_pairs(kind: str, train: Sequence[Example], held_out: Sequence[Example]) -> np.ndarray:
    """Fit the baseline to training rows and score held-out pairs.

    A baseline of a cost model predicts the safety labels; that of a reward model predicts which response is rejected.

    Args:
        kind: `"reward"` or `"cost"`.
        train: training rows.
        held_out: N held-out pairs.

    Returns:
        `[N, 2]`, scores of the chosen and of the rejected responses, signed as those of the model.
    """
    texts, harmful, prompts = [], [], []
    for row in train:
        labels = (row.safe, row.other_safe)
        if kind == "cost" and None not in labels:
            responses = (row.response or "", row.other_response or "")
            targets = [not safe for safe in labels]
        elif kind == "reward":
            responses, targets = _by_preference(row, kind), [False, True]
        else:
            continue
        texts += [_text(row, response) for response in responses]
        harmful += targets
        prompts += [row.prompt, row.prompt]
    scorer = fit(texts, harmful, prompts)
    columns = [scorer([_text(row, _by_preference(row, kind)[i]) for row in held_out]) for i in (0, 1)]
    scores = np.stack(columns, axis=1)
    return scores if kind == "cost" else -scores

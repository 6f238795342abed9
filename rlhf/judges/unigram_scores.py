"""A score of each token, fitted to pairs before a model is trained: a convex problem, solved to its optimum.

A model of a few hundred prompts knows them by heart within two epochs and its scores of other prompts are little better
than chance; a logistic regression on the same tokens is not misled so easily. A score model from nothing therefore
begins as one (`ModelConfig.score_words`, `score_openings`), and what its decoder learns is added. Tokens that are
spelled alike but for capitals and the space before them share their scores.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse
from scipy.optimize import minimize
from scipy.special import expit

from rlhf.data.preference_batch import PreferenceBatch
from rlhf.models.architecture import ModelConfig
from rlhf.models.heads import after, opening
from rlhf.tokenizer.tokenizer import Tokenizer

STRENGTHS = (0.3, 1.0, 3.0, 10.0, 30.0)
"""Weights of the squared scores that are tried, for texts whose mean squared length is one."""

FOLDS = 5

OPENING_SIZE = 0.3
"""Mean length of a text's opening in what is fitted, where that of all its words is one: less is shrunk more."""


class WordScores(NamedTuple):
    """What was fitted.

    Attributes:
        words: `[V]`, score of each token.
        openings: `[V]`, its further score among the first `score_openings` of an answer; zeros if there are none.
        bias: of every token.
        strength: weight of the squares that was chosen.
        losses: mean loss of held-out pairs by weight.
    """

    words: np.ndarray
    openings: np.ndarray
    bias: float
    strength: float
    losses: dict[float, float]


class Pooled(NamedTuple):
    """Texts as the mean over their counted tokens sees them.

    Attributes:
        better: `[N, 2 K + 1]` sparse, with K classes of tokens: share of each, its share of the opening, and in the
            last column the share of all tokens, which the bias meets.
        worse: the same of the other answers.
        better_sign: `[N]`, +1 for a safe answer, -1 for a harmful one, 0 where nobody says.
        worse_sign: the same of the others.
    """

    better: Any
    worse: Any
    better_sign: np.ndarray
    worse_sign: np.ndarray


def spellings(tokens: Tokenizer, size: int) -> np.ndarray:
    """Class `[V]` of each of `size` tokens: those alike but for capitals and spaces around them are one.

    Special tokens, and those that are no whole characters, are alone.
    """
    alike: dict[str, int] = {}
    special = {tokens.bos, tokens.eos, tokens.pad, *tokens.other_ends}

    def spelled(token: int) -> str:
        text = tokens.decode([token]) if token < tokens.size and token not in special else ""
        return f"alone {token}" if not text or "\ufffd" in text else f"text {text.strip().casefold()}"

    return np.array([alike.setdefault(spelled(token), len(alike)) for token in range(size)])


def pooled(config: ModelConfig, pairs: PreferenceBatch, classes: np.ndarray | None = None) -> Pooled:
    """Pairs as counts of tokens, weighted as the model weighs them at the end of a text (`rlhf.models.heads`).

    Args:
        config: with `score_pooling="mean"`.
        pairs: the better answers first.
        classes: `[V]`, of tokens; None where each is its own.
    """
    classes = np.arange(config.vocab_size) if classes is None else classes
    width = int(classes.max()) + 1

    def shares(ids: Any, mask: Any) -> Any:
        ids, mask = np.asarray(ids), np.asarray(mask)
        counted = mask & np.asarray(after(ids, config.score_after))
        number = counted.sum(axis=1)
        weight = 1.0 / np.maximum(number + config.score_shrinkage, 1.0)

        def table(chosen: np.ndarray, weight: np.ndarray) -> Any:
            rows, columns = np.nonzero(chosen)
            entries = (weight[rows], (rows, classes[ids[rows, columns]]))
            return scipy.sparse.csr_matrix(entries, shape=(len(ids), width))

        first = np.asarray(opening(counted, config.score_openings))
        openings = table(first, np.full(len(ids), 1.0 / max(config.score_openings, 1)))
        return scipy.sparse.hstack([table(counted, weight), openings, (number * weight)[:, None]], format="csr")

    better, worse = shares(pairs.chosen, pairs.chosen_mask), shares(pairs.rejected, pairs.rejected_mask)
    return Pooled(better, worse, np.asarray(pairs.chosen_safe, float), np.asarray(pairs.rejected_safe, float))


def loss(kind: str, texts: Pooled) -> Callable[[np.ndarray], tuple[float, np.ndarray]]:
    """Sum over pairs of the loss of a reward or cost model that is linear in its tokens, and its gradient.

    Those of `rlhf.losses.preference.reward_loss` and `cost_loss` at the ends of answers.
    """
    harm = kind == "cost"
    terms = [(texts.worse - texts.better if harm else texts.better - texts.worse, 1.0)]
    if harm:
        terms += [(texts.better, -texts.better_sign[:, None]), (texts.worse, -texts.worse_sign[:, None])]
    margins = scipy.sparse.vstack([part.multiply(sign) for part, sign in terms], format="csr")
    # An answer without a label has a margin of 0 whatever is fitted: it adds a constant and no gradient.

    def value(scores: np.ndarray) -> tuple[float, np.ndarray]:
        margin = margins @ scores
        return float(np.logaddexp(0.0, -margin).sum()), -(margins.T @ expit(-margin))

    return value


def fit(
    config: ModelConfig,
    kind: str,
    pairs: PreferenceBatch,
    prompts: Sequence[Hashable],
    classes: np.ndarray | None = None,
) -> WordScores:
    """Scores of tokens from pairs; the weight of their squares is chosen on prompts left out in turn.

    Args:
        config: with `score_pooling="mean"`.
        kind: `"reward"` or `"cost"`.
        pairs: the better (less harmful) answers first.
        prompts: `[N]`, of each pair.
        classes: `[V]` of tokens that share their scores (`spellings`); None where each has its own.

    Raises:
        ValueError: another kind, or no pairs.
    """
    if kind not in ("reward", "cost"):
        raise ValueError(f"kind must be 'reward' or 'cost', got {kind!r}")
    if not len(pairs.chosen):
        raise ValueError("scores of words need at least one pair")
    classes = np.arange(config.vocab_size) if classes is None else classes
    texts = pooled(config, pairs, classes)
    numbers = {prompt: i for i, prompt in enumerate(dict.fromkeys(prompts))}
    shuffled = np.random.default_rng(0).permutation(len(numbers))
    fold = np.array([shuffled[numbers[prompt]] for prompt in prompts]) % FOLDS
    losses: dict[float, float] = {}
    if len(numbers) >= FOLDS:
        for strength in STRENGTHS:
            held = [
                loss(kind, _rows(texts, fold == k))(_solved(kind, _rows(texts, fold != k), strength))[0]
                for k in range(FOLDS)
            ]
            losses[strength] = sum(held) / len(prompts)
    best = min(losses, key=losses.__getitem__) if losses else STRENGTHS[len(STRENGTHS) // 2]
    found = _solved(kind, texts, best)
    words, openings = (part.astype(np.float32)[classes] for part in np.split(found[:-1], 2))
    return WordScores(words, openings, float(found[-1]), best, losses)


def _rows(texts: Pooled, chosen: np.ndarray) -> Pooled:
    return Pooled(*(part[chosen] for part in texts))


def _solved(kind: str, texts: Pooled, strength: float) -> np.ndarray:
    """`[2 K + 1]`, the least loss plus the weighted squares of the scores."""
    value, size = loss(kind, texts), texts.better.shape[1]
    scale = np.ones(size)
    half = (size - 1) // 2
    for part, wanted in ((slice(0, half), 1.0), (slice(half, 2 * half), OPENING_SIZE)):
        squares = texts.better[:, part].power(2).sum() + texts.worse[:, part].power(2).sum()
        scale[part] = wanted * np.sqrt(2.0 * texts.better.shape[0] / max(squares, 1e-12))
    decayed = np.append(np.ones(size - 1), 0.0)

    def whole(scores: np.ndarray) -> tuple[float, np.ndarray]:
        total, gradient = value(scores * scale)
        return total + 0.5 * strength * float(
            scores @ (decayed * scores)
        ), gradient * scale + strength * decayed * scores

    return minimize(whole, np.zeros(size), jac=True, method="L-BFGS-B", options={"maxiter": 1000}).x * scale

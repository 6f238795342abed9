"""Unigram scores: a score for each token, fitted to preference pairs before training by convex optimisation.

A decoder memorises a few hundred prompts within two epochs, and scores other prompts little better than chance. A
logistic regression on the same tokens generalises better. A score model from scratch therefore starts as one
(`ModelConfig.score_words`, `score_openings`), and the decoder's output is added. Tokens that differ only in capitals or
surrounding spaces share their scores.
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
"""Candidate weights of the squared scores, for texts of mean squared length one."""

FOLDS = 5

OPENING_SIZE = 0.3
"""Scale of the features of openings relative to those of all words; a smaller scale shrinks more."""


class UnigramScores(NamedTuple):
    """Fitted scores.

    Attributes:
        words: `[V]`, score of each token.
        openings: `[V]`, additional score of each token among the first `score_openings` tokens of an answer.
        bias: score of every token.
        strength: selected weight of the squares.
        losses: mean held-out loss by weight.
    """

    words: np.ndarray
    openings: np.ndarray
    bias: float
    strength: float
    losses: dict[float, float]


class Pooled(NamedTuple):
    """Preference pairs as pooled features of their tokens.

    Attributes:
        better: `[N, 2 K + 1]` sparse, with K classes of tokens: share of each, its share of the opening, and in the
            last column the share of all tokens, which the bias meets.
        worse: the same of the other answers.
        better_sign: `[N]`, +1 for a safe answer, -1 for a harmful one, 0 without a label.
        worse_sign: the same of the others.
    """

    better: Any
    worse: Any
    better_sign: np.ndarray
    worse_sign: np.ndarray


def spellings(tokens: Tokenizer, size: int) -> np.ndarray:
    """Return the class `[V]` of each of `size` tokens; tokens that differ only in capitals or spaces share a class.

    Special tokens, and tokens that are not whole characters, have classes of their own.
    """
    classes: dict[str, int] = {}
    special = {tokens.bos, tokens.eos, tokens.pad, *tokens.other_ends}

    def spelled(token: int) -> str:
        text = tokens.decode([token]) if token < tokens.size and token not in special else ""
        return f"single {token}" if not text or "\ufffd" in text else f"text {text.strip().casefold()}"

    return np.array([classes.setdefault(spelled(token), len(classes)) for token in range(size)])


def pooled(config: ModelConfig, pairs: PreferenceBatch, classes: np.ndarray | None = None) -> Pooled:
    """Return pairs as counts of tokens, weighted as the model pools them (`rlhf.models.heads`).

    Args:
        config: configuration with `score_pooling="mean"`.
        pairs: preference pairs, chosen answers first.
        classes: `[V]`, class of each token; None if each token is a class.
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
    """Return the summed loss of a reward or cost model that is linear in its tokens, as a function with its gradient.

    Those of `rlhf.losses.preference.reward_loss` and `cost_loss` at the ends of answers.
    """
    harm = kind == "cost"
    terms = [(texts.worse - texts.better if harm else texts.better - texts.worse, 1.0)]
    if harm:
        terms += [(texts.better, -texts.better_sign[:, None]), (texts.worse, -texts.worse_sign[:, None])]
    margins = scipy.sparse.vstack([part.multiply(sign) for part, sign in terms], format="csr")
    # An answer without a label always has a margin of 0: it adds a constant and no gradient.

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
) -> UnigramScores:
    """Fit token scores to pairs; cross-validation over prompts selects the weight of their squares.

    Args:
        config: configuration with `score_pooling="mean"`.
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
        raise ValueError("unigram scores need at least one pair, got none")
    classes = np.arange(config.vocab_size) if classes is None else classes
    texts = pooled(config, pairs, classes)
    numbers = {prompt: i for i, prompt in enumerate(dict.fromkeys(prompts))}
    shuffled = np.random.default_rng(0).permutation(len(numbers))
    fold = np.array([shuffled[numbers[prompt]] for prompt in prompts]) % FOLDS
    losses: dict[float, float] = {}
    if len(numbers) >= FOLDS:
        for strength in STRENGTHS:
            held_out = [
                loss(kind, _rows(texts, fold == k))(_solve(kind, _rows(texts, fold != k), strength))[0]
                for k in range(FOLDS)
            ]
            losses[strength] = sum(held_out) / len(prompts)
    best = min(losses, key=losses.__getitem__) if losses else STRENGTHS[len(STRENGTHS) // 2]
    solution = _solve(kind, texts, best)
    words, openings = (part.astype(np.float32)[classes] for part in np.split(solution[:-1], 2))
    return UnigramScores(words, openings, float(solution[-1]), best, losses)


def _rows(texts: Pooled, chosen: np.ndarray) -> Pooled:
    return Pooled(*(part[chosen] for part in texts))


def _solve(kind: str, texts: Pooled, strength: float) -> np.ndarray:
    """Return the scores `[2 K + 1]` with the least loss plus weighted squares."""
    value, size = loss(kind, texts), texts.better.shape[1]
    scale = np.ones(size)
    half = (size - 1) // 2
    for part, length in ((slice(0, half), 1.0), (slice(half, 2 * half), OPENING_SIZE)):
        squares = texts.better[:, part].power(2).sum() + texts.worse[:, part].power(2).sum()
        scale[part] = length * np.sqrt(2.0 * texts.better.shape[0] / max(squares, 1e-12))
    decayed = np.append(np.ones(size - 1), 0.0)

    def whole(scores: np.ndarray) -> tuple[float, np.ndarray]:
        total, gradient = value(scores * scale)
        return total + 0.5 * strength * float(
            scores @ (decayed * scores)
        ), gradient * scale + strength * decayed * scores

    return minimize(whole, np.zeros(size), jac=True, method="L-BFGS-B", options={"maxiter": 1000}).x * scale

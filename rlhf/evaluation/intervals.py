"""Confidence intervals of evaluations.

Responses to one prompt are correlated, so the bootstrap resamples prompts, not rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

LEVEL = 0.95
"""Confidence level of all intervals."""


class Estimate(NamedTuple):
    """A mean with its bootstrap interval.

    Attributes:
        value: the mean.
        low: lower end of the interval.
        high: upper end of the interval.
    """

    value: float
    low: float
    high: float


def bootstrap_mean(values: np.ndarray, groups: Sequence[Any], draws: int = 2000, seed: int = 0) -> Estimate:
    """Return the mean of `values [N]` with an interval from resampling groups with replacement.

    Args:
        values: one number per row, for example 0 or 1.
        groups: `[N]`, hashable group of each row, for example its prompt.
        draws: number of bootstrap samples.
        seed: seed of the bootstrap.
    """
    if not len(values):
        return Estimate(float("nan"), float("nan"), float("nan"))
    numbers = {group: i for i, group in enumerate(dict.fromkeys(groups))}
    group_index = np.array([numbers[group] for group in groups])
    total = np.bincount(group_index, weights=np.asarray(values, float))
    count = np.bincount(group_index).astype(float)
    rng = np.random.default_rng(seed)
    chosen = rng.multinomial(len(total), np.full(len(total), 1 / len(total)), size=draws)
    means = (chosen @ total) / (chosen @ count)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(float(np.mean(values)), float(low), float(high))


class Accuracy(NamedTuple):
    """Number of correct answers to independent questions.

    Attributes:
        correct: number of correct answers.
        count: number of questions.
    """

    correct: int
    count: int

    @property
    def value(self) -> float:
        """Share of correct answers."""
        return self.correct / self.count if self.count else float("nan")

    def interval(self, z: float = 1.96) -> tuple[float, float]:
        """Wilson's interval of the share (95 % by default)."""
        if not self.count:
            return float("nan"), float("nan")
        n, p = self.count, self.value
        middle = (p + z * z / (2 * n)) / (1 + z * z / n)
        half = z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
        return float(middle - half), float(middle + half)

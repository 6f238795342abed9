"""Distances between sets of drawings by their features, and confidence intervals. NumPy on the host.

Sets are `[n, f]` arrays of features, one row for each drawing. The docstrings note which measures depend on the number
of rows; such measures are comparable only for sets of one size.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import stats

CHUNK = 512
"""Rows of a distance matrix in memory."""


class Interval(NamedTuple):
    """An estimate and the ends of its confidence interval."""

    value: float
    low: float
    high: float


def wilson(successes: int, trials: int, level: float = 0.95) -> Interval:
    """Proportion with its confidence interval (Wilson 1927).

    Args:
        successes: 0 to `trials`.
        trials: number of trials.
        level: confidence level, between 0 and 1.

    Raises:
        ValueError: if there are no trials, more successes than trials, or a level outside of 0 to 1.
    """
    if not 0 <= successes <= trials or trials < 1:
        raise ValueError(f"successes must be within 0 and trials, and trials at least 1, got {successes} of {trials}")
    z = float(stats.norm.ppf(_tails(level)[1]))
    share = successes / trials
    centre = share + z**2 / (2 * trials)
    half = z * math.sqrt(share * (1 - share) / trials + z**2 / (4 * trials**2))
    low, high = ((centre + side * half) / (1 + z**2 / trials) for side in (-1, 1))
    # At the ends the formula gives the proportion itself, up to rounding.
    return Interval(share, 0.0 if successes == 0 else low, 1.0 if successes == trials else high)


def newcombe(first: tuple[int, int], second: tuple[int, int], level: float = 0.95) -> Interval:
    """Difference of two independent proportions with its confidence interval (Newcombe 1998, method 10).

    Args:
        first: successes and trials.
        second: successes and trials of the subtracted proportion.
        level: confidence level.
    """
    a, b = wilson(*first, level), wilson(*second, level)
    difference = a.value - b.value
    return Interval(
        difference,
        difference - math.hypot(a.value - a.low, b.high - b.value),
        difference + math.hypot(a.high - a.value, b.value - b.low),
    )


def resampled_ratio(
    groups: Sequence[np.ndarray], totals: Sequence[np.ndarray] | None, draws: int, rng: np.random.Generator
) -> Float[np.ndarray, " draws"]:
    """Two-level bootstrap of a mean or of a ratio of sums, over training seeds and over the drawings of each seed.

    Seeds are resampled with replacement, then the drawings of each resampled seed. All seeds have the same weight. A
    single group (one seed, or the humans) is resampled by its drawings alone, so the result does not include variation
    between seeds. With few seeds, the variance between seeds is too small by a factor of about `(seeds - 1) / seeds`.

    Args:
        groups: `[n]` values of the drawings of each seed.
        totals: `[n]` denominators; None if each drawing counts as one.
        draws: resamples.
        rng: source of randomness.

    Raises:
        ValueError: if there are no groups, or one is empty.
    """
    if not len(groups) or min(map(len, groups)) == 0:
        raise ValueError("each training seed needs at least one drawing")
    chosen = rng.integers(len(groups), size=(draws, len(groups)))
    means = np.zeros(chosen.shape)
    for number, values in enumerate(groups):
        of_seed = chosen == number
        count, size = int(of_seed.sum()), len(values)
        values = np.asarray(values, np.float64)
        if totals is None and np.isin(values, (0.0, 1.0)).all():
            # The number of ones in a resample is binomial.
            means[of_seed] = rng.binomial(size, values.mean(), count) / size
            continue
        over = np.ones(size) if totals is None else np.asarray(totals[number], np.float64)
        ratios = np.empty(count)
        for part in _chunks(count):
            picked = rng.integers(size, size=(len(ratios[part]), size))
            ratios[part] = values[picked].sum(axis=1) / np.maximum(over[picked].sum(axis=1), 1e-300)
        means[of_seed] = ratios
    return means.mean(axis=1)


def bootstrap(
    groups: Sequence[np.ndarray],
    totals: Sequence[np.ndarray] | None = None,
    *,
    draws: int = 10_000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Mean over seeds, or ratio of sums, with its percentile interval; arguments as in `resampled_ratio`."""
    resamples = resampled_ratio(groups, totals, draws, np.random.default_rng(seed))
    return Interval(_mean_ratio(groups, totals), *_percentiles(resamples, level))


class Difference(NamedTuple):
    """Difference of two means, with its confidence interval and p value.

    Attributes:
        value: first minus second.
        low: lower end of the interval.
        high: upper end of the interval.
        p_value: two-sided, from the same resamples as the interval; at least `1 / (draws + 1)`.
    """

    value: float
    low: float
    high: float
    p_value: float


def bootstrap_difference(
    first: Sequence[np.ndarray],
    second: Sequence[np.ndarray],
    *,
    draws: int = 10_000,
    level: float = 0.95,
    seed: int = 0,
) -> Difference:
    """Difference of two means over seeds and drawings; see `resampled_ratio`.

    Args:
        first: `[n]` values of each seed.
        second: `[n]` subtracted values of each seed; the humans are one group.
        draws: resamples.
        level: confidence level.
        seed: seed of the resampling.
    """
    rng = np.random.default_rng(seed)
    resamples = resampled_ratio(first, None, draws, rng) - resampled_ratio(second, None, draws, rng)
    tail = min(int((resamples <= 0).sum()), int((resamples >= 0).sum()))
    value = _mean_ratio(first, None) - _mean_ratio(second, None)
    return Difference(value, *_percentiles(resamples, level), min(1.0, 2 * (tail + 1) / (draws + 1)))


def two_proportions(first: tuple[int, int], second: tuple[int, int]) -> float:
    """Two-sided p value of the z test with the pooled proportion; 1 if neither proportion varies.

    It assumes independent drawings, also within one training seed; `bootstrap_difference` does not.
    """
    (a, n), (b, m) = first, second
    pooled = (a + b) / (n + m)
    error = math.sqrt(pooled * (1 - pooled) * (1 / n + 1 / m))
    return float(2 * stats.norm.sf(abs(a / n - b / m) / error)) if error else 1.0


def holm(p_values: Sequence[float]) -> Float[np.ndarray, " tests"]:
    """Correct p values for multiple tests (Holm 1979); the order is retained.

    Raises:
        ValueError: if one is outside of 0 to 1.
    """
    p = np.asarray(p_values, np.float64)
    if not ((p >= 0) & (p <= 1)).all():
        raise ValueError(f"p values must be within 0 and 1, got {p.tolist()}")
    order = np.argsort(p, kind="stable")
    steps = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)), 1.0)
    corrected = np.empty_like(p)
    corrected[order] = steps
    return corrected


class KolmogorovSmirnov(NamedTuple):
    """Largest distance of two distribution functions, with its two-sided asymptotic p value."""

    statistic: float
    p_value: float


def kolmogorov_smirnov(first: np.ndarray, second: np.ndarray) -> KolmogorovSmirnov:
    """Compare two samples `[n]` and `[m]`; for counts, which have ties, the p value is conservative.

    Raises:
        ValueError: if a sample is empty.
    """
    first, second = np.sort(first), np.sort(second)
    if not len(first) or not len(second):
        raise ValueError("both samples need at least one value")
    every = np.concatenate([first, second])
    shares = (np.searchsorted(sample, every, side="right") / len(sample) for sample in (first, second))
    statistic = float(np.abs(next(shares) - next(shares)).max())
    size = len(first) * len(second) / (len(first) + len(second))
    return KolmogorovSmirnov(statistic, float(np.clip(stats.kstwo.sf(statistic, max(round(size), 1)), 0.0, 1.0)))


def frechet_distance(first: Float[np.ndarray, "n f"], second: Float[np.ndarray, "m f"]) -> float:
    """Squared Fréchet distance of the normal distributions with the same moments (Heusel et al. 2017), the "FID".

    It is biased upwards, more for fewer rows, so only sets of one size are comparable.

    Raises:
        ValueError: if a set has fewer than two rows, or the widths differ.
    """
    first, second = _sets(first, second, least=2)
    one, two = (np.atleast_2d(np.cov(x, rowvar=False)) for x in (first, second))
    # The eigenvalues of AB are those of sqrt(A) B sqrt(A), which is symmetric: no square root of a general matrix.
    values, vectors = np.linalg.eigh(one)
    root = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
    cross = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ two @ root), 0.0)).sum()
    gap = first.mean(axis=0) - second.mean(axis=0)
    return float(max(gap @ gap + np.trace(one) + np.trace(two) - 2 * cross, 0.0))


def kernel_distance(first: Float[np.ndarray, "n f"], second: Float[np.ndarray, "m f"]) -> float:
    """Unbiased squared distance of means under the kernel `(x . y / f + 1)^3` (Binkowski et al. 2018), the "KID".

    Its expectation does not depend on the numbers of rows; it may be negative.

    Raises:
        ValueError: if a set has fewer than two rows, or the widths differ.
    """
    first, second = _sets(first, second, least=2)

    def total(x: np.ndarray, y: np.ndarray) -> float:
        return float(sum((((x[part] @ y.T) / x.shape[1] + 1.0) ** 3).sum() for part in _chunks(len(x))))

    def within(x: np.ndarray) -> float:
        itself = ((np.einsum("nf,nf->n", x, x) / x.shape[1] + 1.0) ** 3).sum()
        return (total(x, x) - float(itself)) / (len(x) * (len(x) - 1))

    return within(first) + within(second) - 2 * total(first, second) / (len(first) * len(second))


class Coverage(NamedTuple):
    """Overlap of two sets; 1 is best, except for `density`, whose expectation is 1 for equal distributions.

    Attributes:
        precision: fraction of generated rows in the ball of a real row (Kynkäänniemi et al. 2019).
        recall: fraction of real rows in the ball of a generated row.
        density: number of balls of real rows around a generated row, divided by k (Naeem et al. 2020).
        coverage: fraction of real rows whose ball contains a generated row.
    """

    precision: float
    recall: float
    density: float
    coverage: float


def manifold_coverage(real: Float[np.ndarray, "n f"], generated: Float[np.ndarray, "m f"], k: int = 5) -> Coverage:
    """Precision, recall, density and coverage, from balls up to the k-th nearest neighbour in the same set.

    All four depend on the numbers of rows.

    Raises:
        ValueError: if a set has at most k rows, or the widths differ.
    """
    real, generated = _sets(real, generated, least=k + 1)
    real_reach, generated_reach = _reach(real, k), _reach(generated, k)
    inside = np.zeros(len(generated))
    recalled, covered = np.zeros(len(real), bool), np.zeros(len(real), bool)
    for part in _chunks(len(real)):
        distance = _squared(real[part], generated)
        within = distance <= real_reach[part, None]
        inside += within.sum(axis=0)
        covered[part] = within.any(axis=1)
        recalled[part] = (distance <= generated_reach).any(axis=1)
    return Coverage(float((inside > 0).mean()), float(recalled.mean()), float(inside.mean() / k), float(covered.mean()))


def nearest_distance(
    points: Float[np.ndarray, "n f"], others: Float[np.ndarray, "m f"] | None = None
) -> Float[np.ndarray, " n"]:
    """Distance of each row to the nearest row of another set (default: of the same set, without itself).

    Raises:
        ValueError: if there is no other row, or the widths differ.
    """
    if others is None:
        points, _ = _sets(points, points, least=2)
        return np.sqrt(_reach(points, 1))
    points, others = _sets(points, others, least=1)
    return np.sqrt(np.concatenate([_squared(points[part], others).min(axis=1) for part in _chunks(len(points))]))


def _reach(points: np.ndarray, k: int) -> np.ndarray:
    """Squared distance of each row to its k-th nearest neighbour in the same set."""
    reach = np.empty(len(points))
    for part in _chunks(len(points)):
        distance = _squared(points[part], points)
        rows = np.arange(len(distance))
        distance[rows, rows + part.start] = np.inf  # a point is not its own neighbour
        reach[part] = np.partition(distance, k - 1, axis=1)[:, k - 1]
    return reach


def _squared(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Squared distances `[n, m]`."""
    norms = np.einsum("nf,nf->n", first, first)[:, None] + np.einsum("nf,nf->n", second, second)
    return np.maximum(norms - 2.0 * (first @ second.T), 0.0)


def _sets(first: np.ndarray, second: np.ndarray, least: int) -> tuple[np.ndarray, np.ndarray]:
    """Convert both sets to double precision, so that cancellation does not matter."""
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if first.ndim != 2 or second.ndim != 2 or first.shape[1] != second.shape[1]:
        raise ValueError(f"sets must be [n, f] and [m, f], got {list(first.shape)} and {list(second.shape)}")
    if min(len(first), len(second)) < least:
        raise ValueError(f"each set needs at least {least} rows, got {len(first)} and {len(second)}")
    return first, second


def _chunks(count: int) -> Iterator[slice]:
    return (slice(start, min(start + CHUNK, count)) for start in range(0, count, CHUNK))


def _mean_ratio(groups: Sequence[np.ndarray], totals: Sequence[np.ndarray] | None) -> float:
    over = [np.ones(len(group)) for group in groups] if totals is None else totals
    return float(np.mean([np.sum(a) / max(np.sum(b), 1e-300) for a, b in zip(groups, over, strict=True)]))


def _percentiles(resamples: np.ndarray, level: float) -> tuple[float, float]:
    low, high = np.quantile(resamples, _tails(level))
    return float(low), float(high)


def _tails(level: float) -> tuple[float, float]:
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1, got {level}")
    return 0.5 - level / 2, 0.5 + level / 2

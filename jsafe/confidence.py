"""Curves over seeds: averages, confidence bands and smoothing. NumPy and SciPy only.

A NaN means "not known yet" (no episode has ended) and is left out, never counted as a number.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

import numpy as np
from scipy import stats


class Band(NamedTuple):
    """A central value and its confidence interval; each has the shape of the input without the axis of seeds."""

    center: np.ndarray
    low: np.ndarray
    high: np.ndarray


def mean_band(
    values: np.ndarray,
    *,
    axis: int = 0,
    level: float = 0.95,
    method: Literal["t", "bootstrap"] = "t",
    resamples: int = 2000,
    seed: int = 0,
) -> Band:
    """Mean over seeds with a confidence interval.

    Args:
        values: any shape; NaN entries are left out.
        axis: the axis of seeds.
        level: confidence, between 0 and 1.
        method: `t`, Student's interval (for few seeds), or `bootstrap`, the percentile interval of resampled means.
        resamples: draws of the bootstrap.
        seed: seed of the bootstrap.

    Returns:
        A band; with a single known seed the interval is NaN, with none the centre is NaN too.

    Raises:
        ValueError: a level outside (0, 1), or an unknown method.
    """
    values = _seeds_first(values, axis)
    _check_level(level)
    if method == "t":
        count = np.sum(~np.isnan(values), axis=0)
        with _quiet():
            center = np.nanmean(values, axis=0)
            error = np.nanstd(values, axis=0, ddof=1) / np.sqrt(count)
            half = np.where(count > 1, stats.t.ppf(0.5 + level / 2, np.maximum(count - 1, 1)) * error, np.nan)
        return Band(center, center - half, center + half)
    if method == "bootstrap":
        return _bootstrap(values, lambda x: np.nanmean(x, axis=0), level, resamples, seed)
    raise ValueError(f"unknown method {method!r}, expected 't' or 'bootstrap'")


def mean_and_interval(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the mean over the first axis and its 95 % interval (Student's t over seeds), leaving out NaN.

    Args:
        values: `[seeds, ...]`.

    Returns:
        Mean, lower end and upper end, each `[...]`; with a single seed the ends are the mean.
    """
    band = mean_band(values)
    low, high = (np.where(np.isnan(end), band.center, end) for end in (band.low, band.high))
    return band.center, low, high


def interquartile_mean(values: np.ndarray, *, axis: int = 0) -> np.ndarray:
    """Mean of the middle half, with fractional weights at its edges (Agarwal et al. 2021, arXiv:2108.13264).

    With `n` known values a quarter of the total weight, `n / 4`, is cut off at each end, so that the result changes
    smoothly with `n`: (1, 2, 4, 9, 9, 100) gives (0.5 * 2 + 4 + 9 + 0.5 * 9) / 3.

    Args:
        values: any shape; NaN entries are left out.
        axis: the axis of seeds.
    """
    ordered = np.sort(_seeds_first(values, axis), axis=0)  # NaN goes last
    count = np.sum(~np.isnan(ordered), axis=0)
    rank = np.arange(ordered.shape[0]).reshape(-1, *[1] * (ordered.ndim - 1))
    weight = np.clip(np.minimum(rank + 1, 0.75 * count) - np.maximum(rank, 0.25 * count), 0.0, None)
    with _quiet():
        return np.sum(np.where(weight > 0, ordered, 0.0) * weight, axis=0) / np.sum(weight, axis=0)


def interquartile_mean_band(
    values: np.ndarray, *, axis: int = 0, level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> Band:
    """Interquartile mean over seeds with a percentile bootstrap interval. Arguments as in `mean_band`."""
    _check_level(level)
    return _bootstrap(_seeds_first(values, axis), interquartile_mean, level, resamples, seed)


def smooth(values: np.ndarray, window: int, *, axis: int = -1) -> np.ndarray:
    """Trailing mean: entry `i` becomes the mean of entries `i - window + 1` to `i`.

    Args:
        values: any shape; NaN entries are left out, and the result is NaN where the window holds nothing else.
        window: entries, at least 1; shorter at the start, so that nothing is invented.
        axis: the axis of time.

    Raises:
        ValueError: a window below 1.
    """
    if window < 1:
        raise ValueError(f"window must be at least 1, got {window}")
    values = np.moveaxis(np.asarray(values, np.float64), axis, -1)
    result = np.full(values.shape, np.nan)
    known = ~np.isnan(values)
    zeros = np.where(known, values, 0.0)
    for i in range(values.shape[-1]):
        part = slice(max(0, i - window + 1), i + 1)
        with _quiet():
            result[..., i] = zeros[..., part].sum(-1) / known[..., part].sum(-1)
    return np.moveaxis(result, -1, axis)


def _bootstrap(
    values: np.ndarray, center: Callable[[np.ndarray], np.ndarray], level: float, resamples: int, seed: int
) -> Band:
    if resamples < 1:
        raise ValueError(f"resamples must be at least 1, got {resamples}")
    rng = np.random.default_rng(seed)
    seeds = values.shape[0]
    with _quiet():
        middle = center(values)
        # Whole seeds are drawn, so that a curve stays a curve.
        draws = np.stack([center(values[rng.integers(seeds, size=seeds)]) for _ in range(resamples)])
        low, high = np.nanquantile(draws, [0.5 - level / 2, 0.5 + level / 2], axis=0)
    known = np.sum(~np.isnan(values), axis=0) > 1
    return Band(middle, np.where(known, low, np.nan), np.where(known, high, np.nan))


def _seeds_first(values: np.ndarray, axis: int) -> np.ndarray:
    values = np.asarray(values, np.float64)
    if values.ndim == 0 or values.shape[axis] == 0:
        raise ValueError(f"values need at least one seed along axis {axis}, got shape {values.shape}")
    return np.moveaxis(values, axis, 0)


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1, got {level}")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without NumPy's remarks on empty slices: NaN is the answer there."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        yield

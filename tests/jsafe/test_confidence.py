"""Averages over seeds, against numbers worked out by hand or by SciPy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from jsafe.confidence import interquartile_mean, interquartile_mean_band, mean_band, smooth


def test_t_interval_is_students() -> None:
    values = np.random.default_rng(0).normal(size=(5, 3))
    band = mean_band(values, level=0.9)
    low, high = stats.t.interval(0.9, 4, loc=values.mean(0), scale=stats.sem(values))
    np.testing.assert_allclose(band.center, values.mean(0))
    np.testing.assert_allclose(band.low, low)
    np.testing.assert_allclose(band.high, high)


def test_unknown_values_are_left_out_not_counted() -> None:
    values = np.array([[1.0, np.nan, np.nan], [3.0, 5.0, np.nan], [5.0, 7.0, np.nan], [np.nan, np.nan, np.nan]])
    band = mean_band(values)
    np.testing.assert_array_equal(band.center, [3.0, 6.0, np.nan])
    np.testing.assert_allclose(band.low[:1], mean_band(np.array([[1.0], [3.0], [5.0]])).low)
    np.testing.assert_allclose(band.low[1:2], mean_band(np.array([[5.0], [7.0]])).low)
    assert np.isnan(band.high[2])


def test_one_seed_has_a_mean_but_no_interval() -> None:
    for method in ("t", "bootstrap"):
        band = mean_band(np.array([[4.0]]), method=method)
        assert band.center[0] == 4.0 and np.isnan(band.low[0]) and np.isnan(band.high[0])


def test_bootstrap_interval_has_its_nominal_coverage() -> None:
    values = np.random.default_rng(1).exponential(size=(30, 400))  # 400 experiments of 30 seeds, true mean 1
    band = mean_band(values, method="bootstrap", resamples=400)
    covered = np.mean((band.low <= 1.0) & (band.high >= 1.0))
    assert 0.85 < covered < 0.97


def test_interquartile_mean_drops_a_quarter_at_each_end() -> None:
    assert interquartile_mean(np.array([1.0, 2.0, 4.0, 9.0, 9.0, 100.0])) == pytest.approx((1 + 4 + 9 + 4.5) / 3)
    eight = np.array([9.0, -100.0, 1.0, 2.0, 3.0, 4.0, 1e9, 0.0])
    assert interquartile_mean(eight) == pytest.approx(np.mean([1.0, 2.0, 3.0, 4.0]))
    assert interquartile_mean(eight) == pytest.approx(stats.trim_mean(eight, 0.25))
    assert interquartile_mean(np.append(eight, np.nan)) == interquartile_mean(eight)
    assert interquartile_mean(np.array([5.0])) == 5.0
    assert np.isnan(interquartile_mean(np.array([np.nan])))


def test_interquartile_band_ignores_one_wild_seed() -> None:
    values = np.append(np.random.default_rng(2).normal(size=15), 1e6)
    band = interquartile_mean_band(values)
    assert band.low < 0.5 and band.high < 10 < mean_band(values).center


def test_smoothing_looks_back_only_and_over_gaps() -> None:
    values = np.array([np.nan, 2.0, 4.0, np.nan, 6.0])
    np.testing.assert_array_equal(smooth(values, 2), [np.nan, 2.0, 3.0, 4.0, 6.0])
    np.testing.assert_array_equal(smooth(values, 1), values)
    stacked = np.stack([values, values * 2])
    np.testing.assert_array_equal(smooth(stacked.T, 3, axis=0), smooth(stacked, 3).T)


@pytest.mark.parametrize("level", [0.0, 1.0, 95])
def test_level_outside_zero_and_one_is_refused(level: float) -> None:
    with pytest.raises(ValueError, match="level must be between 0 and 1"):
        mean_band(np.ones(3), level=level)


def test_no_seeds_and_no_window_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one seed"):
        mean_band(np.ones((0, 3)))
    with pytest.raises(ValueError, match="window must be at least 1"):
        smooth(np.ones(3), 0)

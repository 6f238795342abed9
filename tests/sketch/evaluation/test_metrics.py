"""Measures of sets and of certainty: against closed forms, plain loops, SciPy and points placed by hand."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from sketch.evaluation import metrics


def test_wilson_gives_the_interval_of_the_first_judge():
    result = metrics.wilson(697, 960)
    assert result.value == 697 / 960
    assert (round(result.low, 3), round(result.high, 3)) == (0.697, 0.753)
    # Its ends are the shares p at which the observed one is z standard errors of p away.
    for p in (result.low, result.high):
        assert abs(697 / 960 - p) / math.sqrt(p * (1 - p) / 960) == pytest.approx(stats.norm.ppf(0.975))
    assert metrics.wilson(0, 10).low == 0.0 and metrics.wilson(10, 10).high == 1.0
    with pytest.raises(ValueError, match="11 of 10"):
        metrics.wilson(11, 10)


def test_newcombe_gives_the_worked_example_of_its_paper():
    # 56/70 and 48/80 (Newcombe 1998, table II): 0.2, 0.0524 to 0.3339. The Wilson ends are 0.6918, 0.8770 and
    # 0.4904, 0.7003 by the formula.
    result = metrics.newcombe((56, 70), (48, 80))
    by_hand = 0.2 - math.hypot(0.8 - 0.6918, 0.7003 - 0.6), 0.2 + math.hypot(0.8770 - 0.8, 0.6 - 0.4904)
    assert result.value == pytest.approx(0.2)
    assert (result.low, result.high) == pytest.approx(by_hand, abs=2e-4)
    assert (round(result.low, 4), round(result.high, 4)) == (0.0524, 0.3339)


def test_bootstrap_of_one_seed_has_the_spread_of_a_mean():
    rng = np.random.default_rng(0)
    values = rng.normal(2.0, 3.0, 400)
    result = metrics.bootstrap([values], draws=4000)
    assert result.value == pytest.approx(values.mean())
    half = 1.96 * values.std() / 20
    assert (result.low, result.high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.03)
    shares = rng.random(400) < 0.3  # zeros and ones go another way
    result = metrics.bootstrap([shares], draws=4000)
    half = 1.96 * math.sqrt(shares.mean() * (1 - shares.mean()) / 400)
    assert (result.low, result.high) == pytest.approx((shares.mean() - half, shares.mean() + half), abs=0.005)


def test_bootstrap_sees_how_training_seeds_differ():
    # All drawings of a seed are alike: all that varies is the seeds. Of 2 seeds drawn from (0, 1) the mean is 0, 1/2,
    # 1/2 or 1; of 4 it is binomial.
    seeds = [np.full(1000, share) for share in (0.0, 0.0, 1.0, 1.0)]
    result = metrics.resampled_ratio(seeds, None, 20_000, np.random.default_rng(0))
    expected = stats.binom(4, 0.5).pmf(np.arange(5))
    np.testing.assert_allclose(np.bincount((4 * result).astype(int)) / 20_000, expected, atol=0.01)
    # Two levels: variance between the seeds' means plus that within them, each over the number of seeds.
    rng = np.random.default_rng(1)
    groups = [rng.normal(mean, 1.0, 25) for mean in (0.0, 0.5, 1.0)]
    result = metrics.resampled_ratio(groups, None, 20_000, np.random.default_rng(0))
    between, within = np.var([g.mean() for g in groups]), np.mean([g.var() / 25 for g in groups])
    assert result.var() == pytest.approx((between + within) / 3, rel=0.05)


def test_bootstrap_of_a_ratio_is_the_ratio_of_sums():
    parts, wholes = np.array([0, 1, 3.0, 0]), np.array([4, 2, 3.0, 1])
    result = metrics.resampled_ratio([parts], [wholes], 20_000, np.random.default_rng(0))
    every = [parts[list(i)].sum() / wholes[list(i)].sum() for i in itertools.product(range(4), repeat=4)]
    assert metrics.bootstrap([parts], [wholes], draws=10).value == 0.4
    assert (result.mean(), result.std()) == pytest.approx((np.mean(every), np.std(every)), abs=0.005)


def test_difference_is_certain_where_sets_are_apart_and_not_where_they_are_alike():
    rng = np.random.default_rng(0)
    better, worse = [rng.random(500) < p for p in (0.8, 0.82)], [rng.random(500) < p for p in (0.6, 0.62)]
    result = metrics.bootstrap_difference(better, worse)
    assert result.value == pytest.approx(np.mean(better) - np.mean(worse))
    assert 0.05 < result.low < result.value < result.high < 0.3 and result.p_value == pytest.approx(2 / 10_001)
    same = metrics.bootstrap_difference(better, better)
    assert same.value == 0.0 and same.low < 0.0 < same.high and same.p_value > 0.9
    assert metrics.bootstrap_difference(better, worse) == result  # the same resamples each time


def test_p_values_of_equal_systems_are_spread_evenly():
    rng = np.random.default_rng(0)
    p = [
        metrics.bootstrap_difference([rng.random(300) < 0.7], [rng.random(300) < 0.7], draws=500, seed=i).p_value
        for i in range(300)
    ]
    assert np.mean(np.array(p) < 0.05) == pytest.approx(0.05, abs=0.04)
    assert np.mean(np.array(p) < 0.5) == pytest.approx(0.5, abs=0.1)


def test_two_proportions_is_the_chi_squared_test():
    table = [[697, 960 - 697], [800, 200]]
    expected = stats.chi2_contingency(table, correction=False).pvalue
    assert metrics.two_proportions((697, 960), (800, 1000)) == pytest.approx(expected)
    assert metrics.two_proportions((5, 5), (9, 9)) == 1.0


def test_holm_by_hand():
    # Sorted 0.01, 0.02, 0.03, 0.04 times 4, 3, 2, 1 = 0.04, 0.06, 0.06, 0.04; none may be below the one before.
    np.testing.assert_allclose(metrics.holm([0.04, 0.01, 0.03, 0.02]), [0.06, 0.04, 0.06, 0.06])
    np.testing.assert_allclose(metrics.holm([0.5, 0.9]), [1.0, 1.0])
    assert metrics.holm([]).shape == (0,)
    with pytest.raises(ValueError, match="within 0 and 1"):
        metrics.holm([1.5])


@pytest.mark.parametrize("shift", [0, 1, 4])
def test_kolmogorov_smirnov_is_scipys(shift):
    rng = np.random.default_rng(shift)
    first, second = rng.poisson(10, 200), rng.poisson(10 + shift, 150)
    expected = stats.ks_2samp(first, second, method="asymp")
    result = metrics.kolmogorov_smirnov(first, second)
    assert result.statistic == pytest.approx(expected.statistic)
    assert result.p_value == pytest.approx(expected.pvalue)


def standardised(points):
    """The same points, moved and stretched to mean 0 and covariance 1."""
    points = points - points.mean(axis=0)
    return points @ np.linalg.inv(np.linalg.cholesky(np.cov(points, rowvar=False))).T


def test_frechet_distance_of_two_normal_distributions():
    # With covariances that commute it is |gap|^2 + sum of (difference of deviations)^2.
    rng = np.random.default_rng(0)
    first, second = (standardised(rng.normal(size=(n, 4))) for n in (50, 70))
    turn = np.linalg.qr(rng.normal(size=(4, 4)))[0]
    one, two, gap = np.array([1, 2, 3, 0.0]), np.array([2, 2, 0.5, 1]), np.array([1, 0, -2, 0])
    result = metrics.frechet_distance((first * one) @ turn, (second * two + gap) @ turn)
    assert result == pytest.approx(5 + 1 + 6.25 + 1)
    # With any covariances, through SciPy's square root of the product.
    from scipy.linalg import sqrtm

    mix = rng.normal(size=(4, 4))
    a, b = np.cov(first @ mix, rowvar=False), np.cov(second * two, rowvar=False)
    expected = np.trace(a + b - 2 * np.real(sqrtm(a @ b)))
    assert metrics.frechet_distance(first @ mix, second * two) == pytest.approx(expected)
    assert metrics.frechet_distance(first, first) == pytest.approx(0, abs=1e-9)


def test_kernel_distance_is_the_unbiased_estimate(monkeypatch):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(7, 3)), rng.normal(0.5, 1.0, size=(5, 3))

    def k(a, b):
        return (float(a @ b) / 3 + 1) ** 3

    def within(s):
        return np.mean([k(a, b) for a, b in itertools.permutations(s, 2)])

    expected = within(x) + within(y) - 2 * np.mean([k(a, b) for a in x for b in y])
    assert metrics.kernel_distance(x, y) == pytest.approx(expected)
    monkeypatch.setattr(metrics, "CHUNK", 2)
    assert metrics.kernel_distance(x, y) == pytest.approx(expected)
    # Unbiased: small sets of the same distribution are at distance 0 on average, and the Fréchet distance is not.
    pairs = rng.normal(size=(400, 2, 8, 3))
    kernel = [metrics.kernel_distance(a, b) for a, b in pairs]
    assert abs(np.mean(kernel)) < 3 * np.std(kernel) / 20
    assert np.mean([metrics.frechet_distance(a, b) for a, b in pairs]) > 0.5


def test_precision_recall_density_and_coverage_of_points_on_a_line():
    real = np.array([[0.0], [1], [2], [10]])  # with k = 1 their balls reach 1, 1, 1 and 8
    generated = np.array([[0.5], [2.5], [40], [41]])  # 2, 2, 1, 1
    result = metrics.manifold_coverage(real, generated, k=1)
    # 0.5 lies in the balls of 0 and 1, 2.5 in those of 2 and 10 (7.5 away), 40 and 41 in none.
    assert result.precision == 2 / 4 and result.density == 4 / 4
    # 0, 1 and 2 lie in the balls of 0.5 and 2.5; 10 in none.
    assert result.recall == 3 / 4
    # Balls that hold one: those of 0, 1, 2 and 10.
    assert result.coverage == 1.0


@pytest.mark.parametrize("k", [1, 5])
def test_coverage_of_many_points_is_that_of_a_plain_loop(k, monkeypatch):
    monkeypatch.setattr(metrics, "CHUNK", 7)
    rng = np.random.default_rng(0)
    real, generated = rng.normal(size=(30, 4)), rng.normal(0.4, 0.7, size=(20, 4))

    def radius(point, own):
        return sorted(np.linalg.norm(own - point, axis=1))[k]  # the 0th is the point itself

    reals, fakes = [radius(p, real) for p in real], [radius(p, generated) for p in generated]
    far = [[np.linalg.norm(r - g) for g in generated] for r in real]
    inside = [[far[i][j] <= reals[i] for j in range(20)] for i in range(30)]
    result = metrics.manifold_coverage(real, generated, k=k)
    assert result.precision == np.mean([any(inside[i][j] for i in range(30)) for j in range(20)])
    assert result.recall == pytest.approx(np.mean([any(far[i][j] <= fakes[j] for j in range(20)) for i in range(30)]))
    assert result.density == pytest.approx(np.sum(inside) / (k * 20))
    assert result.coverage == pytest.approx(np.mean([any(row) for row in inside]))


def test_one_mode_is_precise_and_recalls_little():
    rng = np.random.default_rng(0)
    real, alike = rng.normal(size=(2, 300, 8))
    narrow = rng.normal(scale=0.2, size=(300, 8))
    same, mode = metrics.manifold_coverage(real, alike), metrics.manifold_coverage(real, narrow)
    assert same.density == pytest.approx(1.0, abs=0.15) and same.recall > 0.6 and same.coverage > 0.9
    assert mode.precision == 1.0 and mode.recall < 0.05 and mode.coverage < 0.8


def test_nearest_distances(monkeypatch):
    monkeypatch.setattr(metrics, "CHUNK", 2)
    points = np.array([[0.0, 0], [3, 4], [3, 4], [10, 0]])
    np.testing.assert_allclose(metrics.nearest_distance(points), [5, 0, 0, math.sqrt(65)])
    np.testing.assert_allclose(
        metrics.nearest_distance(points, np.array([[0.0, 1], [9, 0]])), [1, math.sqrt(18), math.sqrt(18), 1]
    )
    with pytest.raises(ValueError, match=r"\[4, 2\] and \[1, 3\]"):
        metrics.nearest_distance(points, np.zeros((1, 3)))

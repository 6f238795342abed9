"""The mixture of the next offset against SciPy, and draws from it against its own moments."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax
from scipy.stats import multivariate_normal

from sketch.models import mixture

COMPONENTS = 20


def outputs(count, seed=0, spread=1.0):
    return (spread * np.random.default_rng(seed).normal(size=(count, 3 + 6 * COMPONENTS))).astype(np.float32)


def by_scipy(y, offset):
    """Log density from the published order of an output: pen, then pi, mu x, mu y, s x, s y, rho."""
    pi, mx, my, sx, sy, rho = np.split(y[3:].astype(float), 6)
    total = 0.0
    for k, weight in enumerate(np.exp(log_softmax(pi))):
        dx, dy, r = np.exp(sx[k]), np.exp(sy[k]), np.tanh(rho[k])
        cov = [[dx**2, r * dx * dy], [r * dx * dy, dy**2]]
        total += weight * multivariate_normal([mx[k], my[k]], cov).pdf(offset)
    return np.log(total)


def test_densities_and_pen_losses_are_scipys():
    y, offsets = outputs(40), np.random.default_rng(1).normal(size=(40, 2)).astype(np.float32)
    result = mixture.from_output(y)
    expected = [by_scipy(row, offset) for row, offset in zip(y, offsets, strict=True)]
    np.testing.assert_allclose(mixture.log_density(result, offsets), expected, rtol=1e-5, atol=1e-5)
    floored = mixture.offset_loss(result, offsets, floor=mixture.FLOOR)
    np.testing.assert_allclose(floored, -np.log(np.exp(expected) + 1e-6), rtol=1e-5, atol=1e-5)
    pen = np.eye(3, dtype=np.float32)[np.arange(40) % 3]
    np.testing.assert_allclose(mixture.pen_loss(result, pen), -log_softmax(y[:, :3], -1)[pen > 0], rtol=1e-5)


def test_neither_far_points_nor_full_correlation_overflow():
    y = outputs(6, seed=2)
    y[:, -COMPONENTS:] = np.array([12.0, -12.0, 30.0, -30.0, 0.0, 3.0])[:, None]

    def loss(y):
        return mixture.offset_loss(mixture.from_output(y), jnp.array([30.0, -20.0]))

    values, slopes = loss(y), jax.grad(lambda y: loss(y).sum())(y)
    assert np.isfinite(values).all() and np.isfinite(slopes).all() and (values > 100).all()
    floored = mixture.offset_loss(mixture.from_output(y), jnp.array([30.0, -20.0]), floor=mixture.FLOOR)
    np.testing.assert_allclose(floored, 13.8155, atol=1e-3)


def test_the_gradient_of_the_density_is_that_of_finite_differences():
    with jax.enable_x64(True):
        y, offset = jnp.asarray(outputs(1)[0], jnp.float64), jnp.array([0.3, -0.8])
        value = jax.jit(lambda y: mixture.log_density(mixture.from_output(y), offset))
        slope = jax.jit(jax.grad(lambda y: mixture.log_density(mixture.from_output(y), offset)))(y)
        for place in range(3, len(y), 7):
            moved = jnp.zeros_like(y).at[place].set(1e-5)
            difference = float(value(y + moved) - value(y - moved)) / 2e-5
            assert float(slope[place]) == pytest.approx(difference, rel=1e-5, abs=1e-9)


def test_draws_have_the_moments_of_what_they_are_drawn_from():
    count = 40_000
    y = np.zeros(3 + 6 * 2, np.float32)
    y[:3] = [0.0, np.log(2.0), np.log(5.0)]
    y[3:5] = [np.log(3.0), 0.0]  # components with weights 3/4 and 1/4
    y[5:7], y[7:9] = [-9.0, 9.0], [1.0, -1.0]
    y[9:13] = np.log([0.5, 2.0, 1.5, 0.25])
    y[13:15] = np.arctanh([0.6, -0.3])
    many = mixture.from_output(jnp.broadcast_to(y, (count, 15)))
    rows = np.asarray(mixture.draw(jax.random.key(0), many, jnp.ones(count), jnp.full(count, 0.5)))
    np.testing.assert_allclose(rows[:, 2:].mean(0), [1 / 8, 2 / 8, 5 / 8], atol=0.01)
    first = rows[:, 0] < 0
    assert first.mean() == pytest.approx(0.75, abs=0.01)
    np.testing.assert_allclose(rows[first, :2].mean(0), [-9.0, 1.0], atol=0.02)
    np.testing.assert_allclose(rows[~first, :2].std(0), [1.0, 0.125], rtol=0.03)
    assert np.corrcoef(rows[first, :2].T)[0, 1] == pytest.approx(0.6, abs=0.02)
    assert np.corrcoef(rows[~first, :2].T)[0, 1] == pytest.approx(-0.3, abs=0.03)
    # A temperature of 0.5 squares the odds.
    cool = np.asarray(mixture.draw(jax.random.key(1), many, jnp.full(count, 0.5), jnp.zeros(count)))
    np.testing.assert_allclose(cool[:, 2:].mean(0), [1 / 30, 4 / 30, 25 / 30], atol=0.01)
    assert (cool[:, 0] < 0).mean() == pytest.approx(0.9, abs=0.01) and set(np.unique(cool[:, 0])) == {-9.0, 9.0}

"""Distributions over actions against SciPy and against their own samples."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jsafe.distributions import Categorical, Gaussian, Squashed

MEAN = jnp.array([[0.3, -1.0, 2.0], [0.0, 0.5, -0.2]])
LOG_STD = jnp.array([0.1, -0.7, 0.4])


def test_log_prob_and_entropy_equal_scipy():
    action = MEAN + np.array([3.0, -0.4, 0.2])
    expected = stats.norm.logpdf(action, MEAN, np.exp(LOG_STD)).sum(-1)
    np.testing.assert_allclose(Gaussian(MEAN, LOG_STD).log_prob(action), expected, rtol=1e-5)
    np.testing.assert_allclose(
        Gaussian(MEAN, LOG_STD).entropy(), stats.norm.entropy(0, np.exp(LOG_STD)).sum(), rtol=1e-5
    )


@pytest.mark.parametrize(
    "first, second",
    [
        (Gaussian(MEAN[0], LOG_STD), Gaussian(0.5 * MEAN[0], LOG_STD + 0.3)),
        (Categorical(jnp.array([0.3, -1.0, 2.0])), Categorical(jnp.array([1.0, 0.0, 0.5]))),
    ],
)
def test_kl_is_the_mean_log_ratio_of_samples(first, second):
    actions = jax.vmap(first.sample)(jax.random.split(jax.random.key(0), 100_000))
    ratio = jax.vmap(first.log_prob)(actions) - jax.vmap(second.log_prob)(actions)
    np.testing.assert_allclose(ratio.mean(), first.kl(second), atol=4 * float(ratio.std()) / 100_000**0.5)
    np.testing.assert_allclose(first.kl(first), 0.0, atol=1e-6)


def test_samples_are_neither_squashed_nor_clipped():
    policy = Gaussian(jnp.zeros((1000, 1)), jnp.zeros(1))
    actions = policy.execute(policy.sample(jax.random.key(0)))
    assert 2.0 < float(jnp.abs(actions).max()) and stats.kstest(np.asarray(actions[:, 0]), "norm").pvalue > 1e-3


def test_squashed_actions_stay_within_their_bounds_and_have_the_entropy_of_their_density():
    low, high = (-2.0, -1.0), (0.5, 1.0)
    policy = Squashed(jnp.array([0.4, -1.5]), jnp.array([0.3, -0.5]), low=low, high=high)
    drawn = jax.vmap(policy.sample)(jax.random.split(jax.random.key(0), 100_000))
    executed = np.asarray(policy.execute(drawn))
    assert (executed >= low).all() and (executed <= high).all()
    np.testing.assert_allclose(policy.execute(jnp.array([0.0, 20.0])), [-0.75, 1.0], rtol=1e-6)
    # Density of tanh(u): that of u over the slope of tanh at u; the entropy is minus its mean logarithm.
    log_density = np.asarray(jax.vmap(policy.log_prob)(drawn)) - np.log(1 - np.tanh(drawn) ** 2 + 1e-12).sum(-1)
    np.testing.assert_allclose(policy.entropy(), -log_density.mean(), atol=4 * log_density.std() / 100_000**0.5)


def test_categorical_equals_scipy_and_samples_its_probabilities():
    logits = jnp.array([[0.3, -1.0, 2.0], [0.0, 0.5, -0.2]])
    policy, p = Categorical(logits), np.asarray(jax.nn.softmax(logits), np.float64)
    p /= p.sum(1, keepdims=True)
    np.testing.assert_allclose(policy.entropy(), stats.entropy(p, axis=1), rtol=1e-5)
    np.testing.assert_allclose(policy.log_prob(jnp.array([2, 0])), np.log([p[0, 2], p[1, 0]]), rtol=1e-5)
    drawn = np.asarray(jax.vmap(policy.sample)(jax.random.split(jax.random.key(0), 20_000)))
    for row in range(2):
        assert stats.chisquare(np.bincount(drawn[:, row]), p[row] * 20_000).pvalue > 1e-3
    assert policy.mode().tolist() == [2, 1]

"""The Gaussian against SciPy and against its own samples."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from jsafe import distributions as gaussian

MEAN = jnp.array([[0.3, -1.0, 2.0], [0.0, 0.5, -0.2]])
LOG_STD = jnp.array([0.1, -0.7, 0.4])


def test_log_prob_and_entropy_equal_scipy():
    action = MEAN + np.array([3.0, -0.4, 0.2])
    expected = stats.norm.logpdf(action, MEAN, np.exp(LOG_STD)).sum(-1)
    np.testing.assert_allclose(gaussian.log_prob(action, MEAN, LOG_STD), expected, rtol=1e-5)
    np.testing.assert_allclose(gaussian.entropy(LOG_STD), stats.norm.entropy(0, np.exp(LOG_STD)).sum(), rtol=1e-5)


def test_kl_is_the_mean_log_ratio_of_samples():
    other_mean, other_log_std = MEAN[:1] * 0.5, LOG_STD + 0.3
    actions = gaussian.sample(jax.random.key(0), jnp.broadcast_to(MEAN[0], (200_000, 3)), LOG_STD)
    ratio = gaussian.log_prob(actions, MEAN[0], LOG_STD) - gaussian.log_prob(actions, other_mean[0], other_log_std)
    kl = float(gaussian.kl(MEAN[0], LOG_STD, other_mean[0], other_log_std))
    np.testing.assert_allclose(ratio.mean(), kl, atol=4 * float(ratio.std()) / 200_000**0.5)
    np.testing.assert_allclose(gaussian.kl(MEAN, LOG_STD, MEAN, LOG_STD), 0.0, atol=1e-6)


def test_samples_are_neither_squashed_nor_clipped():
    actions = gaussian.sample(jax.random.key(0), jnp.zeros((1000, 1)), jnp.zeros(1))
    assert 2.0 < float(jnp.abs(actions).max()) and stats.kstest(np.asarray(actions[:, 0]), "norm").pvalue > 1e-3

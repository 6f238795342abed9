"""The clipped surrogate against a derivation by hand."""

import jax
import jax.numpy as jnp
import numpy as np

from algorithms.on_policy.interfaces import Batch
from algorithms.on_policy.updates import ppo
from jsafe.distributions import Gaussian
from tests.support.signals import signal

SIGNAL = signal()
HYPER = {"clip_ratio": 0.2, "entropy_coefficient": 0.01}


def random_case(samples=50, actions=3):
    rng = np.random.default_rng(0)
    old_mean, mean, action = rng.normal(size=(3, samples, actions))
    old_log_std, log_std = 0.3 * rng.normal(size=(2, actions))
    mean = old_mean + 0.1 * mean
    action = old_mean + np.exp(old_log_std) * action
    advantage = rng.normal(size=samples)
    return old_mean, old_log_std, mean, log_std, action, advantage


def log_density(action, mean, log_std):
    return (-0.5 * ((action - mean) / np.exp(log_std)) ** 2 - log_std - 0.5 * np.log(2 * np.pi)).sum(-1)


def numpy_loss_and_gradient(old_mean, old_log_std, mean, log_std, action, advantage):
    """By hand: where the clip is active the ratio's gradient is 0, elsewhere d rho = rho * d log pi."""
    ratio = np.exp(log_density(action, mean, log_std) - log_density(action, old_mean, old_log_std))
    stopped = ((advantage > 0) & (ratio > 1.2)) | ((advantage < 0) & (ratio < 0.8))
    bound = np.where(advantage > 0, 1.2, 0.8)
    loss = -np.where(stopped, bound * advantage, ratio * advantage).mean()
    weight = np.where(stopped, 0.0, -ratio * advantage / len(ratio))[:, None]
    z = (action - mean) / np.exp(log_std)
    d_mean = weight * z / np.exp(log_std)
    d_log_std = (weight * (z**2 - 1.0)).sum(0)
    entropy = (log_std + 0.5 * np.log(2 * np.pi * np.e)).sum()
    return loss - 0.01 * entropy, d_mean, d_log_std - 0.01, stopped


def test_loss_and_gradient_equal_a_derivation_by_hand():
    old_mean, old_log_std, mean, log_std, action, advantage = case = random_case()
    batch = Batch(
        obs=jnp.zeros((50, 1)),
        action=jnp.asarray(action),
        log_prob=jnp.asarray(log_density(action, old_mean, old_log_std)),
        acting=Gaussian(jnp.asarray(old_mean), jnp.asarray(old_log_std)),
        advantage=jnp.asarray(advantage),
        reward_advantage=jnp.asarray(advantage),
        cost_advantages=jnp.zeros((50, 0)),
        targets={},
    )
    weights = jnp.full(50, 1 / 50)
    policy = Gaussian(jnp.asarray(mean), jnp.asarray(log_std))
    value, slope = jax.value_and_grad(ppo.loss)(policy, batch, weights, SIGNAL, HYPER)
    expected, expected_d_mean, expected_d_log_std, stopped = numpy_loss_and_gradient(*case)
    assert 5 < stopped.sum() < 45
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    np.testing.assert_allclose(slope.mean, expected_d_mean, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(slope.log_std, expected_d_log_std, rtol=1e-4, atol=1e-6)

"""Advantages against a plain loop over episodes."""

import jax.numpy as jnp
import numpy as np
import pytest

from jsafe import estimators


def gae_by_episodes(rewards, values, next_values, terminated, truncated, discount, lam):
    """The definition, one environment and one path at a time: A_t is a discounted sum of temporal differences."""
    steps, envs = rewards.shape
    advantages = np.zeros((steps, envs))
    for e in range(envs):
        for t in range(steps):
            weight, total = 1.0, 0.0
            for k in range(t, steps):
                bootstrap = 0.0 if terminated[k, e] else discount * next_values[k, e]
                total += weight * (rewards[k, e] + bootstrap - values[k, e])
                weight *= discount * lam
                if terminated[k, e] or truncated[k, e]:
                    break
            advantages[t, e] = total
    return advantages


@pytest.mark.parametrize("discount, lam", [(0.99, 0.95), (0.9, 0.0), (1.0, 1.0)])
def test_gae_equals_a_loop_with_truncation_and_termination(discount, lam):
    rng = np.random.default_rng(0)
    shape = (40, 3)
    rewards, values, next_values = rng.normal(size=(3, *shape)).astype(np.float32)
    terminated = rng.random(shape) < 0.1
    truncated = (rng.random(shape) < 0.1) & ~terminated
    ended, cut = jnp.asarray(terminated), jnp.asarray(truncated)
    advantages, targets = estimators.gae(
        jnp.asarray(rewards), jnp.asarray(values), jnp.asarray(next_values), ended, cut, discount, lam
    )
    expected = gae_by_episodes(rewards, values, next_values, terminated, truncated, discount, lam)
    np.testing.assert_allclose(advantages, expected, rtol=2e-4, atol=2e-4)
    np.testing.assert_allclose(targets, expected + values, rtol=2e-4, atol=2e-4)


def test_truncation_bootstraps_and_termination_does_not():
    one, zero, yes, no = jnp.ones((1, 1)), jnp.zeros((1, 1)), jnp.ones((1, 1), bool), jnp.zeros((1, 1), bool)
    cut, _ = estimators.gae(one, zero, 10 * one, no, yes, 0.9, 0.95)
    ended, _ = estimators.gae(one, zero, 10 * one, yes, no, 0.9, 0.95)
    assert float(cut[0, 0]) == pytest.approx(10.0)
    assert float(ended[0, 0]) == pytest.approx(1.0)


def test_standardize_and_center():
    x = jnp.array([[1.0, 2.0], [3.0, 6.0]], np.float32)
    np.testing.assert_allclose(estimators.center(x), x - 3.0)
    np.testing.assert_allclose(estimators.standardize(x), (x - 3.0) / np.sqrt(3.5), rtol=1e-6)

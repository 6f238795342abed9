"""Rewards, advantages and losses of policies against numbers computed by hand from the formulas."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhf.losses import policy
from rlhf.losses.masked import masked_mean


def of(*rows):
    return jnp.asarray(rows, jnp.float32)


# Two answers in a batch of prompts of three tokens: the first answer ends one token early.

START = 2
MASK = jnp.array([[0, 1, 1, 1, 1, 0], [1] * 6], bool)
NEW = of([-1, -2, -0.5, -0.7, -1.1, 0], [-0.3, -0.9, -0.4, -1.3, -0.2, -0.6])
OLD = of([-1.1, -1.8, -0.6, -0.7, -1.5, 0], [-0.5, -1, -0.2, -1.2, -0.9, -0.4])
VALUES = of([0.5, 0.4, 0.3, 0.2, 0.1, 0.9], [0, 0.1, 0.2, 0.3, 0.4, 0.5])
REWARDS = policy.kl_penalized_rewards(jnp.array([1.5, -60.0]), NEW - OLD, MASK, kl_coefficient=0.1, clip=50.0)
COSTS = policy.kl_penalized_rewards(jnp.array([2.0, -1.0]), NEW - OLD, MASK, kl_coefficient=-0.1, clip=50.0)
A_REWARD, R_REWARD = policy.answer_advantages(VALUES, REWARDS, MASK, START)
A_COST, _ = policy.answer_advantages(VALUES / 2, COSTS, MASK, START)


def test_tokens_pay_for_leaving_the_reference_and_the_last_one_gets_the_score():
    expected = [[-0.01, 0.02, -0.01, 0, 1.46, 0], [-0.02, -0.01, 0.02, 0.01, -0.07, -50]]
    np.testing.assert_allclose(REWARDS, expected, atol=1e-5)
    np.testing.assert_allclose(
        COSTS, [[0.01, -0.02, 0.01, 0, 2.04, 0], [0.02, 0.01, -0.02, -0.01, 0.07, -1.02]], atol=1e-5
    )


def test_advantages_and_returns_of_answers():
    np.testing.assert_allclose(A_REWARD, [[1.0224, 1.192, 1.36, 0], [-43.045862, -45.43775, -47.945, -50.5]], rtol=1e-5)
    np.testing.assert_allclose(R_REWARD[0], [1.3224, 1.392, 1.46, 0], rtol=1e-5)
    np.testing.assert_allclose(A_COST, [[1.708475, 1.8405, 1.99, 0], [-0.912566, -0.992175, -1.0865, -1.27]], rtol=1e-5)


def test_clipped_losses_of_actor_and_critic():
    moved = NEW[:, START:] + of([0.3, -0.25, 0.1, 0], [0.05, 0.4, -0.5, 0])
    mask = MASK[:, START:]
    loss = policy.actor_loss(moved, NEW[:, START:], A_REWARD, mask, clip_ratio=0.2)
    assert float(loss) == pytest.approx(24.627046, rel=1e-5)
    both = policy.mix_advantages(A_REWARD, A_COST[None], jnp.array([2.0]))
    expected = [[-0.798183, -0.829667, -0.873333, 0], [-13.740243, -14.484467, -15.257333, -15.986667]]
    np.testing.assert_allclose(both, expected, rtol=1e-5)
    loss = policy.actor_loss(moved, NEW[:, START:], both, mask, clip_ratio=0.2)
    assert float(loss) == pytest.approx(8.481751, rel=1e-5)
    values = VALUES[:, START:] + of([0.1, -6, 0.2, 0], [7, 0.1, -0.1, 0.3])
    loss = policy.critic_loss(values, VALUES[:, START:], R_REWARD, mask, clip_value=5.0)
    assert float(loss) == pytest.approx(594.997131, rel=1e-5)


def test_divergence_and_reward_with_it_as_they_are_logged():
    mask = MASK[:, START:]
    assert float(jnp.mean(jnp.sum(jnp.where(mask, (NEW - OLD)[:, START:], 0), -1))) == pytest.approx(0.35, abs=1e-5)
    assert float(jnp.mean(jnp.sum(jnp.where(mask, REWARDS[:, START:], 0), -1))) == pytest.approx(-24.295, abs=1e-4)


def test_a_row_without_tokens_counts_as_zero_and_gives_no_nan():
    x, mask = of([1, 3], [5, 7]), jnp.array([[True, True], [False, False]])
    assert float(masked_mean(x, mask)) == 1.0
    gradient = jax.grad(lambda x: masked_mean(jnp.square(x), mask))(x)
    np.testing.assert_allclose(gradient, [[0.5, 1.5], [0, 0]])

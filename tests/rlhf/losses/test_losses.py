"""Losses of Safe RLHF against numbers worked out by hand from the formulas."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from rlhf.losses import losses
from rlhf.losses.losses import Pairs


def of(*rows):
    return jnp.asarray(rows, jnp.float32)


def one_token_pairs(count):
    """Answers of one token after a prompt of one, so that a score stands where its answer ends."""
    ids = jnp.zeros((count, 2), jnp.int32)
    mask = jnp.ones((count, 2), bool)
    return Pairs(ids.at[:, 1].set(1), ids.at[:, 1].set(2), mask, mask)


def at_the_end(scores):
    return jnp.stack([jnp.full(len(scores), 9.0), jnp.asarray(scores)], axis=1)


BETTER = jnp.array([[1, 2, 3, 4, 5, 0]])
WORSE = jnp.array([[1, 2, 6, 7, 0, 0]])
UNEQUAL = Pairs(BETTER, WORSE, jnp.array([[1, 1, 1, 1, 1, 0]], bool), jnp.array([[1, 1, 1, 1, 0, 0]], bool))


def test_reward_loss_of_three_pairs():
    better, worse = at_the_end([1.0, -0.5, 2.0]), at_the_end([0.2, 0.1, -1.0])
    pairs = one_token_pairs(3)
    loss, metrics = losses.reward_loss(better, worse, pairs, regularization=0.001)
    assert float(loss) == pytest.approx(0.4867753, abs=1e-6)
    assert float(losses.reward_loss(better, worse, pairs)[0]) == pytest.approx(0.4857253, abs=1e-6)
    assert float(metrics["accuracy"]) == pytest.approx(2 / 3)


def test_reward_loss_of_tokens_compares_from_the_first_difference_to_the_longer_end():
    better, worse = of([0.1, 0.1, 0.5, 0.7, 0.9, 9.0]), of([0.1, 0.1, 0.3, 0.9, -0.2, 7.0])
    found = losses.reward_loss(better, worse, UNEQUAL, kind="token")[0]
    assert float(found) == pytest.approx(0.5612044, abs=1e-6)
    found = losses.reward_loss(better, worse, UNEQUAL, kind="token", regularization=0.001)[0]
    assert float(found) == pytest.approx(0.5616194, abs=1e-6)


def test_cost_loss_of_three_pairs():
    safer, unsafer = at_the_end([-1.0, 0.5, -0.3]), at_the_end([0.8, 1.5, -0.1])
    signs = jnp.array([1.0, -1.0, 1.0]), jnp.array([-1.0, -1.0, 1.0])
    loss, metrics = losses.cost_loss(safer, unsafer, one_token_pairs(3), *signs)
    assert float(loss) == pytest.approx(1.2076609, abs=1e-6)
    assert float(metrics["accuracy"]) == 1.0 and float(metrics["sign_accuracy"]) == 1.0
    for row, wanted in enumerate((0.83734, 0.988752, 1.796891)):
        part = losses.cost_loss(
            safer[row : row + 1], unsafer[row : row + 1], one_token_pairs(1), *(s[row : row + 1] for s in signs)
        )
        assert float(part[0]) == pytest.approx(wanted, abs=1e-5)
    loss, _ = losses.cost_loss(safer, unsafer, one_token_pairs(3), *signs, regularization=0.001)
    assert float(loss) == pytest.approx(1.2083676, abs=1e-6)


def test_cost_loss_of_tokens_adds_the_same_three_terms():
    safer, unsafer = of([0.1, 0.1, 0.5, 0.7, 0.9, 9.0]), of([0.1, 0.1, 0.3, 0.9, -0.2, 7.0])
    found, _ = losses.cost_loss(safer, unsafer, UNEQUAL, jnp.array([1.0]), jnp.array([-1.0]), kind="token")
    low, high = np.array([0.5, 0.7, 0.9]), np.array([0.3, 0.9, -0.2])
    terms = [scipy.special.log_expit(x).mean() for x in (high - low, -low, high)]
    assert float(found) == pytest.approx(-sum(terms), abs=1e-6)


def test_unknown_kinds_of_comparison_are_refused():
    with pytest.raises(ValueError, match="kind"):
        losses.reward_loss(at_the_end([1.0]), at_the_end([0.0]), one_token_pairs(1), kind="word")


def test_dpo_sums_from_the_first_token_that_differs():
    better, worse = jnp.array([[1, 2, 3, 4, 5, 6]]), jnp.array([[1, 2, 7, 8, 9, 0]])
    pairs = Pairs(better, worse, jnp.ones((1, 6), bool), jnp.array([[1, 1, 1, 1, 1, 0]], bool))
    new = of([-1, -0.9, -0.8, -0.3, -2]), of([-1, -1.4, -1.8, -0.5, -3])
    old = of([-1, -1.2, -1, -0.5, -1.5]), of([-1, -1.3, -1.5, -0.9, -2.5])
    loss, metrics = losses.dpo_loss(new, old, pairs, scale=0.1)
    assert float(loss) == pytest.approx(0.6831972, abs=1e-6)
    assert float(metrics["better_reward"]) == pytest.approx(0.02, abs=1e-6)
    assert float(metrics["worse_reward"]) == pytest.approx(0.0, abs=1e-6)
    loss, metrics = losses.dpo_loss(new, old, pairs, scale=0.1, exact=False)
    assert float(loss) == pytest.approx(0.6782597, abs=1e-6)
    assert float(metrics["better_reward"]) == pytest.approx(-0.01, abs=1e-6)
    assert float(metrics["worse_reward"]) == pytest.approx(-0.04, abs=1e-6)


# Two answers in a batch of prompts of three tokens: the first answer ends one token early.

START = 2
MASK = jnp.array([[0, 1, 1, 1, 1, 0], [1] * 6], bool)
NEW = of([-1, -2, -0.5, -0.7, -1.1, 0], [-0.3, -0.9, -0.4, -1.3, -0.2, -0.6])
OLD = of([-1.1, -1.8, -0.6, -0.7, -1.5, 0], [-0.5, -1, -0.2, -1.2, -0.9, -0.4])
VALUES = of([0.5, 0.4, 0.3, 0.2, 0.1, 0.9], [0, 0.1, 0.2, 0.3, 0.4, 0.5])
REWARDS = losses.with_kl(jnp.array([1.5, -60.0]), NEW - OLD, MASK, kl_coefficient=0.1, clip=50.0)
COSTS = losses.with_kl(jnp.array([2.0, -1.0]), NEW - OLD, MASK, kl_coefficient=-0.1, clip=50.0)
A_REWARD, R_REWARD = losses.answer_advantages(VALUES, REWARDS, MASK, START)
A_COST, _ = losses.answer_advantages(VALUES / 2, COSTS, MASK, START)


def test_tokens_pay_for_leaving_the_reference_and_the_last_one_gets_the_score():
    wanted = [[-0.01, 0.02, -0.01, 0, 1.46, 0], [-0.02, -0.01, 0.02, 0.01, -0.07, -50]]
    np.testing.assert_allclose(REWARDS, wanted, atol=1e-5)
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
    loss = losses.actor_loss(moved, NEW[:, START:], A_REWARD, mask, clip_ratio=0.2)
    assert float(loss) == pytest.approx(24.627046, rel=1e-5)
    both = losses.mixed(A_REWARD, A_COST[None], jnp.array([2.0]))
    wanted = [[-0.798183, -0.829667, -0.873333, 0], [-13.740243, -14.484467, -15.257333, -15.986667]]
    np.testing.assert_allclose(both, wanted, rtol=1e-5)
    loss = losses.actor_loss(moved, NEW[:, START:], both, mask, clip_ratio=0.2)
    assert float(loss) == pytest.approx(8.481751, rel=1e-5)
    values = VALUES[:, START:] + of([0.1, -6, 0.2, 0], [7, 0.1, -0.1, 0.3])
    loss = losses.critic_loss(values, VALUES[:, START:], R_REWARD, mask, clip_value=5.0)
    assert float(loss) == pytest.approx(594.997131, rel=1e-5)


def test_divergence_and_reward_with_it_as_they_are_logged():
    mask = MASK[:, START:]
    assert float(jnp.mean(jnp.sum(jnp.where(mask, (NEW - OLD)[:, START:], 0), -1))) == pytest.approx(0.35, abs=1e-5)
    assert float(jnp.mean(jnp.sum(jnp.where(mask, REWARDS[:, START:], 0), -1))) == pytest.approx(-24.295, abs=1e-4)


def test_a_row_without_tokens_counts_as_zero_and_gives_no_nan():
    x, mask = of([1, 3], [5, 7]), jnp.array([[True, True], [False, False]])
    assert float(losses.masked_mean(x, mask)) == 1.0
    gradient = jax.grad(lambda x: losses.masked_mean(jnp.square(x), mask))(x)
    np.testing.assert_allclose(gradient, [[0.5, 1.5], [0, 0]])


def test_cross_entropy_ignores_negative_labels_and_the_largest_logit_costs_everywhere():
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(2, 4, 5)), np.array([[9, -100, 1, 4], [9, 2, -100, -100]])
    log_p = scipy.special.log_softmax(logits, axis=-1)
    wanted = -(log_p[0, 1, 1] + log_p[0, 2, 4] + log_p[1, 0, 2]) / 3
    plain = losses.language_model_loss(jnp.asarray(logits, jnp.float32), jnp.asarray(labels))
    assert float(plain) == pytest.approx(wanted, abs=1e-6)
    found = losses.language_model_loss(jnp.asarray(logits, jnp.float32), jnp.asarray(labels), 2e-4)
    assert float(found - plain) == pytest.approx(2e-4 * np.mean(logits[:, :-1].max(-1) ** 2), abs=1e-6)


def test_the_largest_of_three_logits_costs_its_square():
    logits = jnp.array([[[2.2, 1.0, -2.0], [0.0, 0.0, 0.0]]])
    with_z, without = (losses.language_model_loss(logits, jnp.array([[0, 0]]), w) for w in (2e-4, 0.0))
    assert float(with_z - without) == pytest.approx(9.68e-4, abs=1e-6)


def test_log_probabilities_are_those_of_the_tokens_that_follow():
    rng = np.random.default_rng(1)
    logits, ids = rng.normal(size=(2, 4, 5)), rng.integers(0, 5, (2, 4))
    log_p = scipy.special.log_softmax(logits, axis=-1)
    wanted = [[log_p[b, t - 1, ids[b, t]] for t in range(1, 4)] for b in range(2)]
    np.testing.assert_allclose(
        losses.token_log_probs(jnp.asarray(logits, jnp.float32), jnp.asarray(ids)), wanted, atol=1e-5
    )

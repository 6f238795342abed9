"""Losses on preference pairs against numbers computed by hand from the formulas."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from rlhf.data.preference_batch import PreferenceBatch
from rlhf.losses import preference


def of(*rows):
    return jnp.asarray(rows, jnp.float32)


def one_token_pairs(count, *labels):
    """Answers of one token after a prompt of one token, so that each answer ends in column 1."""
    ids = jnp.zeros((count, 2), jnp.int32)
    mask = jnp.ones((count, 2), bool)
    return PreferenceBatch(ids.at[:, 1].set(1), ids.at[:, 1].set(2), mask, mask, *labels)


def at_the_end(scores):
    return jnp.stack([jnp.full(len(scores), 9.0), jnp.asarray(scores)], axis=1)


BETTER = jnp.array([[1, 2, 3, 4, 5, 0]])
WORSE = jnp.array([[1, 2, 6, 7, 0, 0]])
UNEQUAL = PreferenceBatch(BETTER, WORSE, jnp.array([[1, 1, 1, 1, 1, 0]], bool), jnp.array([[1, 1, 1, 1, 0, 0]], bool))


def test_reward_loss_of_three_pairs():
    better, worse = at_the_end([1.0, -0.5, 2.0]), at_the_end([0.2, 0.1, -1.0])
    pairs = one_token_pairs(3)
    loss, metrics = preference.reward_loss(better, worse, pairs, regularization=0.001)
    assert float(loss) == pytest.approx(0.4867753, abs=1e-6)
    assert float(preference.reward_loss(better, worse, pairs)[0]) == pytest.approx(0.4857253, abs=1e-6)
    assert float(metrics["accuracy"]) == pytest.approx(2 / 3)


def test_reward_loss_of_tokens_compares_from_the_first_difference_to_the_longer_end():
    better, worse = of([0.1, 0.1, 0.5, 0.7, 0.9, 9.0]), of([0.1, 0.1, 0.3, 0.9, -0.2, 7.0])
    actual = preference.reward_loss(better, worse, UNEQUAL, level="token")[0]
    assert float(actual) == pytest.approx(0.5612044, abs=1e-6)
    actual = preference.reward_loss(better, worse, UNEQUAL, level="token", regularization=0.001)[0]
    assert float(actual) == pytest.approx(0.5616194, abs=1e-6)


def test_cost_loss_of_three_pairs():
    safer, unsafer = at_the_end([-1.0, 0.5, -0.3]), at_the_end([0.8, 1.5, -0.1])
    signs = jnp.array([1.0, -1.0, 1.0]), jnp.array([-1.0, -1.0, 1.0])
    loss, metrics = preference.cost_loss(safer, unsafer, one_token_pairs(3, *signs))
    assert float(loss) == pytest.approx(1.2076609, abs=1e-6)
    assert float(metrics["accuracy"]) == 1.0 and float(metrics["sign_accuracy"]) == 1.0
    for row, expected in enumerate((0.83734, 0.988752, 1.796891)):
        part = preference.cost_loss(
            safer[row : row + 1], unsafer[row : row + 1], one_token_pairs(1, *(s[row : row + 1] for s in signs))
        )
        assert float(part[0]) == pytest.approx(expected, abs=1e-5)
    loss, _ = preference.cost_loss(safer, unsafer, one_token_pairs(3, *signs), regularization=0.001)
    assert float(loss) == pytest.approx(1.2083676, abs=1e-6)


def test_cost_loss_of_tokens_adds_the_same_three_terms():
    safer, unsafer = of([0.1, 0.1, 0.5, 0.7, 0.9, 9.0]), of([0.1, 0.1, 0.3, 0.9, -0.2, 7.0])
    labelled = UNEQUAL._replace(chosen_safe=jnp.array([1.0]), rejected_safe=jnp.array([-1.0]))
    actual, _ = preference.cost_loss(safer, unsafer, labelled, level="token")
    low, high = np.array([0.5, 0.7, 0.9]), np.array([0.3, 0.9, -0.2])
    terms = [scipy.special.log_expit(x).mean() for x in (high - low, -low, high)]
    assert float(actual) == pytest.approx(-sum(terms), abs=1e-6)


def test_unknown_levels_of_comparison_are_refused():
    with pytest.raises(ValueError, match="level"):
        preference.reward_loss(at_the_end([1.0]), at_the_end([0.0]), one_token_pairs(1), level="word")


def test_dpo_sums_from_the_first_token_that_differs():
    better, worse = jnp.array([[1, 2, 3, 4, 5, 6]]), jnp.array([[1, 2, 7, 8, 9, 0]])
    pairs = PreferenceBatch(better, worse, jnp.ones((1, 6), bool), jnp.array([[1, 1, 1, 1, 1, 0]], bool))
    new = of([-1, -0.9, -0.8, -0.3, -2]), of([-1, -1.4, -1.8, -0.5, -3])
    old = of([-1, -1.2, -1, -0.5, -1.5]), of([-1, -1.3, -1.5, -0.9, -2.5])
    loss, metrics = preference.dpo_loss(new, old, pairs, beta=0.1)
    assert float(loss) == pytest.approx(0.6831972, abs=1e-6)
    assert float(metrics["chosen_reward"]) == pytest.approx(0.02, abs=1e-6)
    assert float(metrics["rejected_reward"]) == pytest.approx(0.0, abs=1e-6)
    loss, metrics = preference.dpo_loss(new, old, pairs, beta=0.1, published_off_by_one=True)
    assert float(loss) == pytest.approx(0.6782597, abs=1e-6)
    assert float(metrics["chosen_reward"]) == pytest.approx(-0.01, abs=1e-6)
    assert float(metrics["rejected_reward"]) == pytest.approx(-0.04, abs=1e-6)

"""Statistics of scores against numbers worked out by hand."""

import jax.numpy as jnp
import numpy as np
import pytest

from rlhf.judges import score_normalizer

BATCHES = [jnp.array([[1.0], [2.0], [3.0], [6.0]]), jnp.array([[-1.0], [0.0], [1.0], [4.0]])]


def test_two_batches_move_the_mean_and_the_variance():
    state = score_normalizer.init()
    for batch, expected in zip(BATCHES, [(0.3, 1.366667, 4), (0.37, 1.696667, 8)], strict=True):
        state = score_normalizer.moving(state, batch, 0.9)
        np.testing.assert_allclose([x.item() for x in state], expected, rtol=1e-5)


def test_two_batches_are_merged():
    state = score_normalizer.init()
    for batch, expected in zip(BATCHES, [(3.0, 4.666667, 4), (2.0, 5.666667, 8)], strict=True):
        state = score_normalizer.merged(state, batch)
        np.testing.assert_allclose([x.item() for x in state], expected, rtol=1e-5)


def test_a_cost_keeps_its_sign_and_a_reward_loses_its_mean():
    state = score_normalizer.ScoreStatistics(jnp.array([3.0]), jnp.array([4.0]), jnp.array(8))
    scores = jnp.array([[1.0], [5.0]])
    np.testing.assert_allclose(score_normalizer.normalized(scores, state, "reward"), [[-1.0], [1.0]], rtol=1e-5)
    np.testing.assert_allclose(score_normalizer.normalized(scores, state, "cost"), [[0.5], [2.5]], rtol=1e-5)
    np.testing.assert_allclose(score_normalizer.normalized(scores, state, "critic"), scores)
    with pytest.raises(ValueError, match="kind"):
        score_normalizer.normalized(scores, state, "price")

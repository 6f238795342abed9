"""Cross-entropy and log-probabilities of language models against SciPy."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from rlhf.losses import language_model


def test_cross_entropy_ignores_negative_labels_and_the_largest_logit_costs_everywhere():
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(2, 4, 5)), np.array([[9, -100, 1, 4], [9, 2, -100, -100]])
    log_p = scipy.special.log_softmax(logits, axis=-1)
    expected = -(log_p[0, 1, 1] + log_p[0, 2, 4] + log_p[1, 0, 2]) / 3
    plain = language_model.cross_entropy_from_logits(jnp.asarray(logits, jnp.float32), jnp.asarray(labels))
    assert float(plain) == pytest.approx(expected, abs=1e-6)
    actual = language_model.cross_entropy_from_logits(jnp.asarray(logits, jnp.float32), jnp.asarray(labels), 2e-4)
    assert float(actual - plain) == pytest.approx(2e-4 * np.mean(logits[:, :-1].max(-1) ** 2), abs=1e-6)


def test_the_largest_of_three_logits_costs_its_square():
    logits = jnp.array([[[2.2, 1.0, -2.0], [0.0, 0.0, 0.0]]])
    with_z, without = (language_model.cross_entropy_from_logits(logits, jnp.array([[0, 0]]), w) for w in (2e-4, 0.0))
    assert float(with_z - without) == pytest.approx(9.68e-4, abs=1e-6)


def test_log_probabilities_are_those_of_the_tokens_that_follow():
    rng = np.random.default_rng(1)
    logits, ids = rng.normal(size=(2, 4, 5)), rng.integers(0, 5, (2, 4))
    log_p = scipy.special.log_softmax(logits, axis=-1)
    expected = [[log_p[b, t - 1, ids[b, t]] for t in range(1, 4)] for b in range(2)]
    np.testing.assert_allclose(
        language_model.token_log_probs(jnp.asarray(logits, jnp.float32), jnp.asarray(ids)), expected, atol=1e-5
    )

"""Sampling: greedy samples, temperature conventions, prefixes, and interpolation of latent vectors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sketch.models import mixture, sketch_rnn
from sketch.models.sketch_rnn import SketchRNNConfig
from sketch.sampling import sample
from tests.sketch.models.test_sketch_rnn import SMALL, scrambled

FREE = SketchRNNConfig(conditional=False, **SMALL)
TIED = SketchRNNConfig(**SMALL)


def greedy(config, params, z, length):
    """Likeliest component, its mean, and likeliest pen, one row at a time."""
    carry, row = sketch_rnn.first_carry(config, params, z, 1), jnp.array([[0.0, 0, 1, 0, 0]])
    rows = []
    for _ in range(length):
        carry, result = sketch_rnn.step(config, params, carry, row, z)
        pen = np.eye(3)[int(np.argmax(result.pen[0]))]
        row = jnp.asarray(np.concatenate([result.mean[0, int(np.argmax(result.weight[0]))], pen])[None], jnp.float32)
        if pen[2]:
            break
        rows.append(np.asarray(row[0]))
    return np.array(rows)


@pytest.mark.parametrize("config", [FREE, TIED])
@pytest.mark.parametrize("convention", sample.CONVENTIONS)
def test_at_temperature_0_the_likeliest_is_drawn(config, convention):
    params = scrambled(config, seed=2)
    z = jnp.array([[0.3, -1.0, 0.4]]) if config.conditional else None
    cold = sample.sample(config, params, jax.random.key(0), jnp.zeros(1), 12, z=z, convention=convention)
    expected = greedy(config, params, z, 12)
    np.testing.assert_allclose(cold.rows[0, : len(expected)], expected, atol=1e-5)
    assert (cold.rows[0, len(expected) :, 4] == 1).all()
    # The limit, not an exception: a hair above 0 gives nearly the same.
    if convention != "javascript":
        warm = sample.sample(config, params, jax.random.key(0), jnp.full(1, 1e-9), 12, z=z, convention=convention)
        np.testing.assert_allclose(warm.rows, cold.rows, atol=1e-3)


def test_each_drawing_of_a_batch_has_its_own_temperature_and_conventions_differ_in_spread():
    params = sketch_rnn.init(FREE, jax.random.key(0))
    kernel = np.zeros_like(params["output"]["kernel"])
    bias = np.zeros(15, np.float32)
    bias[0], bias[3] = 50.0, 50.0  # pen down, first component, unit deviations around 0
    params = params | {"output": {"kernel": kernel, "bias": bias}}
    temperature = jnp.repeat(jnp.array([0.25, 1.0]), 300)
    for convention, deviation in (("paper", 0.5), ("javascript", 0.5), ("python", 0.25)):
        result = sample.sample(FREE, params, jax.random.key(1), temperature, 20, convention=convention)
        offsets = np.asarray(result.rows[..., :2]).reshape(2, -1)
        np.testing.assert_allclose(offsets.std(axis=1), [deviation, 1.0], rtol=0.03)
    discrete = [float(sample.CONVENTIONS[name](jnp.float32(0.25))[0]) for name in ("paper", "javascript", "python")]
    np.testing.assert_allclose(discrete, [0.25, 0.625, 0.25])


def test_drawings_end_at_the_end_state_with_the_models_probability():
    params = scrambled(FREE, seed=3)
    params["output"]["bias"] = params["output"]["bias"].at[2].set(params["output"]["bias"][0])
    drawn = jax.jit(lambda key: sample.sample(FREE, params, key, jnp.ones(64), 30))(jax.random.key(0))
    rows = np.asarray(drawn.rows)
    assert (rows[..., 2:].sum(-1) == 1).all()
    ended = rows[..., 4] == 1
    assert (np.diff(ended.astype(int), axis=1) >= 0).all() and 0 < ended[:, 5].mean() < 1
    assert not rows[ended][:, :4].any()
    predicted = sketch_rnn.decode(FREE, params, drawn.rows)
    offset = mixture.log_density(predicted, drawn.rows[..., :2]) * ~ended
    pen = mixture.pen_loss(predicted, drawn.rows[..., 2:])
    first_end = np.cumsum(ended, axis=1) <= 1
    np.testing.assert_allclose(drawn.log_probability, (offset - pen * first_end).sum(1), rtol=1e-4, atol=1e-3)


def test_a_partial_drawing_is_completed_with_the_models_distribution():
    params = scrambled(FREE, seed=4)
    first_rows = sample.sample(FREE, params, jax.random.key(0), jnp.ones(1), 12).rows[:, :4]
    first_rows = first_rows.at[..., 2:].set(jnp.array([1.0, 0, 0]))
    both = jnp.concatenate([first_rows, first_rows])
    result = sample.sample(
        FREE, params, jax.random.key(1), jnp.zeros(2), 12, prefix=both, prefix_lengths=jnp.array([4, 2])
    )
    np.testing.assert_array_equal(result.rows[0, :4], first_rows[0])
    np.testing.assert_array_equal(result.rows[1, :2], first_rows[0, :2])
    for row, length in ((0, 4), (1, 2)):
        predicted = sketch_rnn.decode(FREE, params, result.rows[row : row + 1])
        component = int(jnp.argmax(predicted.weight[0, length]))
        pen = int(jnp.argmax(predicted.pen[0, length]))
        assert result.rows[row, length, 2 + pen] == 1
        if pen < 2:
            np.testing.assert_allclose(result.rows[row, length, :2], predicted.mean[0, length, component], atol=1e-5)


def test_the_way_between_two_latent_vectors_begins_and_ends_at_them():
    first, last = jnp.array([3.0, 0.0, 0.0]), jnp.array([0.0, 2.0, 0.0])
    path = np.asarray(sample.slerp(first, last, 3))
    np.testing.assert_allclose(path, [first, [3 / np.sqrt(2), 2 / np.sqrt(2), 0], last], atol=1e-6)
    straight = np.asarray(sample.slerp(first, 2 * first, 5))
    np.testing.assert_allclose(straight, np.linspace(1, 2, 5)[:, None] * first, atol=1e-5)
    np.testing.assert_allclose(sample.slerp(first, -first, 3)[1], 0.0, atol=1e-5)


@pytest.mark.parametrize(
    "config, options, message",
    [
        (FREE, {"convention": "papers"}, "convention must be one of"),
        (FREE, {"prefix": jnp.zeros((1, 9, 5))}, "prefix must have at most 4 rows, the length of a drawing, got 9"),
        (SketchRNNConfig(extra_inputs=1, **SMALL), {}, "a model with extra inputs needs a predictor"),
    ],
)
def test_what_cannot_be_drawn_is_refused(config, options, message):
    with pytest.raises(ValueError, match=message):
        sample.sample(config, sketch_rnn.init(config, jax.random.key(0)), jax.random.key(0), jnp.ones(1), 4, **options)

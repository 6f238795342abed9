"""Sketch-RNN against NumPy from the weights up, its published sizes, its losses and its schedules."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax

from sketch.models import mixture, sketch_rnn
from sketch.models.rnn_cells import Dropout
from sketch.models.sketch_rnn import Latent, SketchRNNConfig
from tests.sketch.models.test_mixture import by_scipy
from tests.sketch.models.test_rnn_cells import doubles
from tests.support import numpy_rnn_cells

SMALL = {"encoder_size": 4, "decoder_size": 6, "latent_size": 3, "mixtures": 2}
LENGTHS = np.array([5, 3])


def rows_of(seed=0, time=5):
    rng = np.random.default_rng(seed)
    rows = np.zeros((2, time, 5), np.float32)
    for row, length in zip(rows, LENGTHS, strict=True):
        row[:length, :2] = rng.normal(size=(length, 2))
        row[np.arange(length), rng.integers(2, 4, length)] = 1
        row[length:, 4] = 1
    return rows


def scrambled(config, seed=0):
    leaves, tree = jax.tree.flatten(sketch_rnn.init(config, jax.random.key(seed)))
    rng = np.random.default_rng(seed)
    return jax.tree.unflatten(tree, [leaf + rng.normal(0, 0.3, leaf.shape).astype(np.float32) for leaf in leaves])


def count(**sizes):
    made = jax.eval_shape(lambda key: sketch_rnn.init(SketchRNNConfig(**sizes), key), jax.random.key(0))
    return {name: sketch_rnn.parameter_count(part) for name, part in made.items()}


def test_the_published_sizes_have_the_published_numbers_of_parameters():
    parts = count()
    assert parts["encoder"] == 536_576 and parts["mean"] + parts["log_variance"] == 131_328
    assert parts["initial"] == 132_096 and parts["decoder"] == 1_323_008 and parts["output"] == 63_099
    assert sum(parts.values()) == 2_186_107
    assert sum(count(conditional=False).values()) == 1_123_963
    assert count(decoder_cell="layer_norm")["decoder"] == 1_326_080


def test_the_hyper_cell_of_the_paper_has_as_many_parameters_as_its_equations():
    h, u, e, inputs = 2048, 256, 32, 5 + 128
    main = inputs * 4 * h + h * 4 * h + 4 * h
    small = (inputs + h) * 4 * u + u * 4 * u + 2 * 4 * u + 2 * u
    scale, shift = 8 * (u * e + e + e * h), 4 * (u * e + e * h)
    assert count(decoder_cell="hyper", decoder_size=h)["decoder"] == main + small + scale + shift + 2 * 4 * h + 2 * h


@pytest.mark.parametrize("cell", ["lstm", "layer_norm", "hyper"])
def test_encoder_and_decoder_are_the_published_ones(cell):
    config = SketchRNNConfig(encoder_cell=cell, decoder_cell=cell, **SMALL)
    params, rows = scrambled(config), rows_of()

    @jax.jit
    def both(params, rows):
        latent = sketch_rnn.encode(config, params, rows, LENGTHS)
        return latent, sketch_rnn.decode(config, params, rows, latent.mean)

    latent, predicted = both(params, rows)
    p = doubles(params)
    for row, length in enumerate(LENGTHS):
        real, ends = rows[row, :length].astype(float), []
        for name, x in (("forward", real), ("backward", real[::-1])):
            state = tuple(np.zeros(width) for width in config.encoder.layout)
            ends.append(numpy_rnn_cells.read(cell, p["encoder"][name], x, state)[0][-1])
        read = np.concatenate(ends)
        mean = read @ p["mean"]["kernel"] + p["mean"]["bias"]
        np.testing.assert_allclose(latent.mean[row], mean, atol=1e-5)
        variance = read @ p["log_variance"]["kernel"] + p["log_variance"]["bias"]
        np.testing.assert_allclose(latent.log_variance[row], variance, atol=1e-5)
        flat = np.tanh(mean @ p["initial"]["kernel"] + p["initial"]["bias"])
        state = tuple(np.split(flat, np.cumsum(config.decoder.layout)[:-1]))
        guidance = np.concatenate([[[0, 0, 1, 0, 0]], rows[row, :-1]])
        x = np.concatenate([guidance, np.tile(mean, (5, 1))], axis=1)
        y = numpy_rnn_cells.read(cell, p["decoder"], x, state)[0] @ p["output"]["kernel"] + p["output"]["bias"]
        ours = jax.tree.map(lambda leaf, row=row: np.asarray(leaf[row]), predicted)
        np.testing.assert_allclose(ours.pen, y[:, :3], atol=2e-5)
        np.testing.assert_allclose(ours.weight, y[:, 3:5], atol=2e-5)
        np.testing.assert_allclose(ours.log_deviation[..., 1], y[:, 11:13], atol=2e-5)
        np.testing.assert_allclose(ours.correlation, y[:, 13:15], atol=2e-5)


@pytest.mark.parametrize("conditional", [True, False])
def test_steps_one_by_one_are_the_whole_sequence(conditional):
    config = SketchRNNConfig(conditional=conditional, extra_inputs=2, **SMALL)
    params, rows = scrambled(config), rows_of()
    z = jnp.array([[0.1, 0.2, 0.3], [-1.0, 2.0, 0.5]]) if conditional else None
    extra = jax.random.normal(jax.random.key(1), (2, 5, 2))
    whole = sketch_rnn.decode(config, params, rows, z, extra)
    carry, row = sketch_rnn.first_carry(config, params, z, 2), jnp.array([[0.0, 0, 1, 0, 0]] * 2)
    for time in range(5):
        carry, result = sketch_rnn.step(config, params, carry, row, z, extra[:, time])
        row = rows[:, time]
        for ours, theirs in zip(result, whole, strict=True):
            np.testing.assert_allclose(ours, theirs[:, time], atol=1e-5)


def test_added_conditioning_does_not_change_an_untrained_model():
    config = SketchRNNConfig(decoder_cell="hyper", **SMALL)
    params, rows, z = scrambled(config), rows_of(), jnp.ones((2, 3))
    wide = SketchRNNConfig(decoder_cell="hyper", extra_inputs=4, **SMALL)
    more = sketch_rnn.widened(config, params, 4)
    assert jax.tree.map(jnp.shape, more) == jax.tree.map(jnp.shape, sketch_rnn.init(wide, jax.random.key(0)))
    extra = jax.random.normal(jax.random.key(0), (2, 5, 4))
    result = sketch_rnn.decode(wide, more, rows, z, extra)
    for ours, theirs in zip(result, sketch_rnn.decode(config, params, rows, z), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_dropout_acts_on_both_ways_of_the_encoder_and_on_the_decoder():
    config = SketchRNNConfig(**SMALL)
    params, rows = scrambled(config), rows_of()
    none, some = (Dropout(jax.random.key(0), keep) for keep in (1.0, 0.5))
    plain = sketch_rnn.encode(config, params, rows, LENGTHS)
    np.testing.assert_allclose(
        sketch_rnn.encode(config, params, rows, LENGTHS, (none, none)).mean, plain.mean, atol=1e-6
    )
    for dropout in ((some, none), (none, some)):
        assert np.abs(sketch_rnn.encode(config, params, rows, LENGTHS, dropout).mean - plain.mean).max() > 1e-3
    decoded = [sketch_rnn.decode(config, params, rows, plain.mean, dropout=d).pen for d in (none, some)]
    assert np.abs(decoded[0] - decoded[1]).max() > 1e-3


def test_losses_are_the_published_sums():
    rows, y = rows_of(), np.random.default_rng(3).normal(size=(2, 5, 3 + 6 * 4)).astype(np.float32)
    offset, pen, real_pen = 0.0, 0.0, 0.0
    for row in range(2):
        for time in range(5):
            cross = -log_softmax(y[row, time, :3].astype(float)) @ rows[row, time, 2:]
            pen += cross
            if time < LENGTHS[row]:
                offset -= np.log(np.exp(by_scipy(y[row, time], rows[row, time, :2])) + 1e-6)
                real_pen += cross
    predicted = mixture.from_output(jnp.asarray(y))
    training = sketch_rnn.reconstruction(predicted, rows, floor=mixture.FLOOR)
    np.testing.assert_allclose(
        training, [(offset + pen) / 10, offset / 10, pen / 10, (offset + real_pen) / 8], rtol=1e-5
    )
    evaluated = sketch_rnn.reconstruction(predicted, rows, training=False, floor=mixture.FLOOR)
    np.testing.assert_allclose(evaluated[:3], [(offset + real_pen) / 10, offset / 10, real_pen / 10], rtol=1e-5)


def test_padding_counts_for_the_pen_in_training_and_for_nothing_in_evaluation():
    rows, y = rows_of(), np.random.default_rng(3).normal(size=(2, 5, 3 + 6 * 4)).astype(np.float32)
    padded = np.concatenate([rows, np.tile(np.array([0, 0, 0, 0, 1], np.float32), (2, 5, 1))], axis=1)
    more = jnp.asarray(np.concatenate([y, y], axis=1))
    short, long = (sketch_rnn.reconstruction(mixture.from_output(jnp.asarray(a)), b, training=False)
                   for a, b in ((y, rows), (more, padded)))  # fmt: skip
    np.testing.assert_allclose(long.reconstruction, short.reconstruction / 2, rtol=1e-5)
    np.testing.assert_allclose(long.per_point, short.per_point, rtol=1e-5)
    slope = jax.grad(lambda y: sketch_rnn.reconstruction(mixture.from_output(y), padded).reconstruction)(more)
    assert np.abs(slope[:, 5:, :3]).min() > 0 and not slope[:, 5:, 3:].any()


def test_the_divergence_is_that_of_two_normals():
    mean, log_variance = jnp.array([[0.5, -1.0]]), jnp.array([[0.2, -0.7]])
    by_hand = [0.5 * (np.exp(v) + m**2 - 1 - v) for m, v in ((0.5, 0.2), (-1.0, -0.7))]
    assert sketch_rnn.kl_divergence(Latent(mean, log_variance)) == pytest.approx(np.mean(by_hand), rel=1e-5)
    drawn = Latent(jnp.broadcast_to(mean, (50_000, 2)), jnp.broadcast_to(log_variance, (50_000, 2)))
    result = np.asarray(drawn.sample(jax.random.key(0)))
    np.testing.assert_allclose(result.mean(0), mean[0], atol=0.02)
    np.testing.assert_allclose(result.std(0), np.exp(np.array([0.1, -0.35])), rtol=0.02)


def test_schedules_have_the_published_values():
    steps = (0, 10_000, 100_000)
    weights = [float(sketch_rnn.annealed(0.01, 0.5, 0.99995, jnp.int32(t))) for t in steps]
    np.testing.assert_allclose(weights, [0.01, 0.2028, 0.4967], atol=5e-5)
    rates = [float(sketch_rnn.annealed(1e-3, 1e-5, 0.9999, jnp.int32(t))) for t in steps]
    np.testing.assert_allclose(rates, [1e-3, 3.742e-4, 1.004e-5], rtol=5e-4)

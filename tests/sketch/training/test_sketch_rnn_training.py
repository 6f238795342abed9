"""Sketch-RNN training: it learns from memory, its loss is the published one, and its samples are sensible."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jsafe
from sketch.data import strokes
from sketch.models import sketch_rnn
from sketch.models.sketch_rnn import SketchRNNConfig
from sketch.sampling import sample
from sketch.training.sketch_rnn_training import (
    PRESETS,
    Preset,
    SketchRNNTrainingConfig,
    sketch_rnn_stage,
    training_loss,
    validation_loss,
)
from tests.support.quickdraw import cats, needs_data

NOISE = 0.1


def zigzags(count, seed=0):
    """Saw teeth of two strokes that go right or left, with noise: what comes next follows from what was."""
    rng = np.random.default_rng(seed)
    drawings = []
    for _ in range(count):
        rows = np.zeros((12, 3), np.float32)
        rows[:, 0] = rng.choice([-1.0, 1.0])
        rows[::2, 1], rows[1::2, 1] = 1.0, -1.0
        rows[:, :2] += rng.normal(0, NOISE, (12, 2))
        rows[[5, 11], 2] = 1
        drawings.append(rows)
    return drawings


def without_memory():
    """Nats of a point under the best normal distribution and pen frequencies that know nothing of the past."""
    rows = np.concatenate(zigzags(64))
    pen = -(np.log(1 / 6) / 6 + np.log(5 / 6) * 5 / 6)
    spread = np.log(strokes.scale_factor(strokes.pad(zigzags(64))))
    return 0.5 * np.log(np.linalg.det(2 * np.pi * np.e * np.cov(rows[:, :2].T))) - 2 * spread + pen


def with_memory():
    """The same under the distribution they come from: its noise, and one coin for each drawing."""
    spread = np.log(strokes.scale_factor(strokes.pad(zigzags(64))))
    return np.log(2 * np.pi * np.e * NOISE**2) - 2 * spread + np.log(2) / 12


OPTIONS = SketchRNNTrainingConfig(
    iterations=6, updates=50, batch_size=16, learning_rate=0.01, learning_rate_decay=0.995, keep=1.0, stretch=0.0,
    point_drop=0.0,
)  # fmt: skip
TOY = Preset(SketchRNNConfig(conditional=False, decoder_size=24, mixtures=3), OPTIONS)


@pytest.fixture(scope="module")
def learned():
    stage = sketch_rnn_stage(zigzags(64), zigzags(32, seed=1), TOY)
    fitted = jsafe.fit(stage.trainer, iterations=stage.iterations, progress=False)
    return stage, fitted, stage.finish(jax.tree.map(lambda leaf: leaf[0], fitted.state))


def test_the_model_comes_near_to_what_the_drawings_allow_and_far_below_what_needs_no_memory(learned):
    _, fitted, _ = learned
    valid, least, most = fitted.metrics["valid_nll"][:, 0], with_memory(), without_memory()
    assert most - least > 4
    assert least - 0.1 < valid[-1] < least + 0.2 * (most - least)  # less than the entropy would be a fault of the loss


def test_what_it_draws_are_zigzags(learned):
    _, _, model = learned
    assert model.scale_factor == pytest.approx(1.0, abs=0.05) and model.max_length == 12
    drawn = sample.sample(model.config, model.params, jax.random.key(0), jnp.full(64, 0.3), 12)
    rows = np.asarray(drawn.rows) * [model.scale_factor, model.scale_factor, 1, 1, 1]
    sign = np.sign(rows[:, :1, 0])
    assert 0.2 < (sign > 0).mean() < 0.8
    right = (np.sign(rows[:, 1:9, 0]) == sign).mean(), (np.sign(rows[:, 1:9, 1]) == [-1, 1] * 4).mean()
    assert min(right) > 0.9


def test_a_model_is_taken_up_where_it_was_left(learned):
    _, fitted, model = learned
    more = sketch_rnn_stage(zigzags(40, seed=2), zigzags(32, seed=1), TOY, start=model)
    state = more.trainer.init(jax.random.key(0))
    for ours, theirs in zip(*map(jax.tree.leaves, (state.params["model"], model.params)), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert more.trainer.info.config["scale_factor"] == model.scale_factor
    assert more.finish(state).scale_factor == model.scale_factor


def test_the_loss_of_a_model_with_an_encoder_weighs_its_divergence_as_published():
    config = SketchRNNConfig(encoder_size=4, decoder_size=6, latent_size=3, mixtures=2)
    params = sketch_rnn.init(config, jax.random.key(0))
    batch = strokes.pad(zigzags(4))
    loss = training_loss(config, OPTIONS)
    result = jax.jit(lambda t: loss(params, batch, jax.random.key(1), t, {"kl_weight": jnp.float32(0.5)}))(10_000)
    metrics = result.metrics
    assert metrics["kl"] < 0.2  # it begins near the prior, so that the floor counts
    assert metrics["kl_weight"] == pytest.approx(0.2028, abs=1e-4)
    assert result.loss == pytest.approx(float(metrics["reconstruction"]) + 0.2028 * 0.2, abs=1e-4)
    far = params | {"mean": params["mean"] | {"bias": params["mean"]["bias"] + 2.0}}
    result = jax.jit(validation_loss(config, OPTIONS))(far, batch, jax.random.key(1))
    assert result.metrics["kl"] == pytest.approx(2.0, rel=0.01)
    assert result.loss == pytest.approx(float(result.metrics["reconstruction"] + 0.5 * result.metrics["kl"]), rel=1e-5)


@pytest.mark.parametrize(
    "change", [{"stretch": 0.3}, {"point_drop": 0.9}, {"flip": 1.0}, {"turn": 30.0}, {"keep": 0.5}]
)
def test_each_option_of_augmentation_reaches_the_training_loss_and_not_the_validation(change):
    config, batch, key = TOY.architecture, strokes.pad(zigzags(4)), jax.random.key(0)
    leaves, tree = jax.tree.flatten(sketch_rnn.init(config, key))
    params = jax.tree.unflatten(tree, [leaf + 0.1 * jax.random.normal(key, leaf.shape) for leaf in leaves])
    options = dataclasses.replace(OPTIONS, **change)
    plain, changed = (training_loss(config, o)(params, batch, key, jnp.int32(0), {}).loss for o in (OPTIONS, options))
    assert abs(plain - changed) > 1e-4
    assert plain == pytest.approx(float(validation_loss(config, options)(params, batch, key).loss), rel=1e-5)


def test_presets_have_the_published_sizes():
    def count(preset):
        made = jax.eval_shape(lambda key: sketch_rnn.init(preset.architecture, key), jax.random.key(0))
        return sketch_rnn.parameter_count(made)

    assert count(PRESETS["code"]) == 2_186_107 and count(PRESETS["small"]) < 400_000
    # Two LSTMs of 512, mean and deviation, the decoder's first state, a HyperLSTM of 2,048 with one of 256, the output.
    assert count(PRESETS["paper"]) == 24_509_051
    assert PRESETS["paper"].options.learning_rate == 1e-4 and PRESETS["paper"].options.kl_weight == 1.0
    assert PRESETS["code"].options.keep == 0.9 and PRESETS["code"].options.batch_size == 100


@needs_data
@pytest.mark.slow
def test_ten_cats_are_learned_by_heart():
    """The published criterion: a reconstruction loss below -1."""
    jax.config.update("jax_disable_most_optimizations", False)  # here most of the time is not compilation
    options = dataclasses.replace(OPTIONS, iterations=16, batch_size=10, learning_rate=5e-3)
    preset = Preset(SketchRNNConfig(conditional=False, decoder_size=192), options)
    stage = sketch_rnn_stage(cats()[:10], preset=preset)
    fitted = jsafe.fit(stage.trainer, iterations=stage.iterations, progress=False)
    assert fitted.metrics["reconstruction"][-1, 0] < -1.0

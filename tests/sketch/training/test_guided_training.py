"""Guided training: it starts as the plain model, receives canvas embeddings, and lowers the image loss."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jsafe
from sketch import raster
from sketch.data import strokes
from sketch.data.strokes import from_polylines, pad, stroke_count
from sketch.models import predictor
from sketch.models.mixture import Mixture
from sketch.models.predictor import Predictor, PredictorConfig, TrainedPredictor, guidance_size
from sketch.models.sketch_rnn import SketchRNN, SketchRNNConfig
from sketch.training import guided_training, sketch_rnn_training
from sketch.training.guided_training import GuidedPreset, GuidedTrainingConfig, guided_stage
from tests.sketch.models.test_sketch_rnn import scrambled

SIZE = PredictorConfig(side=16, channels=(4, 8), features=8, latent_size=2, embedding_size=3, strokes=5)
CONFIG = SketchRNNConfig(encoder_size=3, decoder_cell="layer_norm", decoder_size=6, latent_size=2, mixtures=2)
OPTIONS = GuidedTrainingConfig(iterations=3, updates=6, batch_size=8, copies=2, learning_rate=0.01, keep=1.0)
STILL = dataclasses.replace(OPTIONS, stretch=0.0, point_drop=0.0, copies=1, supervision=0.0)


def boxes(count, seed=0):
    """Drawings of two to four strokes of unlike length."""
    rng = np.random.default_rng(seed)
    return [
        from_polylines([rng.normal(size=(rng.integers(2, 5), 2)) * 40 for _ in range(rng.integers(2, 5))])
        for _ in range(count)
    ]


@pytest.fixture(scope="module")
def trained():
    return TrainedPredictor(SIZE, jax.device_get(jax.jit(lambda key: predictor.init(SIZE, key))(jax.random.key(1))))


@pytest.fixture(scope="module")
def initial():
    return SketchRNN(CONFIG, scrambled(CONFIG, seed=2), 40.0, 16)


@pytest.fixture(scope="module")
def learned(trained, initial):
    stage = guided_stage(boxes(16), boxes(8, seed=1), trained, GuidedPreset(CONFIG, OPTIONS), start=initial)
    fitted = jsafe.fit(stage.trainer, iterations=stage.iterations, progress=False)
    return stage, fitted, stage.finish(jax.tree.map(lambda leaf: leaf[0], fitted.state))


def test_before_it_is_trained_its_losses_are_those_of_the_model_it_comes_from(trained, initial):
    framed = sketch_rnn_training.frame_on_host(pad(boxes(8), 16))
    data, key, hyper = (
        guided_training.precompute_guidance(trained, framed, STILL),
        jax.random.key(3),
        {"kl_weight": jnp.float32(0.5)},
    )
    scaled = strokes.scaled(data.drawings, 1 / initial.scale_factor)
    wide = dataclasses.replace(CONFIG, extra_inputs=guidance_size(SIZE))
    stage = guided_stage(boxes(8), (), trained, GuidedPreset(CONFIG, STILL), start=initial)
    params = jax.jit(stage.trainer.init)(key).params["model"]
    assert np.abs(data.embedding).std() > 1e-2  # the embeddings are not constant
    result = jax.jit(guided_training.validation_loss(wide, SIZE, initial.scale_factor, STILL))(params, data, key)
    reference = jax.jit(sketch_rnn_training.validation_loss(CONFIG, STILL))(initial.params, scaled, key)
    assert result.metrics.keys() == reference.metrics.keys()
    for name in reference.metrics:
        np.testing.assert_allclose(result.metrics[name], reference.metrics[name], rtol=1e-6, err_msg=name)
    training = jax.jit(guided_training.training_loss(wide, SIZE, initial.scale_factor, STILL))
    result = training(params, data, key, jnp.int32(700), hyper)
    weight = 0.5 - 0.49 * 0.99995**700
    kl = max(float(result.metrics["kl"]), 0.2)
    assert result.loss == pytest.approx(float(result.metrics["reconstruction"]) + weight * kl, rel=1e-5)
    # The divergence does not depend on a random latent vector: it is the other loss's.
    assert result.metrics["kl"] == pytest.approx(float(reference.metrics["kl"]), rel=1e-5)


def test_training_lowers_the_loss_and_moves_the_new_inputs_from_zero(learned, initial):
    stage, fitted, model = learned
    assert model.config == dataclasses.replace(CONFIG, extra_inputs=guidance_size(SIZE))
    assert model.scale_factor == 40.0 and model.max_length == max(map(len, [*boxes(16), *boxes(8, seed=1)]))
    assert fitted.metrics["valid_loss"][-1, 0] < fitted.metrics["valid_loss"][0, 0]
    assert np.isfinite(fitted.metrics["looks"]).all()
    old, new = initial.params["decoder"]["input"], model.params["decoder"]["input"]
    assert len(new) == len(old) + guidance_size(SIZE) and np.abs(new[len(old) :]).min(axis=1).all()


def test_it_resumes_from_its_model_and_refuses_other_conditioning(learned, trained):
    model = learned[2]
    stage = guided_stage(boxes(8), (), trained, GuidedPreset(CONFIG, STILL), start=model)
    state = jax.jit(stage.trainer.init)(jax.random.key(0))
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(state.params["model"]), model.params)
    other = TrainedPredictor(dataclasses.replace(SIZE, embedding_size=4), trained.params)
    with pytest.raises(ValueError, match="must match the 5 extra inputs of the model, got a predictor that gives 6"):
        guided_stage(boxes(8), (), other, GuidedPreset(CONFIG, STILL), start=model)


def test_copies_are_corrupted_drawings_with_their_predictions(trained):
    drawings = sketch_rnn_training.frame_on_host(pad(boxes(5), 16))
    still = guided_training.precompute_guidance(trained, drawings, dataclasses.replace(STILL, copies=3))
    order = np.argsort([(rows[:, 2] > 0).sum() for rows in drawings.rows], kind="stable")
    np.testing.assert_allclose(still.drawings.rows, drawings.rows[np.repeat(order, 3)], atol=2e-3)
    network, blank = Predictor(SIZE), jnp.zeros((1, 16, 16))
    seen = jax.jit(lambda noise: network.apply(trained.params, blank, blank, noise, method="likely").embedding)
    message = np.array([np.asarray(seen(jax.random.key(i))[0]) for i in range(40)])
    low, high = message.min(axis=0) - message.std(axis=0), message.max(axis=0) + message.std(axis=0)
    first = still.embedding[:, 0]  # of the blank canvas: alike but for the latent vector
    assert ((low < first) & (first < high)).all() and len(np.unique(first[:, 0])) == 15
    count = np.asarray(stroke_count(still.drawings))
    assert all(row[: k + 1].any(axis=-1).all() for row, k in zip(still.embedding, count, strict=True))
    changed = guided_training.precompute_guidance(trained, drawings, dataclasses.replace(OPTIONS, copies=2))
    places = np.asarray(raster.framed_places(changed.drawings))
    for rows, length, place in zip(*changed.drawings, places, strict=True):
        assert not rows[length:].any() and np.ptp(place[:length], axis=0).max() == pytest.approx(255, abs=0.01)
    assert np.abs(changed.drawings.rows[0] - changed.drawings.rows[1]).max() > 1
    again = guided_training.precompute_guidance(trained, drawings, dataclasses.replace(OPTIONS, copies=2))
    other = guided_training.precompute_guidance(
        trained, drawings, dataclasses.replace(OPTIONS, copies=2, copies_seed=1)
    )
    np.testing.assert_array_equal(again.drawings.rows, changed.drawings.rows)
    assert np.abs(other.drawings.rows - changed.drawings.rows).max() > 1


def expected(offsets):
    """A mixture of two components of equal weight, whose mean these offsets are."""
    offsets = jnp.asarray(offsets, jnp.float32)
    mean = jnp.stack([offsets - 0.3, offsets + 0.3], axis=-2)
    zeros = jnp.zeros(mean.shape[:-1])
    return Mixture(jnp.zeros((*zeros.shape[:2], 3)), zeros, mean, jnp.zeros(mean.shape), zeros)


def ink_by_hand(line, side):
    """Exact and soft ink of a polyline in units of the box, with an 8 wide pen and a free border of 20."""
    scale = side / 296
    points, half = (line + 20) * scale, 4 * scale
    centre = np.stack(np.meshgrid(*[np.arange(side) + 0.5] * 2), axis=-1)
    away = np.full((side, side), np.inf)
    for a, b in zip(points[:-1], points[1:], strict=True):
        t = np.clip((centre - a) @ (b - a) / ((b - a) @ (b - a)), 0, 1)
        away = np.minimum(away, np.linalg.norm(centre - a - t[..., None] * (b - a), axis=-1))
    return np.clip(0.5 + half - away, 0, 1), 1 / (1 + np.exp(-(half - away) / 0.5))


def test_the_loss_of_looks_is_the_cross_entropy_of_a_stroke_drawn_from_the_true_points():
    line = np.array([[30.0, 40], [150, 60], [200, 220]])
    drawings = sketch_rnn_training.frame_on_host(pad([from_polylines([line])], 6))
    true = np.asarray(raster.framed_places(drawings))[0, :3]
    miss = np.array([[4.0, -6], [10, 3], [-7, 12]])
    offsets = np.zeros((1, 6, 2))
    offsets[0, :3] = (drawings.rows[0, :3, :2] + miss) / 32.0
    looks = jax.jit(
        lambda offsets: guided_training.stroke_loss(expected(offsets), drawings, jax.random.key(0), 32.0, 32)
    )
    target, _ = ink_by_hand(true, 32)
    ink = np.clip(ink_by_hand(true + miss, 32)[1], 1e-4, 1 - 1e-4)
    reference = -np.mean(target * np.log(ink) + (1 - target) * np.log(1 - ink))
    assert looks(jnp.asarray(offsets)) == pytest.approx(reference, rel=1e-3)
    slope = jax.jit(jax.grad(looks))(jnp.asarray(offsets, jnp.float32))
    assert not slope[0, 3:].any()
    better = offsets - 0.05 * np.asarray(slope) / np.abs(slope).max()
    assert looks(jnp.asarray(better)) < looks(jnp.asarray(offsets))


def test_every_stroke_is_looked_at_alone():
    """Of two strokes, one predict_rows and one not, about half the draws find nothing amiss."""
    lines = [np.array([[0.0, 0], [255, 0]]), np.array([[0.0, 255], [255, 255]])]
    drawings = sketch_rnn_training.frame_on_host(pad([from_polylines(lines)] * 64, 5))
    offsets = np.asarray(drawings.rows[..., :2]).copy()
    right = guided_training.stroke_loss(expected(offsets), drawings, jax.random.key(0), 1.0, 16)
    offsets[:, 2:4, 1] -= 60
    half = guided_training.stroke_loss(expected(offsets), drawings, jax.random.key(0), 1.0, 16)
    offsets[:, :2, 1] += 60
    both = guided_training.stroke_loss(expected(offsets), drawings, jax.random.key(0), 1.0, 16)
    assert 0.35 < float((half - right) / (both - right)) < 0.65

"""Next-stroke examples by hand, and predictor training; an untrained predictor changes no decoder."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sketch import raster
from sketch.data import procedural
from sketch.data.strokes import batch_to_stroke5, from_polylines, pad, stroke_count
from sketch.models import next_stroke_data, predictor, sketch_rnn
from sketch.models.next_stroke_data import NextStroke
from sketch.models.predictor import Predictor, PredictorConfig, Suggestion
from sketch.models.sketch_rnn import Latent, SketchRNNConfig
from sketch.training import predictor_training
from sketch.training.predictor_training import PredictorTrainingConfig

SIZE = PredictorConfig(side=16, channels=(8, 16), features=32, latent_size=4, embedding_size=5, strokes=6)
LINES = [np.array([[0, 0], [255, 0], [255, 255]]), np.array([[0, 255], [0, 100]])]


def framed(drawings):
    return raster.framed(jax.tree.map(jnp.asarray, drawings))


def test_a_framed_drawing_keeps_its_strokes_and_stores_its_start():
    lines = [line * 3.0 + [70, -9] for line in LINES]
    drawings = framed(pad([from_polylines(lines)], 9))
    np.testing.assert_allclose(drawings.rows[0, 0], [-127.5, -127.5, 0], atol=1e-3)
    np.testing.assert_allclose(raster.framed_places(drawings)[0, 4], [0.5, 100.5], atol=1e-3)
    image = raster.exact(drawings, places=raster.framed_places(drawings))
    np.testing.assert_allclose(image, raster.exact(pad([from_polylines(lines)])), atol=1e-4)
    assert not drawings.rows[0, 5:].any()


def test_the_moments_of_a_drawing_of_two_strokes_by_hand():
    drawings = framed(pad([from_polylines(LINES)] * 4, 7))
    result = jax.jit(lambda d: next_stroke_data.example_at(d, jnp.array([0, 1, 2, 0]), 64, 6))(drawings)
    first, second = (
        np.asarray(raster.exact(framed(pad([from_polylines(part)])), next_stroke_data.view(64), places=place))[0]
        for part, place in (([LINES[0]], LINES[0][None] + 0.5), ([LINES[1]], LINES[1][None] + 0.5))
    )
    blank = np.zeros((64, 64))
    for row, expected in enumerate([(blank, blank, first), (first, first, second), (first, second, blank)]):
        for name, image in zip(("canvas", "last", "next"), expected, strict=True):
            if (row, name) != (2, "canvas"):
                np.testing.assert_allclose(getattr(result, name)[row], image, atol=1e-4, err_msg=name)
    np.testing.assert_allclose(result.canvas[2], 1 - (1 - first) * (1 - second), atol=1e-4)
    assert result.over.tolist() == [False, False, True, False]
    # On a grid of 32 the corners are cells 0, 31 * 32 + 31, 31 * 32, and y 100.5 is in row 12.
    assert result.start.tolist() == [0, 31 * 32, 0, 0] and result.end.tolist() == [32 * 32 - 1, 12 * 32, 0, 32 * 32 - 1]
    np.testing.assert_allclose(result.box[0], [0.5, 0.5, 255 / 256, 255 / 256], atol=1e-5)
    np.testing.assert_allclose(result.box[1], [0.5 / 256, 178 / 256, 0, 155 / 256], atol=1e-5)
    np.testing.assert_allclose(np.expm1(result.log_length), [510 / 4, 155 / 4, 0, 510 / 4], rtol=1e-4)


def test_every_moment_of_a_drawing_is_as_likely_as_the_others():
    drawings = framed(pad([from_polylines(LINES)] * 600, 5))
    result = jax.jit(lambda d: next_stroke_data.sample_examples(jax.random.key(0), d, 8, 6))(drawings)
    assert result.over.mean() == pytest.approx(1 / 3, abs=0.06)
    assert (result.canvas.sum((1, 2)) == 0).mean() == pytest.approx(1 / 3, abs=0.06)


def test_a_drawing_without_a_last_lift_has_all_its_strokes():
    rows = from_polylines(LINES)
    rows[-1, 2] = 0
    drawings = pad([rows, rows[:2], rows[:0]], 7)
    assert stroke_count(drawings).tolist() == [2, 1, 0]


def test_predictions_do_not_change_an_untrained_decoder():
    drawings = framed(pad(procedural.drawings("cat", 3)))
    network, key = Predictor(SIZE), jax.random.key(0)
    blank = jnp.zeros((1, 16, 16))
    params = network.init(key, NextStroke(blank, blank, blank, *[jnp.zeros(1)] * 5), key)

    def suggest(canvas, last, number):
        return network.apply(params, canvas, last, key, method="likely").embedding

    guidance_ = jax.jit(lambda d: predictor.guidance(SIZE, suggest, d))(drawings)
    assert guidance_.shape == (3, drawings.rows.shape[1], 2 + 5) and np.abs(guidance_[..., 2:]).std() > 1e-3
    rows = batch_to_stroke5(drawings)
    for cell in ("lstm", "layer_norm", "hyper"):
        config = SketchRNNConfig(conditional=False, decoder_cell=cell, decoder_size=8, mixtures=2)
        wide = SketchRNNConfig(conditional=False, decoder_cell=cell, decoder_size=8, mixtures=2, extra_inputs=7)
        plain = sketch_rnn.init(config, key)
        more = sketch_rnn.widened(config, plain, predictor.guidance_size(SIZE))
        result, expected = jax.jit(
            lambda more, plain, w=wide, c=config: (
                sketch_rnn.decode(w, more, rows, extra=guidance_),
                sketch_rnn.decode(c, plain, rows),
            )
        )(more, plain)
        for ours, theirs in zip(result, expected, strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_a_decoder_is_conditioned_on_canvas_and_pen_before_each_row():
    drawings = framed(pad([from_polylines(LINES)], 7))
    size = dataclasses.replace(SIZE, embedding_size=2)
    guidance_ = predictor.guidance(
        size, lambda canvas, last, number: jnp.stack([canvas.sum((1, 2)), last.sum((1, 2))], -1), drawings
    )
    pen, seen = np.asarray(guidance_[0, :, :2]), np.asarray(guidance_[0, :, 2:])
    np.testing.assert_allclose(
        pen[:5] * 128, [[0, 0], [-127.5] * 2, [127.5, -127.5], [127.5] * 2, [-127.5, 127.5]], atol=1e-3
    )
    assert not seen[:3].any() and (seen[3:5] == seen[3]).all() and seen[3, 0] == seen[3, 1] > 0
    assert seen[5, 0] > seen[3, 0] and 0 < seen[5, 1] < seen[3, 1]


def test_the_loss_of_a_moment_is_the_sum_of_its_parts_by_hand():
    rng, options = np.random.default_rng(0), PredictorTrainingConfig(free_bits=0.0, kl_weight=0.5)
    logits = rng.normal(size=(2, 6, 6)).astype(np.float32)
    start, end = rng.normal(size=(2, 2, 9)).astype(np.float32)
    message = Suggestion(
        logits, start, end, np.full((2, 4), 0.3), np.array([1.0, 9.0]), np.array([0.4, -2.0]), np.zeros((2, 1))
    )
    following = np.zeros((2, 6, 6), np.float32)
    following[0, 2, 3] = 1.0
    moment = NextStroke(
        following, following, following, np.array([4, 0]), np.array([7, 0]), np.full((2, 4), 0.1), np.array([0.5, 0.0]),
        np.array([False, True]),
    )  # fmt: skip
    latents = Latent(np.full((2, 1), 1.0), np.full((2, 1), 0.5)), Latent(np.zeros((2, 1)), np.full((2, 1), -0.2))
    result = predictor_training.next_stroke_loss(message, *latents, moment, options)
    near = np.exp(-0.5 * np.arange(-2, 3) ** 2.0)
    near /= near.sum()
    target = np.zeros((6, 6))
    target[:5, 1:6] = np.outer(near, near)
    share = 1 / (1 + np.exp(-logits[0].astype(float)))
    ink = -np.mean(8 * target * np.log(share) + (1 - target) * np.log(1 - share))
    dice = 1 - (2 * (share * target).sum() + 2) / (share.sum() + target.sum() + 2)
    by_hand = [-np.log(np.exp(x[0, i]) / np.exp(x[0]).sum()) for x, i in ((start, 4), (end, 7))]
    stop = np.mean([np.log1p(np.exp(0.4)), np.log1p(np.exp(2.0))])
    kl = 0.5 * (np.exp(0.7) + np.exp(0.2) - 1 - 0.7)
    np.testing.assert_allclose([result.metrics[k] for k in ("ink", "dice", "start", "end", "box", "stop", "kl")],
                               [ink, dice, *by_hand, 4 * 0.2 + 0.5, stop, kl], rtol=1e-5)  # fmt: skip
    total = ink + dice + 0.5 * by_hand[0] + 0.25 * by_hand[1] + 0.5 * 1.3 + stop + 0.5 * kl
    assert result.loss == pytest.approx(total, rel=1e-5)


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"side 20 must be a multiple of 2 to the number of channels \(8, 16, 32\)"):
        PredictorConfig(side=20, channels=(8, 16, 32))

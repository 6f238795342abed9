"""Guided sampling: extra inputs equal those of training, and the best candidate is chosen."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sketch.data.strokes import batch_from_stroke5, scaled
from sketch.models import mixture, predictor, sketch_rnn
from sketch.models.predictor import Predictor, PredictorConfig, TrainedPredictor, guidance_size
from sketch.models.sketch_rnn import SketchRNN, SketchRNNConfig
from sketch.sampling import best_of, sample, stroke_candidates
from sketch.sampling.guided_sampling import GuidedSampler, sample_guided
from sketch.sampling.sample import Samples
from sketch.sampling.stroke_candidates import CandidateConfig, Candidates, PenState, SamplerLanes
from tests.sketch.models.test_sketch_rnn import SMALL, scrambled

SIZE = PredictorConfig(side=16, channels=(4, 8), features=8, latent_size=2, embedding_size=3, strokes=4)
FREE = SketchRNNConfig(conditional=False, **SMALL)
TOLD = dataclasses.replace(FREE, extra_inputs=guidance_size(SIZE))
SCALE = 30.0
NOTHING = CandidateConfig(candidates=4, ink=0.0, start=0.0, likelihood=0.0)


@pytest.fixture(scope="module")
def seer():
    """A predictor with a constant latent vector, so that its output for a canvas is known."""
    params = jax.device_get(jax.jit(lambda key: predictor.init(SIZE, key))(jax.random.key(1)))
    head = params["params"]["prior_head"]
    head["kernel"] = np.zeros_like(head["kernel"])
    head["bias"] = np.float32([0.7, -0.4, -80, -80])
    return TrainedPredictor(SIZE, params)


def model(config, pen=(0.0, 0.0, -1.5), seed=3):
    """A decoder with random parameters and a given bias of the pen state."""
    params = scrambled(config, seed=seed)
    kernel, bias = np.array(params["output"]["kernel"]), np.array(params["output"]["bias"])
    kernel[:, :3], bias[:3] = kernel[:, :3] * 0.3, pen
    return SketchRNN(config, params | {"output": {"kernel": kernel, "bias": bias}}, SCALE, 24)


def by_teacher(generator, seer, rows):
    """Distributions of drawn rows, given all at once as in training."""
    extra = None
    if generator.config.extra_inputs:
        network = Predictor(SIZE)

        def suggest(canvas, last, number):
            return network.apply(seer.params, canvas, last, jax.random.key(5), method="likely").embedding

        extra = predictor.guidance(SIZE, suggest, scaled(batch_from_stroke5(rows), SCALE))
    return sketch_rnn.decode(generator.config, generator.params, rows, extra=extra)


def likelihood(predicted, rows, first=0):
    counted = np.arange(rows.shape[1]) >= first
    density = mixture.log_density(predicted, rows[..., :2]) * (rows[..., 4] == 0)
    pen = mixture.pen_loss(predicted, rows[..., 2:]) * (np.cumsum(rows[..., 4], axis=1) <= 1)
    return np.sum((density - pen) * counted, axis=1)


@pytest.mark.parametrize(
    "points, pen, fewest, most",
    [
        (None, (0.0, 0.0, -1.5), SIZE.strokes + 1, 24),  # more strokes than are looked at
        (5, (2.5, -0.5, -2.5), 1, 8),  # strokes that are looked at before they are finished
        (3, (30.0, -30.0, -30.0), 0, 0),  # pens that never lift
    ],
)
def test_a_decoder_has_equal_conditioning_in_sampling_and_training(seer, points, pen, fewest, most):
    generator, how = model(TOLD, pen), points and dataclasses.replace(NOTHING, points=points)
    drawn = jax.jit(lambda key: sample_guided(GuidedSampler(generator, seer, 24, how, num_lanes=5), key, jnp.ones(12)))(
        jax.random.key(0)
    )
    rows = np.asarray(drawn.rows)
    assert (rows[..., 2:].sum(-1) == 1).all() and (np.diff(rows[..., 4], axis=1) >= 0).all()
    assert fewest <= (rows[..., 3] > 0).sum(axis=1).max() <= most
    assert len(np.unique(rows[:, 0, 0])) == 12
    predicted = jax.jit(partial(by_teacher, generator, seer))(drawn.rows)
    np.testing.assert_allclose(drawn.log_probability, likelihood(predicted, rows), rtol=1e-4, atol=2e-3)


@pytest.mark.parametrize("config, how", [(TOLD, CandidateConfig(candidates=3)), (FREE, NOTHING)])
def test_at_temperature_0_the_likeliest_is_drawn_whatever_is_chosen(seer, config, how):
    generator = model(config, (0.0, 0.1, -0.5))
    drawn = jax.jit(lambda key: sample_guided(GuidedSampler(generator, seer, 16, how), key, jnp.zeros(2)))(
        jax.random.key(0)
    )
    rows = np.asarray(drawn.rows[:1])
    np.testing.assert_array_equal(drawn.rows[0], drawn.rows[1])
    predicted = by_teacher(generator, seer, jnp.asarray(rows))
    length = int((rows[0, :, 4] == 0).sum())
    component = np.argmax(predicted.weight[0], axis=-1)
    np.testing.assert_allclose(rows[0, :length, :2], predicted.mean[0][np.arange(16), component][:length], atol=1e-3)
    np.testing.assert_array_equal(
        rows[0, :, 2:].argmax(-1)[: length + 1], np.argmax(predicted.pen[0], -1)[: length + 1]
    )
    if not config.extra_inputs:
        plain = sample.sample(config, generator.params, jax.random.key(0), jnp.zeros(2), 16)
        np.testing.assert_allclose(drawn.rows, plain.rows, atol=1e-5)


def test_drawing_i_is_the_same_for_any_number_of_lanes_and_has_its_own_temperature(seer):
    generator, how = model(TOLD), CandidateConfig(candidates=3, temperature=0.5)
    temperature = jnp.array([0.0, 0.5, 1.0, 1.0, 0.2, 1.0, 0.0])
    sampler = GuidedSampler(generator, seer, 16, how)
    few, many = (
        jax.jit(lambda key, n=n: sample_guided(sampler._replace(num_lanes=n), key, temperature))(jax.random.key(2))
        for n in (2, 100)
    )
    np.testing.assert_allclose(few.rows, many.rows, atol=1e-4)
    np.testing.assert_allclose(few.rows[0], few.rows[6], atol=1e-5)
    assert np.abs(few.rows[2] - few.rows[3]).max() > 0.1


def test_choosing_without_weights_changes_no_distribution(seer):
    generator, count = model(FREE, (0.0, 0.5, -0.5)), 1500
    how = dataclasses.replace(NOTHING, points=3, temperature=1.0)
    drawn = jax.jit(lambda key: sample_guided(GuidedSampler(generator, seer, 12, how), key, jnp.ones(count)))(
        jax.random.key(0)
    )
    plain = jax.jit(lambda key: sample.sample(FREE, generator.params, key, jnp.ones(count), 12))(jax.random.key(1))
    for measure in (
        lambda rows: (rows[..., 4] == 0).sum(1),
        lambda rows: rows[..., 3].sum(1),
        lambda rows: np.abs(rows[..., :2]).clip(0, 5).sum((1, 2)),
        lambda rows: rows[:, 0, 4] > 0,
    ):
        ours, theirs = measure(np.asarray(drawn.rows)).astype(float), measure(np.asarray(plain.rows)).astype(float)
        error = np.sqrt((ours.var() + theirs.var()) / count)
        assert abs(ours.mean() - theirs.mean()) < 3.5 * error


def test_strokes_start_in_the_predicted_cell_if_a_candidate_does(seer):
    generator, count = model(FREE, (0.0, 0.0, -4.0)), 400
    params = jax.tree.map(np.array, seer.params)
    bias = np.zeros((8, 8), np.float32)
    bias[:, 4:] = 60.0  # the right half
    params["params"]["heads_start"]["bias"] += bias.reshape(-1)
    how = CandidateConfig(candidates=4, ink=0.0, start=1.0, likelihood=0.0)

    alone, inspected = (
        (np.asarray(jax.jit(draw)(jax.random.key(0)).rows)[:, 0, 0] > 0).mean()
        for draw in (
            lambda key: sample.sample(FREE, generator.params, key, jnp.ones(count), 4),
            lambda key: sample_guided(
                GuidedSampler(generator, TrainedPredictor(SIZE, params), 4, how), key, jnp.ones(count)
            ),
        )
    )
    assert 0.1 < alone < 0.9
    assert inspected == pytest.approx(1 - (1 - alone) ** 4, abs=0.07)


def some_tries(rng, lanes=3, count=5):
    images = rng.uniform(0, 1, (lanes, count, 8, 8)).astype(np.float32)
    rows = np.zeros((lanes, count, 6, 5), np.float32)
    rows[..., 2] = 1
    length = rng.integers(1, 6, (lanes, count))
    total = rng.normal(size=(lanes, count)).astype(np.float32)
    cell = rng.integers(-1, 16, (lanes, count))
    ink, start = rng.normal(size=(lanes, 8, 8)), rng.normal(size=(lanes, 16))
    start = start - np.log(np.exp(start).sum(1, keepdims=True))
    number = np.arange(lanes)
    held = SamplerLanes(number, number, number, number, number, ink, ink, ink, jnp.asarray(ink), jnp.asarray(start))
    return held, Candidates(PenState((), *[number] * 4), rows, length, cell, total, number), images


def test_the_best_candidate_is_kept_by_a_score_by_hand():
    rng = np.random.default_rng(0)
    lanes, held, images = some_tries(rng)
    how = CandidateConfig(candidates=5, ink=3.0, start=0.7, likelihood=1.3)
    expected = np.zeros((3, 5))
    for i, j in np.ndindex(3, 5):
        m = 1 / (1 + np.exp(-np.asarray(lanes.ink[i], float)))
        expected[i, j] = 3.0 * np.mean(images[i, j] * np.log(m) + (1 - images[i, j]) * np.log(1 - m))
        expected[i, j] += 0.7 * lanes.start[i, held.cell[i, j]] if held.cell[i, j] >= 0 else 0.0
        expected[i, j] += 1.3 * held.total[i, j] / held.length[i, j]
    np.testing.assert_allclose(stroke_candidates.candidate_scores(how, lanes, held, images), expected, rtol=1e-4)
    key = jax.random.key(0)
    np.testing.assert_array_equal(stroke_candidates.choose_candidate(how, key, lanes, held, images), expected.argmax(1))
    # One that ends the drawing is not compared: the first decides for all.
    held.rows[:, :, 0, 2:] = np.where(expected[..., None] == expected.max(1)[:, None, None], [0.0, 0, 1], [1.0, 0, 0])
    held.rows[0, 0, 0, 2:] = [0, 0, 1]
    result = stroke_candidates.choose_candidate(how, key, lanes, held, images)
    rest = np.where(held.rows[:, :, 0, 4] > 0, -np.inf, expected).argmax(1)
    assert result.tolist() == [0, *[0 if held.rows[i, 0, 0, 4] else rest[i] for i in (1, 2)]]


def test_a_warm_choice_is_the_softmax_of_the_scores():
    lanes, held, images = some_tries(np.random.default_rng(1), lanes=1)
    how = CandidateConfig(candidates=5, ink=1.0, temperature=0.8)
    lanes, held = jax.tree.map(lambda x: jnp.repeat(jnp.asarray(x), 4000, axis=0), (lanes, held))
    lanes = lanes._replace(drawing=jnp.arange(4000))
    images = jnp.repeat(jnp.asarray(images), 4000, axis=0)
    share = (
        np.bincount(
            np.asarray(stroke_candidates.choose_candidate(how, jax.random.key(0), lanes, held, images)), minlength=5
        )
        / 4000
    )
    weight = np.exp(np.asarray(stroke_candidates.candidate_scores(how, lanes, held, images)[0], float) / 0.8)
    np.testing.assert_allclose(share, weight / weight.sum(), atol=0.03)


def test_likelier_strokes_are_kept_where_the_likelihood_counts(seer):
    generator, mean = model(FREE), []
    how = CandidateConfig(candidates=6, ink=0.0, start=0.0, likelihood=1.0)
    for draw in (
        lambda key: sample_guided(GuidedSampler(generator, seer, 16, how), key, jnp.ones(64)),
        lambda key: sample.sample(FREE, generator.params, key, jnp.ones(64), 16),
    ):
        drawn = jax.jit(draw)(jax.random.key(0))
        mean.append(np.mean(drawn.log_probability / ((drawn.rows[..., 4] == 0).sum(1) + 1)))
    assert mean[0] > mean[1] + 0.3


def test_a_partial_drawing_is_completed_from_its_strokes(seer):
    generator, how = model(TOLD), CandidateConfig(candidates=3)
    first_rows = np.tile(np.float32([0.2, -0.1, 1, 0, 0]), (4, 6, 1))
    first_rows[:, 2, 2:] = [0, 1, 0]
    first_rows[3, 3:] = [0, 0, 0, 0, 1]  # over already
    lengths = [6, 4, 0, 6]
    drawn = jax.jit(
        lambda key: sample_guided(
            GuidedSampler(generator, seer, 16, how),
            key,
            jnp.ones(4),
            prefix=first_rows,
            prefix_lengths=jnp.array(lengths),
        )
    )(jax.random.key(0))
    rows = np.asarray(drawn.rows)
    predicted = jax.jit(partial(by_teacher, generator, seer))(drawn.rows)
    for i, length in enumerate(lengths):
        np.testing.assert_array_equal(rows[i, :length], first_rows[i, :length])
        assert (length == 6) == (np.abs(rows[i, length:6] - first_rows[i, length:]).sum() == 0)
        expected = float(likelihood(predicted, rows, length)[i]) if i < 3 else 0.0
        assert float(drawn.log_probability[i]) == pytest.approx(expected, rel=1e-4, abs=2e-3)
    assert (rows[3, 3:, 4] == 1).all() and (rows[0, 6:10, 4] == 0).any()


def test_a_model_with_an_encoder_draws_from_its_latent_vectors(seer):
    config = SketchRNNConfig(extra_inputs=guidance_size(SIZE), **SMALL)
    generator = model(config)
    z = jnp.eye(3)[:2]
    drawn = jax.jit(
        lambda key, z: sample_guided(GuidedSampler(generator, seer, 8, num_lanes=1), key, jnp.zeros(2), z=z)
    )
    both, turned = drawn(jax.random.key(0), z), drawn(jax.random.key(1), z[::-1])
    np.testing.assert_allclose(both.rows, turned.rows[::-1], atol=1e-5)
    assert np.abs(both.rows[0] - both.rows[1]).max() > 1e-3


@pytest.mark.parametrize(
    "config, seen, how, message",
    [
        (TOLD, False, None, "need a predictor"),
        (FREE, False, NOTHING, "need a predictor"),
        (
            dataclasses.replace(FREE, extra_inputs=4),
            True,
            None,
            "must match the 4 extra inputs of the decoder, got .* gives 5",
        ),
    ],
)
def test_what_does_not_fit_is_refused(seer, config, seen, how, message):
    with pytest.raises(ValueError, match=message):
        sample_guided(GuidedSampler(model(config), seer if seen else None, 4, how), jax.random.key(0), jnp.ones(1))


def test_without_predictor_and_inspection_it_is_plain_sampling():
    generator = model(FREE)
    ours = sample_guided(GuidedSampler(generator, None, 6), jax.random.key(0), jnp.ones(3))
    theirs = sample.sample(FREE, generator.params, jax.random.key(0), jnp.ones(3), 6)
    np.testing.assert_array_equal(ours.rows, theirs.rows)


def test_the_best_of_several_drawings_is_kept_with_its_rank_by_hand():
    def draw(key):
        offsets = jax.random.normal(key, (5, 2, 2))
        pen = jnp.broadcast_to(jnp.array([1.0, 0, 0]), (5, 2, 3))
        return Samples(jnp.concatenate([offsets, pen], axis=-1), offsets[:, 0, 0])

    result = jax.jit(best_of.best_of(lambda drawings: drawings.rows[:, 1, 0] - 0.5, draw, 4))(jax.random.key(3))
    every = [draw(key) for key in jax.random.split(jax.random.key(3), 4)]
    score = np.array([drawn.rows[:, 1, 0] - 0.5 for drawn in every])
    best = score.argmax(axis=0)
    np.testing.assert_allclose(result.score, score.max(axis=0), rtol=1e-6)
    np.testing.assert_allclose(result.mean_score, score.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(result.accepted, (score > 0).mean(axis=0))
    np.testing.assert_array_equal(result.first_rank, (score > score[0]).sum(axis=0))
    for i, which in enumerate(best):
        np.testing.assert_allclose(result.samples.rows[i], every[which].rows[i], rtol=1e-6)
        assert result.samples.log_probability[i] == every[which].log_probability[i]
    with pytest.raises(ValueError, match="n must be at least 1, got 0"):
        best_of.best_of(lambda d: d, draw, 0)

"""Losses of single strokes: equal to the training loss, and independent of other drawings."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sketch import raster
from sketch.data.strokes import from_polylines, pad
from sketch.evaluation import stroke_nll
from sketch.models import next_stroke_data, predictor
from sketch.models.predictor import PredictorConfig, TrainedPredictor
from sketch.training import predictor_training

SIZE = PredictorConfig(side=16, channels=(4, 8), features=8, latent_size=2, embedding_size=2, strokes=4)


def scribble(seed, strokes):
    rng = np.random.default_rng(seed)
    return from_polylines([rng.uniform(0, 200, (3, 2)) for _ in range(strokes)])


@pytest.fixture(scope="module")
def trained():
    network, blank = predictor.Predictor(SIZE), jnp.zeros((1, 16, 16))
    moment = next_stroke_data.NextStroke(blank, blank, blank, *[jnp.zeros(1)] * 5)
    params = jax.jit(network.init)(jax.random.key(0), moment, jax.random.key(1))
    return TrainedPredictor(SIZE, params)


def test_each_stroke_has_the_loss_that_training_gives_it_alone(trained):
    drawings = [scribble(0, 3), scribble(1, 6), np.zeros((0, 3), np.float32), scribble(2, 1)]
    result = stroke_nll.stroke_losses(trained, drawings, batch=4)
    assert [len(each) for each in result] == [3, 4, 0, 1]  # no more than the predictor looks at

    @jax.jit
    def training_loss(drawing):
        network = predictor.Predictor(SIZE)
        moment = next_stroke_data.example_at(raster.framed(drawing), jnp.array([2]), 16, 4)
        seen = network.apply(trained.params, moment.canvas, moment.last, method="look")
        prior = network.apply(trained.params, seen, method="prior")
        posterior = network.apply(trained.params, seen, moment.next, method="posterior")
        suggestion = network.apply(trained.params, seen, posterior.mean, method="suggest")
        options = predictor_training.PredictorTrainingConfig(free_bits=0.0)
        return predictor_training.next_stroke_loss(suggestion, posterior, prior, moment, options).loss

    whole = training_loss(pad(drawings[:1]))
    assert result[0][2] == pytest.approx(float(whole), rel=1e-5)


def test_a_stroke_s_loss_depends_on_nothing_but_its_drawing(trained):
    drawings = [scribble(seed, 2) for seed in range(5)]
    together = stroke_nll.stroke_losses(trained, drawings, batch=4)
    alone = stroke_nll.stroke_losses(trained, [drawings[3] * np.float32([0.1, 0.1, 1])], batch=4)
    np.testing.assert_allclose(alone[0], together[3], rtol=1e-4)
    assert stroke_nll.stroke_losses(trained, [np.zeros((0, 3), np.float32)])[0].shape == (0,)

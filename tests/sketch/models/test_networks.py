"""Every model of drawings as `Network(init, apply)`: the same numbers as in stages, commands and judges."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sketch import raster
from sketch.data import procedural
from sketch.data.strokes import batch_to_stroke5, pad
from sketch.models import classifier, discriminator, networks, predictor, sketch_rnn
from sketch.models.next_stroke_data import view
from sketch.models.sketch_rnn import SketchRNNConfig

CATS = pad(procedural.drawings("cat", 3))


@pytest.mark.parametrize("conditional", [False, True])
def test_sketch_rnn(conditional):
    config = SketchRNNConfig(conditional=conditional, encoder_size=6, decoder_size=8, latent_size=4, mixtures=2)
    network = networks.sketch_rnn(config)
    params = network.init(jax.random.key(0))
    result = jax.jit(network.apply)(params, CATS)
    assert result.mean.shape == (3, CATS.rows.shape[1], 2, 2)
    rows = batch_to_stroke5(jax.tree.map(jnp.asarray, CATS))
    z = sketch_rnn.encode(config, params, rows, jnp.asarray(CATS.lengths)).mean if conditional else None
    # Row by row, as a drawing is sampled.
    carry, before = sketch_rnn.first_carry(config, params, z, 3), jnp.tile(jnp.array([[0.0, 0, 1, 0, 0]]), (3, 1))
    step = jax.jit(lambda carry, row: sketch_rnn.step(config, params, carry, row, z))
    for at in range(5):
        carry, one = step(carry, before)
        np.testing.assert_allclose(one.mean, result.mean[:, at], atol=1e-5)
        before = rows[:, at]


def test_predictor_discriminator_and_judges():
    small = predictor.PredictorConfig(side=16, channels=(4, 8), features=8, embedding_size=4)
    network = networks.predictor(small)
    params = network.init(jax.random.key(0))
    ink = raster.soft(jax.tree.map(jnp.asarray, CATS), view(16))
    predicted = jax.jit(network.apply)(params, (ink, jnp.zeros_like(ink)))
    sure = predictor.deterministic(predictor.TrainedPredictor(small, params))
    drawn = predictor.Predictor(small).apply(sure.params, ink, jnp.zeros_like(ink), jax.random.key(3), method="likely")
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-4), predicted, drawn)
    size = discriminator.DiscriminatorConfig(side=16, channels=(4, 8))
    network = networks.discriminator(size)
    params = network.init(jax.random.key(1))
    odds = jax.jit(network.apply)(params, ink)
    np.testing.assert_allclose(odds, discriminator.recognisability(size)(params, CATS), atol=1e-4)
    bitmaps = np.random.default_rng(0).integers(0, 255, (3, 28, 28), np.uint8)
    for architecture, inputs in (("plain", bitmaps), ("residual", bitmaps), ("recurrent", CATS)):
        size = classifier.ClassifierConfig(architecture=architecture, channels=(4, 4, 4), features=6, units=5)
        network = networks.classifier(size, 2)
        params = network.init(jax.random.key(2))
        logits = network.apply(params, inputs)
        trained = classifier.TrainedClassifier(size, params, ("cat", "dog"), 1.5)
        chances = np.exp(trained.log_probs(inputs))
        np.testing.assert_allclose(chances, jax.nn.softmax(logits / trained.temperature), atol=1e-4)

"""Samplers: batches, units, prefixes and refinement of any number of drawings."""

import jax
import numpy as np
import pytest

from sketch.data import procedural
from sketch.data.strokes import has_line
from sketch.models import discriminator, sketch_rnn
from sketch.models.discriminator import DiscriminatorConfig, TrainedDiscriminator
from sketch.models.guided_sketch_rnn import GuidedSketchRNN, encode_prefix
from sketch.models.sketch_rnn import SketchRNN, SketchRNNConfig
from sketch.raster import BOX
from sketch.sampling.batching import sample_many
from sketch.sampling.refinement import refine_all
from sketch.sampling.sampler import SamplingConfig, make_sampler

CONFIG = SketchRNNConfig(conditional=False, decoder_size=6, mixtures=2)


@pytest.fixture(scope="module")
def generator() -> GuidedSketchRNN:
    params = jax.jit(lambda key: sketch_rnn.init(CONFIG, key))(jax.random.key(0))
    return GuidedSketchRNN(SketchRNN(CONFIG, jax.device_get(params), 20.0, 12))


@pytest.fixture(scope="module")
def critic() -> TrainedDiscriminator:
    size = DiscriminatorConfig(side=8, channels=(4,))
    return TrainedDiscriminator(size, jax.jit(lambda key: discriminator.init(size, key))(jax.random.key(1)))


def test_drawings_of_full_batches_do_not_depend_on_the_number_of_drawings(generator):
    draw = make_sampler(generator, SamplingConfig(8))
    temperature = np.linspace(0.2, 1.0, 7, dtype=np.float32)
    few, many = (sample_many(draw, 5, 3, temperature[:n]).samples.rows for n in (6, 7))
    assert few.shape == (6, 8, 5) and many.shape == (7, 8, 5)
    np.testing.assert_array_equal(few, many[:6])


def test_the_best_of_n_has_the_highest_score(generator, critic):
    draw = make_sampler(generator, SamplingConfig(8, critic=critic, best_of=3))
    best = sample_many(draw, 0, 4, np.full(4, 0.9, np.float32))
    assert (best.score >= best.mean_score).all() and best.score.shape == (4,)


def test_a_prefix_is_converted_to_the_unit_of_the_model_and_back(generator):
    framed = GuidedSketchRNN(generator.model._replace(framed=True))
    drawing = procedural.drawings("cat", 1)[0][:5]
    for model in (generator, framed):
        prefix = encode_prefix(model, [drawing], 9)
        assert prefix["prefix"].shape == (1, 9, 5) and prefix["prefix_lengths"].tolist() == [5]
        np.testing.assert_allclose(model.from_model(prefix["prefix"])[0], drawing, atol=1e-4)
    shift = generator.to_model(drawing)[0, :2] - framed.to_model(drawing)[0, :2]
    np.testing.assert_allclose(shift, BOX / 2 / 20.0, rtol=1e-5)


def test_drawings_without_a_line_are_not_refined(critic):
    drawings = [*procedural.drawings("cat", 3), np.zeros((0, 3), np.float32)]
    refined = refine_all(critic, drawings, 120, 2, batch_size=2)
    assert [len(drawing) for drawing in refined.drawings] == [len(drawing) for drawing in drawings]
    assert np.isnan(refined.odds[3]).all() and (refined.odds[:3, 1] >= refined.odds[:3, 0]).all()
    assert not has_line(refined.drawings[3]) and refined.steps == 2

"""The published rabbit and dog: loading, NumPy reference, likelihood of their own class, and samples."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sketch.data import drawing_files
from sketch.data.strokes import batch_from_stroke5, batch_to_stroke5, pad, scaled
from sketch.models import pretrained, sketch_rnn
from sketch.sampling import sample
from tests.sketch.models.test_rnn_cells import doubles
from tests.support import numpy_rnn_cells
from tests.support.quickdraw import DATA, needs_data

WEIGHTS = DATA / "sketchrnn_pretrained_int16.npz"


def test_models_that_are_not_there_or_do_not_fit_are_named(tmp_path):
    path, part = tmp_path / "w.npz", {"output_w": np.ones((2, 9)), "output_b": np.ones(9), "lstm_bias": np.ones(8)}
    part |= {"lstm_W_xh": np.ones((5, 8)), "scale_factor": np.float32(3.0), "max_seq_len": np.int32(7)}
    np.savez(path, **{f"cat/{name}": array for name, array in part.items()})
    with pytest.raises(ValueError, match=r"has no model 'cta'; did you mean 'cat'\? \(models: cat\)"):
        pretrained.load(path, "cta")
    with pytest.raises(ValueError, match="model 'cat' lacks lstm_W_hh"):
        pretrained.load(path, "cat")
    np.savez(path, **{f"cat/{name}": array for name, array in part.items()}, **{"cat/lstm_W_hh": np.ones((3, 8))})
    with pytest.raises(ValueError, match=r"cat/lstm_W_hh must be \(2, 8\), got \(3, 8\)"):
        pretrained.load(path, "cat")
    with pytest.raises(FileNotFoundError, match="there is no file"):
        pretrained.load(tmp_path / "none.npz", "cat")


@needs_data
@pytest.mark.parametrize("name, scale, length", [("rabbit", 61.0124, 155), ("dog", 60.1839, 164)])
def test_published_weights_give_the_numbers_of_numpy(name, scale, length):
    model = pretrained.load(WEIGHTS, name)
    assert sketch_rnn.parameter_count(model.params) == 1_123_963
    assert model.scale_factor == pytest.approx(scale, abs=1e-4) and model.max_length == length
    rng = np.random.default_rng(0)
    rows = np.concatenate([rng.normal(size=(1, 40, 2)), np.eye(3)[rng.integers(0, 2, (1, 40))]], axis=2)
    result = sketch_rnn.decode(model.config, model.params, rows.astype(np.float32))
    p = doubles(model.params)
    guidance = np.concatenate([[[0, 0, 1, 0, 0]], rows[0, :-1]])
    outputs, _ = numpy_rnn_cells.read("lstm", p["decoder"], guidance, (np.zeros(512), np.zeros(512)))
    y = outputs @ p["output"]["kernel"] + p["output"]["bias"]
    np.testing.assert_allclose(result.pen[0], y[:, :3], atol=5e-5)
    np.testing.assert_allclose(result.mean[0, :, :, 0], y[:, 23:43], atol=5e-5)
    np.testing.assert_allclose(result.correlation[0], y[:, 103:], atol=5e-5)


@pytest.fixture(scope="module")
def models():
    return {name: pretrained.load(WEIGHTS, name) for name in ("rabbit", "dog")}


def surprise(model, drawings):
    """Negative log-likelihood of a point, of each drawing."""
    rows = batch_to_stroke5(scaled(drawings, 1 / model.scale_factor))
    predicted = sketch_rnn.decode(model.config, model.params, rows)
    each = jax.vmap(lambda p, r: sketch_rnn.reconstruction(jax.tree.map(lambda x: x[None], p), r[None]).per_point)
    return np.asarray(each(predicted, rows))


@needs_data
def test_peoples_rabbits_are_rabbits_rather_than_dogs(models):
    drawings = pad([d.strokes for d in drawing_files.load(DATA / "all345_25.npz")[0] if d.label == "rabbit"], 164)
    assert len(drawings.lengths) == 25
    own, foreign = surprise(models["rabbit"], drawings), surprise(models["dog"], drawings)
    assert own.mean() < foreign.mean() - 0.2 and (own < foreign).mean() > 0.8


@needs_data
def test_drawings_of_a_model_end_and_are_of_its_own_animal(models):
    rabbit, dog = models["rabbit"], models["dog"]
    for own, other in ((rabbit, dog), (dog, rabbit)):
        draw = jax.jit(lambda key, m=own: sample.sample(m.config, m.params, key, jnp.full(24, 1.0), 200))
        drawn = batch_from_stroke5(draw(jax.random.key(0)).rows)
        assert (np.asarray(drawn.lengths) < 200).all() and 60 < np.median(drawn.lengths) < own.max_length
        assert 4 <= np.median(np.asarray(drawn.rows[..., 2]).sum(1)) <= 12
        drawn = scaled(drawn, own.scale_factor)
        gap = surprise(own, drawn) - surprise(other, drawn)
        assert gap.mean() < -0.1 and (gap < 0).mean() > 0.8

"""Model folders: models are read back unchanged, and errors name the damaged file."""

import hashlib
import json
import re

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from sketch.models import checkpoint, predictor, sketch_rnn
from sketch.models.predictor import PredictorConfig, TrainedPredictor
from sketch.models.sketch_rnn import SketchRNN, SketchRNNConfig

CONFIG = SketchRNNConfig(
    encoder_size=3, decoder_cell="hyper", decoder_size=4, latent_size=2, mixtures=2, extra_inputs=1
)
SIZE = PredictorConfig(side=8, channels=(2, 3), features=4, latent_size=2, embedding_size=3, strokes=5)


def shaped(init):
    """Random arrays of the shapes of parameters, without a run of the program that makes them."""
    rng = np.random.default_rng(0)
    leaves, tree = jax.tree.flatten(jax.eval_shape(init, jax.random.key(0)))
    return jax.tree.unflatten(tree, [np.asarray(rng.normal(size=x.shape), np.float32) for x in leaves])


MODELS = [
    SketchRNN(CONFIG, shaped(lambda key: sketch_rnn.init(CONFIG, key)), 32.5, 163),
    TrainedPredictor(SIZE, shaped(lambda key: predictor.init(SIZE, key))),
]


@pytest.fixture
def saved(tmp_path):
    checkpoint.save(tmp_path / "model", MODELS[0])
    return tmp_path / "model"


def rewrite(path, change):
    """Change the tensors and update the digest."""
    tensors = load_file(path / checkpoint.TENSORS)
    change(tensors)
    save_file(tensors, path / checkpoint.TENSORS)
    description = json.loads((path / checkpoint.DESCRIPTION).read_text())
    description["sha256"] = hashlib.sha256((path / checkpoint.TENSORS).read_bytes()).hexdigest()
    (path / checkpoint.DESCRIPTION).write_text(json.dumps(description))


@pytest.mark.parametrize("model", MODELS, ids=lambda model: type(model).__name__)
def test_a_model_comes_back_as_it_was(tmp_path, model):
    checkpoint.save(tmp_path / "new" / "one", model)
    result = checkpoint.open_model(str(tmp_path / "new" / "one"), type(model))
    assert type(result) is type(model) and result[0] == model[0] and result[2:] == model[2:]
    assert jax.tree.structure(result.params) == jax.tree.structure(model.params)
    for ours, theirs in zip(*map(jax.tree.leaves, (result.params, model.params)), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert {path.name for path in (tmp_path / "new" / "one").iterdir()} == {"model.json", "model.safetensors"}
    description = json.loads((tmp_path / "new" / "one" / "model.json").read_text())
    assert description[model._fields[0]] == model[0].config()


def test_numbers_without_an_axis_and_turned_matrices_come_back_too(tmp_path, monkeypatch):
    params = {"a": {"b": np.float32(3.5)}, "c": np.arange(6, dtype=np.float32).reshape(2, 3).T}
    kind = checkpoint.Kind(TrainedPredictor, lambda model, key: jax.tree.map(jax.numpy.asarray, params))
    monkeypatch.setitem(checkpoint.KINDS, "predictor", kind)
    checkpoint.save(tmp_path, TrainedPredictor(SIZE, params))
    result = checkpoint.open_model(tmp_path).params
    assert result["a"]["b"].shape == () and result["a"]["b"] == 3.5
    np.testing.assert_array_equal(result["c"], params["c"])


def test_another_kind_than_the_wanted_is_refused(saved):
    with pytest.raises(ValueError, match="model must hold a predictor, got a sketch_rnn"):
        checkpoint.open_model(saved, TrainedPredictor)
    with pytest.raises(TypeError, match="a trained model must be one of SketchRNN.*, got PredictorConfig"):
        checkpoint.save(saved, SIZE)


def test_a_model_whose_numbers_do_not_fit_its_sizes_is_not_written(tmp_path):
    wrong = MODELS[0].params | {"output": {"kernel": np.zeros((4, 9), np.float32), "bias": np.zeros(15, np.float32)}}
    message = r"this sketch_rnn: output/kernel must be float32 \[4, 15\] .*, got float32 \[4, 9\]"
    with pytest.raises(ValueError, match=message):
        checkpoint.save(tmp_path / "model", MODELS[0]._replace(params=wrong))
    with pytest.raises(TypeError, match="nested dicts of arrays, got list at 'output'"):
        checkpoint.save(tmp_path / "model", MODELS[0]._replace(params=wrong | {"output": [1.0]}))
    assert not (tmp_path / "model").exists()


def test_what_is_missing_is_named(saved, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere has no model\.json"):
        checkpoint.open_model(tmp_path / "nowhere")
    (saved / checkpoint.TENSORS).unlink()
    with pytest.raises(FileNotFoundError, match=r"model has no model\.safetensors, the parameters of its sketch_rnn"):
        checkpoint.open_model(saved)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda t: t.pop("mean/bias"), "has no tensor mean/bias"),
        (lambda t: t.update({"mean/bias": np.float32([1, 2, 3])}), r"mean/bias must be float32 \[2\] .*, got .* \[3\]"),
        (lambda t: t.update({"mean/bias": np.zeros(2)}), r"mean/bias must be float32 \[2\] .*, got float64 \[2\]"),
        (lambda t: t.update({"mean/bias": np.float32([0, np.nan])}), "mean/bias must be finite"),
        (lambda t: t.update({"more": np.zeros(1, np.float32)}), "has an unexpected tensor more for a sketch_rnn"),
    ],
)  # fmt: skip
def test_a_tensor_that_does_not_fit_is_named_with_its_file(saved, change, message):
    rewrite(saved, change)
    with pytest.raises(ValueError, match=re.escape(str(saved / checkpoint.TENSORS)) + ".*" + message):
        checkpoint.open_model(saved)


def test_damaged_numbers_are_detected(saved):
    path = saved / checkpoint.TENSORS
    good = path.read_bytes()
    for bad in (good[:-1], good[:40], b"", b"{}" * 30):
        path.write_bytes(bad)
        with pytest.raises(ValueError, match=re.escape(f"{path} must be a safetensors file, got a damaged one")):
            checkpoint.open_model(saved)
    path.write_bytes(good[:-2] + bytes([good[-2] ^ 1]) + good[-1:])  # a bit that safetensors itself does not miss
    with pytest.raises(ValueError, match=re.escape(str(path)) + r" does not match the digest in model\.json"):
        checkpoint.open_model(saved)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda t: t.update(kind="sketch_rn"), "unknown kind 'sketch_rn'; did you mean 'sketch_rnn'"),
        (lambda t: t.pop("kind"), "has no kind of model"),
        (lambda t: t.pop("scale_factor"), "lacks scale_factor"),
        (lambda t: t.pop("sha256"), "lacks sha256"),
        (lambda t: t.update(scale=1.0), "has an unknown scale"),
        (lambda t: t.update(max_length="long"), "max_length: str is not an instance of int"),
        (lambda t: t.update(config=[1]), "config: "),
        (lambda t: t["config"].update(mixtures=0), "config: mixtures must be at least 1, got 0"),
        (lambda t: t["config"].update(mixture=3), "config: .*unexpected keyword argument 'mixture'"),
        (lambda t: t["config"].update(mixtures=5), "must be float32 .* in a sketch_rnn of these sizes, got float32"),
    ],
)
def test_a_description_that_makes_no_sense_is_refused(saved, change, message):
    path = saved / checkpoint.DESCRIPTION
    description = json.loads(path.read_text())
    change(description)
    path.write_text(json.dumps(description))
    with pytest.raises(ValueError, match=re.escape(str(saved)) + ".*" + message):
        checkpoint.open_model(saved)
    path.write_bytes(b"\xff\xfe{")
    with pytest.raises(ValueError, match=r"model\.json must be JSON, got a damaged file"):
        checkpoint.open_model(saved)


def test_a_model_without_an_extent_has_that_of_published_drawings(saved):
    path = saved / checkpoint.DESCRIPTION
    description = json.loads(path.read_text())
    assert description.pop("extent") == [0.0, 0.0, 255.0] and description.pop("from_first_point") is False
    path.write_text(json.dumps(description))
    assert checkpoint.open_model(saved).extent == (0.0, 0.0, 255.0)
    path.write_text(json.dumps({**description, "extent": [0.0, 1.0]}))
    with pytest.raises(ValueError, match="model.json: extent: "):
        checkpoint.open_model(saved)

"""Models in folders: they come back as they were, and what is damaged says where."""

import hashlib
import json
import re

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from sketch.models import checkpoint, predictor, sketch_rnn
from sketch.models.predictor import PredictorSize, TrainedPredictor
from sketch.models.sketch_rnn import Architecture
from sketch.training.stages import SketchRNN

CONFIG = Architecture(encoder_size=3, decoder_cell="hyper", decoder_size=4, latent_size=2, mixtures=2, extra_inputs=1)
SIZE = PredictorSize(side=8, channels=(2, 3), features=4, latent_size=2, embedding_size=3, strokes=5)


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
    """Change the tensors and let the digest agree, as one would who means it."""
    tensors = load_file(path / checkpoint.TENSORS)
    change(tensors)
    save_file(tensors, path / checkpoint.TENSORS)
    told = json.loads((path / checkpoint.DESCRIPTION).read_text())
    told["sha256"] = hashlib.sha256((path / checkpoint.TENSORS).read_bytes()).hexdigest()
    (path / checkpoint.DESCRIPTION).write_text(json.dumps(told))


@pytest.mark.parametrize("model", MODELS, ids=lambda model: type(model).__name__)
def test_a_model_comes_back_as_it_was(tmp_path, model):
    checkpoint.save(tmp_path / "new" / "one", model)
    found = checkpoint.open_model(str(tmp_path / "new" / "one"), type(model))
    assert type(found) is type(model) and found[0] == model[0] and found[2:] == model[2:]
    assert jax.tree.structure(found.params) == jax.tree.structure(model.params)
    for ours, theirs in zip(*map(jax.tree.leaves, (found.params, model.params)), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert {path.name for path in (tmp_path / "new" / "one").iterdir()} == {"model.json", "model.safetensors"}
    told = json.loads((tmp_path / "new" / "one" / "model.json").read_text())
    assert told[model._fields[0]] == model[0].config()


def test_numbers_without_an_axis_and_turned_matrices_come_back_too(tmp_path, monkeypatch):
    params = {"a": {"b": np.float32(3.5)}, "c": np.arange(6, dtype=np.float32).reshape(2, 3).T}
    kind = checkpoint.Kind(TrainedPredictor, lambda model, key: jax.tree.map(jax.numpy.asarray, params))
    monkeypatch.setitem(checkpoint.KINDS, "predictor", kind)
    checkpoint.save(tmp_path, TrainedPredictor(SIZE, params))
    found = checkpoint.open_model(tmp_path).params
    assert found["a"]["b"].shape == () and found["a"]["b"] == 3.5
    np.testing.assert_array_equal(found["c"], params["c"])


def test_another_kind_than_the_wanted_is_refused(saved):
    with pytest.raises(ValueError, match="model holds a sketch_rnn, and a predictor is wanted"):
        checkpoint.open_model(saved, TrainedPredictor)
    with pytest.raises(TypeError, match=r"PredictorSize is no trained model of drawings \(kinds: SketchRNN"):
        checkpoint.save(saved, SIZE)


def test_a_model_whose_numbers_do_not_fit_its_sizes_is_not_written(tmp_path):
    wrong = MODELS[0].params | {"output": {"kernel": np.zeros((4, 9), np.float32), "bias": np.zeros(15, np.float32)}}
    message = r"this sketch_rnn: output/kernel is float32 \[4, 9\], and .* has float32 \[4, 15\]"
    with pytest.raises(ValueError, match=message):
        checkpoint.save(tmp_path / "model", MODELS[0]._replace(params=wrong))
    with pytest.raises(TypeError, match="nested dicts of arrays, got list at 'output'"):
        checkpoint.save(tmp_path / "model", MODELS[0]._replace(params=wrong | {"output": [1.0]}))
    assert not (tmp_path / "model").exists()


def test_what_is_missing_is_named(saved, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere has no model\.json"):
        checkpoint.open_model(tmp_path / "nowhere")
    (saved / checkpoint.TENSORS).unlink()
    with pytest.raises(FileNotFoundError, match=r"model has no model\.safetensors, the numbers of its sketch_rnn"):
        checkpoint.open_model(saved)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda t: t.pop("mean/bias"), "has no tensor mean/bias"),
        (lambda t: t.update({"mean/bias": np.float32([1, 2, 3])}), r"mean/bias is float32 \[3\], and .* float32 \[2\]"),
        (lambda t: t.update({"mean/bias": np.zeros(2)}), r"mean/bias is float64 \[2\], and .* has float32 \[2\]"),
        (lambda t: t.update({"mean/bias": np.float32([0, np.nan])}), "mean/bias has numbers that are not finite"),
        (lambda t: t.update({"more": np.zeros(1, np.float32)}), "has a tensor more, and a sketch_rnn .* none of this"),
    ],
)  # fmt: skip
def test_a_tensor_that_does_not_fit_is_named_with_its_file(saved, change, message):
    rewrite(saved, change)
    with pytest.raises(ValueError, match=re.escape(str(saved / checkpoint.TENSORS)) + ".*" + message):
        checkpoint.open_model(saved)


def test_damaged_numbers_are_found(saved):
    path = saved / checkpoint.TENSORS
    good = path.read_bytes()
    for bad in (good[:-1], good[:40], b"", b"{}" * 30):
        path.write_bytes(bad)
        with pytest.raises(ValueError, match=re.escape(f"{path} is not a safetensors file, or it is damaged")):
            checkpoint.open_model(saved)
    path.write_bytes(good[:-2] + bytes([good[-2] ^ 1]) + good[-1:])  # a bit that safetensors itself does not miss
    with pytest.raises(ValueError, match=re.escape(str(path)) + r" is not the file that model\.json was written with"):
        checkpoint.open_model(saved)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda t: t.update(kind="sketch_rn"), "there is no kind 'sketch_rn'; did you mean 'sketch_rnn'"),
        (lambda t: t.pop("kind"), "does not say what kind"),
        (lambda t: t.pop("scale_factor"), "lacks scale_factor"),
        (lambda t: t.pop("sha256"), "lacks sha256"),
        (lambda t: t.update(scale=1.0), "has an unknown scale"),
        (lambda t: t.update(max_length="long"), "max_length: str is not an instance of int"),
        (lambda t: t.update(config=[1]), "config: "),
        (lambda t: t["config"].update(mixtures=0), "config: mixtures must be at least 1, got 0"),
        (lambda t: t["config"].update(mixture=3), "config: .*unexpected keyword argument 'mixture'"),
        (lambda t: t["config"].update(mixtures=5), "is float32 .*, and a sketch_rnn of these sizes has float32"),
    ],
)
def test_a_description_that_makes_no_sense_is_refused(saved, change, message):
    path = saved / checkpoint.DESCRIPTION
    told = json.loads(path.read_text())
    change(told)
    path.write_text(json.dumps(told))
    with pytest.raises(ValueError, match=re.escape(str(saved)) + ".*" + message):
        checkpoint.open_model(saved)
    path.write_bytes(b"\xff\xfe{")
    with pytest.raises(ValueError, match=r"model\.json is not JSON, or it is damaged"):
        checkpoint.open_model(saved)

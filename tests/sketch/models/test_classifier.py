"""Classifiers that judge drawings: training, calibration, and the measured share of recognised cats."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jsafe
from sketch import raster
from sketch.data import procedural
from sketch.data.strokes import Drawings, pad
from sketch.models import classifier
from sketch.models.classifier import ClassifierConfig, TrainedClassifier
from sketch.training import classifier_training
from sketch.training.classifier_training import ClassifierTrainingConfig, classifier_stage
from sketch.training.training_configs import CLASSIFIER_PRESETS
from tests.support.quickdraw import DATA, needs_data

CLASSES = ("cat", "house", "sun")
SIZES = {
    "plain": ClassifierConfig(channels=(4, 8), features=16),
    "residual": ClassifierConfig(architecture="residual", channels=(8, 16, 32), features=16),
    "recurrent": ClassifierConfig(architecture="recurrent", units=12, features=16),
}
OPTIONS = ClassifierTrainingConfig(
    iterations=2, updates=40, batch_size=32, learning_rate=5e-3, learning_rate_decay=0.98
)


def drawings(count, first=0):
    """Padded drawings, their bitmaps and their classes."""
    rows = [d for name in CLASSES for d in procedural.drawings(name, count, first=first)]
    padded, labels = pad(rows, 110), np.repeat(np.arange(len(CLASSES)), count)
    return padded, np.asarray(jax.jit(raster.exact)(padded)), labels


@pytest.fixture(scope="module")
def sets():
    return drawings(40), drawings(16, first=40)


@pytest.mark.parametrize("name", list(SIZES))
def test_each_architecture_learns_to_tell_simple_things_apart(name, sets):
    (rows, bitmaps, labels), (valid_rows, valid_bitmaps, valid_labels) = sets
    taken = (rows, valid_rows) if name == "recurrent" else (bitmaps, valid_bitmaps)
    stage = classifier_stage(taken[0], labels, taken[1], valid_labels, CLASSES, SIZES[name], OPTIONS)
    fitted = jsafe.fit(stage.trainer, iterations=stage.iterations, progress=False)
    assert fitted.metrics["valid_accuracy"].max() > 0.85
    model = stage.finish(jax.tree.map(lambda leaf: leaf[0], fitted.state))
    result = model.classify(taken[1])
    assert result.log_probs.shape == (48, 3) and result.features.shape == (48, 16)
    np.testing.assert_allclose(np.exp(result.log_probs).sum(1), 1.0, atol=1e-5)
    best = int(fitted.metrics["best_iteration"][-1, 0]) - 1
    accuracy = (result.log_probs.argmax(1) == valid_labels).mean()
    assert accuracy == pytest.approx(float(fitted.metrics["valid_accuracy"][best, 0]))
    chosen = result.log_probs[np.arange(48), valid_labels]
    assert -chosen.mean() == pytest.approx(float(fitted.metrics["valid_loss"][best, 0]), rel=1e-3)


def untrained(name="plain", classes=CLASSES):
    size = SIZES[name]
    one = Drawings(np.zeros((1, 5, 3)), np.ones(1, np.int32)) if name == "recurrent" else np.zeros((1, 28, 28))
    params = jax.jit(
        lambda key: classifier.ClassifierNetwork(size, len(classes)).init(key, classifier.preprocess(one))
    )(jax.random.key(0))
    return TrainedClassifier(size, jax.tree.map(np.asarray, params), classes, 1.0)


def test_a_judge_of_known_doubt_is_given_back_its_temperature():
    """Labels are drawn from its own probabilities, then its logits are made five times as sure."""
    model, images = untrained(), np.random.default_rng(0).uniform(size=(2000, 28, 28)).astype(np.float32)
    last = model.params["params"]["Dense_1"]
    spread = np.std(model.classify(images).features @ last["kernel"], axis=0)
    scaled = {"kernel": last["kernel"] / spread, "bias": last["bias"]}

    def with_last(factor):
        layer = jax.tree.map(lambda leaf: factor * leaf, scaled)
        return dataclasses.replace(model, params={"params": model.params["params"] | {"Dense_1": layer}})

    share = np.exp(with_last(1.0).log_probs(images))
    labels = (np.random.default_rng(1).uniform(size=(2000, 1)) > share.cumsum(1)).sum(1)
    result = with_last(5.0).calibrate(images, np.minimum(labels, 2))
    assert result.temperature == pytest.approx(5.0, rel=0.15)
    warm = dataclasses.replace(result, temperature=5.0)
    np.testing.assert_allclose(np.exp(warm.log_probs(images)), share, atol=1e-4)


@pytest.mark.parametrize("name", ["plain", "recurrent"])
def test_scores_do_not_depend_on_the_batch_or_the_unit(name, sets):
    (rows, bitmaps, _), _ = sets
    model = untrained(name)
    if name == "recurrent":
        many = Drawings(np.tile(rows.rows, (3, 1, 1)), np.tile(rows.lengths, 3))
        wide = Drawings(np.pad(rows.rows[7:8] * [0.02, 0.02, 1.0], ((0, 0), (0, 9), (0, 0))), rows.lengths[7:8])
    else:
        many, wide = np.tile(bitmaps, (3, 1, 1)), np.round(bitmaps[7:8] * 255).astype(np.uint8)
    every, one = np.exp(model.log_probs(many)), np.exp(model.log_probs(wide))
    assert len(model.classify(many).features) == 360 and np.ptp(every[:, 0]) > 1e-3
    for place in (7, 127, 247):
        np.testing.assert_allclose(every[place], one[0], atol=2e-3)


def test_bitmaps_move_by_whole_pixels_within_the_limit():
    images = jnp.zeros((500, 9, 9)).at[:, 4, 4].set(1.0)
    result = np.asarray(classifier_training.random_shift(jax.random.key(0), images, 2))
    assert (result.sum((1, 2)) == 1).all()
    _, rows, columns = np.nonzero(result)
    assert np.unique(rows).tolist() == np.unique(columns).tolist() == [2, 3, 4, 5, 6]
    edge = classifier_training.random_shift(jax.random.key(0), jnp.ones((200, 9, 9)), 2)
    assert np.asarray(edge).sum((1, 2)).min() == 49  # what comes in is blank


def test_inputs_that_do_not_fit_are_refused():
    rows, bitmaps = pad(procedural.drawings("cat", 2)), np.zeros((2, 28, 28), np.uint8)
    labels = np.array([0, 1])
    wrong = [
        ((SIZES["recurrent"], bitmaps, labels), "a recurrent classifier needs padded drawings, got ndarray"),
        ((SIZES["plain"], rows, labels), "a plain classifier needs bitmaps, got Drawings"),
        ((SIZES["plain"], bitmaps.reshape(2, 784), labels), r"bitmaps must be \[n, 28, 28\], got \[2, 784\]"),
        ((SIZES["plain"], bitmaps, labels[:1]), r"labels must be 2 whole numbers, got int64 \[1\]"),
        ((SIZES["plain"], bitmaps, labels + 2), "labels must be 0 to 2, got 2 to 3"),
    ]
    for (size, inputs, numbers), message in wrong:
        with pytest.raises(ValueError, match=message):
            classifier_stage(inputs, numbers, None, None, CLASSES, size, OPTIONS)
    with pytest.raises(ValueError, match="at least one drawing, got none"):
        untrained().classify(bitmaps[:0])


OTHERS = (
    "dog", "bird", "clock", "airplane", "bowtie", "fish", "flower", "eye", "book", "banana", "apple", "house",
    "diamond", "lollipop", "bicycle", "rainbow",
)  # fmt: skip


def official_bitmaps():
    """Bitmaps and labels of 17 classes to train on, 100 more of each, and 480 cats, which no other set has."""
    with np.load(DATA / "bitmaps28.npz") as file:
        late = file["cat"][file["cat_lines"] >= 2000]
        parts = [late, *(file[name][:2600] for name in OTHERS)]
        cats = file["cat_stride100"][40:].reshape(-1, 28, 28)
    sets = []
    for cut in (slice(None, -100), slice(-100, None)):
        labels = np.concatenate([np.full(len(part[cut]), number) for number, part in enumerate(parts)])
        sets.append((np.concatenate([part[cut] for part in parts]).reshape(-1, 28, 28), labels))
    return *sets, cats


@needs_data
@pytest.mark.slow
def test_the_plain_judge_sees_people_s_cats_as_often_as_was_measured():
    """72.6 % of the cats within 4 points; about three minutes on one core."""
    jax.config.update("jax_disable_most_optimizations", False)
    (bitmaps, labels), (valid, valid_labels), cats = official_bitmaps()
    size, options = CLASSIFIER_PRESETS["plain"]
    stage = classifier_stage(bitmaps, labels, valid, valid_labels, ("cat", *OTHERS), size, options)
    fitted = jsafe.fit(stage.trainer, iterations=stage.iterations, progress=False)
    model = stage.finish(jax.tree.map(lambda leaf: leaf[0], fitted.state)).calibrate(valid, valid_labels)
    assert fitted.metrics["valid_accuracy"].max() == pytest.approx(0.867, abs=0.03)
    assert 0.7 < model.temperature < 1.5
    assert len(cats) == 480
    assert (model.log_probs(cats).argmax(1) == 0).mean() == pytest.approx(0.726, abs=0.04)


def test_presets_are_the_three_architectures():
    assert {name: size.architecture for name, (size, _) in CLASSIFIER_PRESETS.items()} == {n: n for n in SIZES}
    with pytest.raises(ValueError, match="architecture must be one of"):
        dataclasses.replace(SIZES["plain"], architecture="planar")

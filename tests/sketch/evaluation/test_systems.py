"""Systems of a comparison: experiments, single models, and generated sets."""

import json

import jax
import numpy as np
import pytest

from sketch.evaluation import systems
from sketch.evaluation.systems import GenerationConfig, System, distinct_names, generate_sets, load_comparison
from sketch.models import checkpoint, classifier, sketch_rnn
from sketch.models.classifier import ClassifierConfig, TrainedClassifier
from sketch.models.guided_sketch_rnn import GuidedSketchRNN
from sketch.models.sketch_rnn import SketchRNN, SketchRNNConfig

CONFIG = SketchRNNConfig(conditional=False, decoder_size=6, mixtures=2)
SIZE = ClassifierConfig(architecture="recurrent", units=3, features=4)


def model(seed):
    params = jax.jit(lambda key: sketch_rnn.init(CONFIG, key))(jax.random.key(seed))
    return SketchRNN(CONFIG, jax.device_get(params), 20.0, 12)


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    """Two seeds of two systems and one judge; the second seed of `late` is not finished."""
    folder = tmp_path_factory.mktemp("experiment")
    for name in ("first-0", "first-1", "late-0"):
        checkpoint.save(folder / name / "model", model(int(name[-1])))
    params = jax.jit(lambda key: classifier.init(SIZE, 2, key))(jax.random.key(0))
    checkpoint.save(folder / "judge" / "model", TrainedClassifier(SIZE, jax.device_get(params), ("cat", "sun")))
    comparison = {
        "seeds": [0, 1],
        "judges": ["judge"],
        "system": [{"name": name, "model": f"{name}-{{seed}}"} for name in ("first", "late")],
    }
    steps = [{"name": name} for name in ("first-0", "first-1", "late-0", "late-1", "judge")]
    (folder / systems.EXPERIMENT).write_text(json.dumps({"steps": steps, "comparison": comparison}))
    return folder


def test_the_chosen_systems_of_an_experiment_are_loaded(experiment):
    comparison = load_comparison(experiment, names=["first"])
    assert [(system.name, system.seed) for system in comparison.systems] == [("first", 0), ("first", 1)]
    assert comparison.judges["judge"].classes == ("cat", "sun") and comparison.stroke_model is None
    assert comparison.training == [] and "training drawings of" in comparison.remarks[0]


def test_missing_steps_and_unknown_systems_are_refused(experiment):
    with pytest.raises(FileNotFoundError, match="step 'late-1' of .* is not finished"):
        load_comparison(experiment)
    with pytest.raises(ValueError, match="unknown --system 'frst'; did you mean 'first'"):
        load_comparison(experiment, names=["frst"])


def test_one_model_needs_judges_and_has_no_discriminator(experiment):
    judges = [experiment / "judge"]
    assert load_comparison(experiment / "first-0", judges=judges).systems[0].name == "first-0"
    with pytest.raises(ValueError, match="needs judges"):
        load_comparison(experiment / "first-0")
    with pytest.raises(ValueError, match="--best-of needs the discriminator"):
        load_comparison(experiment / "first-0", judges=judges, best_of=2)
    with pytest.raises(ValueError, match="--system selects"):
        load_comparison(experiment / "first-0", judges=judges, names=["x"])


def test_sets_are_generated_for_every_temperature():
    lines = []
    sets = generate_sets([System("a", 3, GuidedSketchRNN(model(0)))], GenerationConfig((0.2, 0.6), 3), lines.append)
    assert [(one.seed, one.temperature, len(one.drawings)) for one in sets["a"]] == [(3, 0.2, 3), (3, 0.6, 3)]
    assert all(np.shape(one.finished) == (3,) for one in sets["a"]) and len(lines) == 1


def test_names_of_paths_are_short_and_distinct(tmp_path):
    paths = [tmp_path / "a" / "run" / "model", tmp_path / "b" / "run" / "model"]
    assert (
        distinct_names(paths) == ["a/run", "b/run"]
        and distinct_names(paths[:1]) == ["run"]
        and distinct_names([]) == []
    )

"""Recipes: requests become stages with their data and models."""

import jax
import pytest

import jsafe
from sketch.data.dataset import DatasetConfig
from sketch.models import checkpoint, discriminator, sketch_rnn
from sketch.models.classifier import ClassifierConfig, TrainedClassifier
from sketch.models.discriminator import DiscriminatorConfig, TrainedDiscriminator
from sketch.models.guided_sketch_rnn import GuidedSketchRNN
from sketch.models.sketch_rnn import SketchRNN, SketchRNNConfig
from sketch.training import recipes
from sketch.training.classifier_training import ClassifierTrainingConfig
from sketch.training.discriminator_training import DiscriminatorTrainingConfig
from sketch.training.guided_training import GuidedTrainingConfig
from sketch.training.reinforce import ReinforceConfig
from sketch.training.requests import ClassifierRequest, DiscriminatorRequest, ReinforceRequest, SketchRNNRequest

CATS = DatasetConfig(procedural=("cat:16",), valid_share=0.3)
CONFIG = SketchRNNConfig(conditional=False, decoder_size=6, mixtures=2)
SHORT = {"iterations": 1, "updates": 1, "batch_size": 4}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Folders of a framed generator and of a discriminator."""
    folder = tmp_path_factory.mktemp("models")
    params = jax.jit(lambda key: sketch_rnn.init(CONFIG, key))(jax.random.key(0))
    checkpoint.save(folder / "generator", SketchRNN(CONFIG, jax.device_get(params), 20.0, 80, True))
    size = DiscriminatorConfig(side=8, channels=(4,))
    params = jax.jit(lambda key: discriminator.init(size, key))(jax.random.key(1))
    checkpoint.save(folder / "discriminator", TrainedDiscriminator(size, jax.device_get(params)))
    return folder


def test_a_model_that_starts_from_a_framed_one_is_framed(models):
    training = GuidedTrainingConfig(**SHORT)
    request = SketchRNNRequest(dataset=CATS, start=models / "generator", training=training)
    recipe = recipes.build(request)
    assert set(recipe.models) == {"start"} and recipe.skipped == [] and "training drawings" in recipe.summary
    state = recipe.stage.trainer.init(jax.random.key(0))
    model = recipe.stage.finish(state)
    assert model.framed and model.scale_factor == 20.0 and model.config == CONFIG
    assert model.classes == ("cat",) and model.extent == (0.0, 0.0, 255.0)


def test_samples_of_a_generator_and_other_classes_are_negatives(models):
    request = DiscriminatorRequest(
        dataset=CATS, negatives=("sun:12",), generators=(models / "generator",), generated=6,
        size=DiscriminatorConfig(side=8, channels=(4,)), training=DiscriminatorTrainingConfig(**SHORT),
    )  # fmt: skip
    recipe = recipes.build(request)
    assert recipe.stage.trainer.info.config["kinds"] == ["corrupted", "others", "generator-0"]
    assert isinstance(recipe.models["generator-0"], GuidedSketchRNN)
    assert recipe.digest != recipes.build(DiscriminatorRequest(dataset=CATS, training=request.training)).digest


def test_a_classifier_is_calibrated_on_its_validation_set():
    both = DatasetConfig(procedural=("cat:16", "sun:16"), valid_share=0.3)
    request = ClassifierRequest(
        dataset=both, size=ClassifierConfig(architecture="recurrent", units=3, features=4),
        training=ClassifierTrainingConfig(**SHORT),
    )  # fmt: skip
    recipe = recipes.build(request)
    fitted = jsafe.fit(recipe.stage.trainer, iterations=1, progress=False)
    model = recipe.stage.finish(jax.tree.map(lambda leaf: leaf[0], fitted.state))
    assert isinstance(model, TrainedClassifier) and model.classes == ("cat", "sun") and model.temperature != 1.0
    with pytest.raises(ValueError, match="needs at least two classes of training drawings, got 'cat'"):
        recipes.build(ClassifierRequest(dataset=CATS))


def test_reinforcement_frames_people_s_drawings_for_a_framed_generator(models):
    request = ReinforceRequest(
        model=models / "generator", discriminator=models / "discriminator", dataset=CATS,
        training=ReinforceConfig(**SHORT, likelihood_weight=0.1),
    )  # fmt: skip
    recipe = recipes.build(request)
    assert set(recipe.models) == {"model-before", "discriminator"}
    assert recipe.stage.trainer.info.algorithm == "reward"
    with pytest.raises(ValueError, match="--discriminator must be a discriminator, got a sketch-rnn"):
        recipes.build(ReinforceRequest(model=models / "generator", discriminator=models / "generator", dataset=CATS))

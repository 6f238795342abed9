"""Recipes: from the request for a training stage to the stage with its data and models."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from sketch import contact_sheet
from sketch.data.bitmap_dataset import load_bitmaps
from sketch.data.dataset import SketchDataset, digest, load_dataset, load_negatives
from sketch.data.drawing_files import Drawing
from sketch.data.strokes import has_line, pad
from sketch.models.checkpoint import load_generator, load_model
from sketch.models.classifier import VECTORS, Inputs, TrainedClassifier
from sketch.models.discriminator import TrainedDiscriminator
from sketch.models.guided_sketch_rnn import GuidedSketchRNN
from sketch.models.predictor import TrainedPredictor, deterministic
from sketch.models.sketch_rnn import SketchRNN
from sketch.sampling.batching import sample_many
from sketch.sampling.sampler import SamplingConfig, make_sampler
from sketch.training.classifier_training import classifier_stage
from sketch.training.discriminator_training import discriminator_stage
from sketch.training.drawing_trainer import Stage
from sketch.training.guided_training import GuidedPreset, guided_stage
from sketch.training.predictor_training import predictor_stage
from sketch.training.reinforce import predictor_guide, reinforce_stage
from sketch.training.requests import (
    ClassifierRequest,
    DiscriminatorRequest,
    PredictorRequest,
    ReinforceRequest,
    SketchRNNRequest,
    TrainingRequest,
)
from sketch.training.sketch_rnn_training import Preset, sketch_rnn_stage

NEGATIVE_TEMPERATURES = (0.2, 0.4, 0.6, 0.8, 1.0)
"""Temperatures of the samples that are negatives of a discriminator."""

OTHER_CLASSES = "others"
"""Kind of the negatives of other classes."""


class Recipe(NamedTuple):
    """A stage that is ready to run.

    Attributes:
        stage: trainer, number of iterations, and conversion to the trained model.
        models: models that the stage starts from, by the name of their copies.
        digest: digest of the drawings, which a resumed run must match.
        skipped: reason, with file and row, for each dropped drawing.
        summary: one line about the data.
    """

    stage: Stage
    models: dict[str, Any]
    digest: str
    skipped: list[str]
    summary: str


def build(request: TrainingRequest) -> Recipe:
    """Load data and models of a request, and build its stage.

    Raises:
        ValueError: if settings, data and models do not fit together, or a file is unusable.
        FileNotFoundError: if a path does not exist.
    """
    return _RECIPES[type(request)](request)


def sketch_rnn_recipe(request: SketchRNNRequest) -> Recipe:
    """Build the training of a Sketch-RNN, plain or guided."""
    models: dict[str, Any] = {}
    start = predictor = None
    if request.start is not None:
        start = models["start"] = load_model(request.start, SketchRNN, "--start")
    if request.predictor is not None:
        predictor = models["predictor"] = load_model(request.predictor, TrainedPredictor, "--predictor")
    if predictor is None and start is not None and start.config.extra_inputs:
        raise ValueError("--start is a guided model and needs its predictor; add --predictor DIR")
    dataset = load_dataset(request.dataset)
    train, valid = dataset.train_strokes, dataset.valid_strokes
    if predictor is None:
        preset = Preset(request.architecture, request.plain_training)
        stage = sketch_rnn_stage(train, valid, preset, start=start, framed=request.framed)
    else:
        preset = GuidedPreset(request.architecture, request.training)
        stage = guided_stage(train, valid, predictor, preset, start=start)
    stage = _then(stage, lambda model: model._replace(classes=dataset.classes))
    if predictor is not None:
        stage = _then(stage, lambda model: GuidedSketchRNN(model, predictor))
    return _recipe(stage, dataset, models)


def predictor_recipe(request: PredictorRequest) -> Recipe:
    """Build the training of a predictor."""
    dataset = load_dataset(request.dataset)
    stage = predictor_stage(dataset.train_strokes, dataset.valid_strokes, request.size, request.training)
    return _recipe(stage, dataset, {})


def discriminator_recipe(request: DiscriminatorRequest) -> Recipe:
    """Build the training of a discriminator, with samples of the generators as negatives."""
    start = None
    if request.start is not None:
        start = load_model(request.start, TrainedDiscriminator, "--start")
    generators = {
        f"generator-{number}": load_generator(path, "--generator") for number, path in enumerate(request.generators)
    }
    dataset = load_dataset(request.dataset)
    train: dict[str, Sequence[np.ndarray]] = {}
    valid: dict[str, Sequence[np.ndarray]] = {}
    parts = [dataset.train_strokes, dataset.valid_strokes]
    if request.negatives:
        others = load_negatives(request.negatives, dataset, request.dataset)
        train[OTHER_CLASSES], valid[OTHER_CLASSES] = others.train_strokes, others.valid_strokes
        parts += [others.train_strokes, others.valid_strokes]
    for name, generator in generators.items():
        drawings = sample_negatives(generator, request.generated + len(dataset.valid), request.seed)
        train[name], valid[name] = drawings[: request.generated], drawings[request.generated :]
    stage = discriminator_stage(
        dataset.train_strokes, train, dataset.valid_strokes, valid, request.size, request.training, start=start
    )
    models = {**({"start": start} if start is not None else {}), **generators}
    return _recipe(stage, dataset, models)._replace(digest=digest(*parts))


def sample_negatives(generator: GuidedSketchRNN, count: int, seed: int) -> list[np.ndarray]:
    """Sample drawings at all of `NEGATIVE_TEMPERATURES`; samples without a line are replaced.

    Raises:
        ValueError: if the model produces almost no drawings with a line.
    """
    drawings: list[np.ndarray] = []
    draw, size = make_sampler(generator, SamplingConfig(generator.model.max_length)), min(count, 500)
    for attempt in range(20):
        missing = -(-(count - len(drawings)) // size) * size
        temperature = np.resize(np.array(NEGATIVE_TEMPERATURES, np.float32), missing)
        samples = sample_many(draw, seed + attempt * 1_000_003, size, temperature).samples
        drawings += [drawing for drawing in generator.from_model(samples.rows) if has_line(drawing)]
        if len(drawings) >= count:
            return drawings[:count]
    raise ValueError(
        f"a generator must produce drawings with lines, got {len(drawings)} in 20 batches; train it longer"
    )


class _LabelledSet(NamedTuple):
    """Inputs of a classifier and the class name of each."""

    inputs: Inputs
    names: Sequence[str]


def classifier_recipe(request: ClassifierRequest) -> Recipe:
    """Build the training of a classifier, which is calibrated on the validation set."""
    if request.bitmaps is not None:
        bitmaps = load_bitmaps(request.bitmaps)
        train, valid = (_LabelledSet(part.images, part.labels) for part in bitmaps)
        identity, skipped = digest(*(list(part.images.reshape(len(part.images), -1)) for part in bitmaps)), []
        summary = f"{len(train.names):,} training bitmaps, {len(valid.names):,} validation bitmaps"
    else:
        assert request.dataset is not None
        dataset = load_dataset(request.dataset)
        train, valid = _labelled_vectors(dataset, request.size.input_kind)
        identity, skipped, summary = dataset.digest(), dataset.skipped, dataset.summary()
    classes = sorted(set(train.names))
    if len(classes) < 2 or not set(valid.names) <= set(classes):
        listed = ", ".join(map(repr, classes))
        raise ValueError(f"a judge needs at least two classes of training drawings, got {listed}")
    labels, valid_labels = (np.array([classes.index(name) for name in part.names], np.int32) for part in (train, valid))
    held_out = valid.inputs if len(valid.names) else None
    stage = classifier_stage(
        train.inputs, labels, held_out, None if held_out is None else valid_labels, classes, request.size,
        request.training,
    )  # fmt: skip
    if held_out is not None:

        def calibrate(model: TrainedClassifier) -> TrainedClassifier:
            return model.calibrate(held_out, valid_labels)

        stage = _then(stage, calibrate)
    return Recipe(stage, {}, identity, skipped, summary)


def reinforce_recipe(request: ReinforceRequest) -> Recipe:
    """Build the reinforcement of a generator by a discriminator."""
    generator = load_generator(request.model, "--model")
    discriminator = load_model(request.discriminator, TrainedDiscriminator, "--discriminator")
    models: dict[str, Any] = {"model-before": generator, "discriminator": discriminator}
    dataset = load_dataset(request.dataset)
    train, guide = dataset.train_strokes, None
    if generator.guided:
        assert generator.predictor is not None
        # The canvas is evaluated again for the gradient, so the predictor must give the same embedding twice.
        predictor = deterministic(generator.predictor)
        generator = models["model-before"] = generator._replace(predictor=predictor)
        guide = predictor_guide(generator.model, predictor, request.training)
    stage = reinforce_stage(generator.model, discriminator, train, request.training, guide, framed=generator.framed)
    if generator.guided:
        stage = _then(stage, lambda model: GuidedSketchRNN(model, generator.predictor))
    return _recipe(stage, dataset, models)._replace(digest=digest(train))


_RECIPES: Mapping[type[TrainingRequest], Callable[[Any], Recipe]] = {
    SketchRNNRequest: sketch_rnn_recipe,
    PredictorRequest: predictor_recipe,
    DiscriminatorRequest: discriminator_recipe,
    ClassifierRequest: classifier_recipe,
    ReinforceRequest: reinforce_recipe,
}


def _recipe(stage: Stage, dataset: SketchDataset, models: dict[str, Any]) -> Recipe:
    return Recipe(stage, models, dataset.digest(), dataset.skipped, dataset.summary())


def _then(stage: Stage, convert: Callable[[Any], Any]) -> Stage:
    """Return the stage with a further conversion of its trained model."""
    return stage._replace(finish=lambda state: convert(stage.finish(state)))


def _labelled_vectors(dataset: SketchDataset, input_kind: str) -> tuple[_LabelledSet, _LabelledSet]:
    """Training and validation drawings as inputs of a classifier."""

    def labelled(drawings: Sequence[Drawing]) -> _LabelledSet:
        strokes, names = [drawing.strokes for drawing in drawings], [drawing.label for drawing in drawings]
        if not strokes:
            return _LabelledSet(np.zeros(0), names)
        return _LabelledSet(pad(strokes) if input_kind == VECTORS else contact_sheet.bitmaps(strokes), names)

    return labelled(dataset.train), labelled(dataset.valid)

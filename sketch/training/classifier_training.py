"""Training of the classifiers that judge drawings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from sketch.data import augment
from sketch.data.strokes import Drawings
from sketch.models.classifier import (
    CHUNK,
    ClassifierConfig,
    ClassifierNetwork,
    Inputs,
    TrainedClassifier,
    check_inputs,
    check_labels,
    preprocess,
)
from sketch.training.drawing_trainer import LearningProblem, LossOutput, Stage, descent_trainer
from sketch.training.training_configs import ClassifierTrainingConfig


def random_shift(key: jax.Array, images: Float[Array, "batch side side"], most: int) -> jax.Array:
    """Translate each image by up to `most` pixels along each axis; the border is blank."""
    corner = jax.random.randint(key, (len(images), 2), 0, 2 * most + 1)
    padded = jnp.pad(images, ((0, 0), (most, most), (most, most)))
    rows = corner[:, :1] + jnp.arange(images.shape[1])
    columns = corner[:, 1:] + jnp.arange(images.shape[2])
    return padded[jnp.arange(len(images))[:, None, None], rows[:, :, None], columns[:, None, :]]


def _augment(key: jax.Array, inputs: Any, options: ClassifierTrainingConfig) -> Any:
    first, second = jax.random.split(key)
    if isinstance(inputs, Drawings):
        drawings = augment.flip(first, jax.tree.map(jnp.asarray, inputs), options.flip)
        return preprocess(augment.stretch(second, drawings, options.stretch))
    images = preprocess(inputs)
    flipped = jax.random.bernoulli(first, options.flip, (len(images), 1, 1))
    return random_shift(second, jnp.where(flipped, images[:, :, ::-1], images), options.shift)


def _loss(logits: jax.Array, labels: jax.Array) -> LossOutput:
    chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], axis=1)
    return LossOutput(-jnp.mean(chosen), {"accuracy": jnp.mean(jnp.argmax(logits, axis=1) == labels)})


def classifier_stage(
    inputs: Inputs,
    labels: Int[np.ndarray, " n"],
    valid_inputs: Inputs | None,
    valid_labels: Int[np.ndarray, " m"] | None,
    classes: Sequence[str],
    size: ClassifierConfig,
    options: ClassifierTrainingConfig,
) -> Stage:
    """Build the training stage of a classifier; its temperature is 1 until `TrainedClassifier.calibrate`.

    Args:
        inputs: drawings of the kind that the architecture reads.
        labels: class numbers.
        valid_inputs: validation drawings, which choose the best parameters; None to keep the last parameters.
        valid_labels: class numbers of the validation drawings.
        classes: class names.
        size: sizes of the network.
        options: hyper-parameters.

    Raises:
        ValueError: if inputs have another kind or shape than the architecture needs, a label is out of range, or there
            are fewer drawings than a batch.
    """
    network, names = ClassifierNetwork(size, len(classes)), tuple(map(str, classes))

    def labelled(inputs: Inputs, labels: Any) -> tuple[Any, np.ndarray]:
        inputs = check_inputs(size, inputs)
        return inputs, check_labels(labels, inputs, len(names))

    data = labelled(inputs, labels)
    valid = None if valid_inputs is None else labelled(valid_inputs, valid_labels)

    def init(key: jax.Array) -> Any:
        return network.init(key, preprocess(jax.tree.map(lambda leaf: jnp.asarray(leaf[:1]), data[0])))

    def loss(params: Any, batch: Any, key: jax.Array, *_: Any) -> LossOutput:
        augment_key, dropout_key = jax.random.split(key)
        augmented = _augment(augment_key, batch[0], options)
        logits, _ = network.apply(params, augmented, dropout_key, options.dropout)  # type: ignore[misc]
        return _loss(logits, batch[1])

    def validate(params: Any, rows: Any, _: jax.Array) -> LossOutput:
        def one(row: Any) -> jax.Array:
            return network.apply(params, preprocess(jax.tree.map(lambda leaf: leaf[None], row)))[0][0]  # type: ignore[index]

        return _loss(jax.lax.map(one, rows[0], batch_size=CHUNK), rows[1])

    problem = LearningProblem(init, loss, validate, data, valid)
    shown = ("accuracy", *(("valid_accuracy",) if valid is not None else ()))
    recorded = {**size.config(), "classes": list(names)}
    trainer = descent_trainer("judge", problem, options, shown=shown, config=recorded)

    def finish(state: Any) -> TrainedClassifier:
        return TrainedClassifier(size, jax.tree.map(np.asarray, state.params["best"]), names)

    return Stage(trainer, options.iterations, finish)

"""Training of the predictor of the next stroke."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sketch import raster
from sketch.data import augment, strokes
from sketch.data.strokes import Drawings
from sketch.models import next_stroke_data
from sketch.models.next_stroke_data import NextStroke
from sketch.models.predictor import Predictor, PredictorConfig, Suggestion, TrainedPredictor, init
from sketch.models.sketch_rnn import Latent
from sketch.training.drawing_trainer import LearningProblem, LossOutput, Stage, descent_trainer
from sketch.training.training_configs import PredictorTrainingConfig


def blurred(images: Float[Array, "batch side side"]) -> jax.Array:
    """Blur images by a normal distribution of one pixel."""
    kernel = jnp.exp(-0.5 * jnp.arange(-2.0, 3.0) ** 2)
    kernel = kernel / jnp.sum(kernel)
    for axis in (1, 2):
        pad = [(2, 2) if a == axis else (0, 0) for a in range(3)]
        size, wide = images.shape[axis], jnp.pad(images, pad)
        parts = (jax.lax.slice_in_dim(wide, i, i + size, axis=axis) for i in range(5))
        images = sum(k * part for k, part in zip(kernel, parts, strict=True))  # type: ignore[assignment]
    return images


def next_stroke_loss(
    suggestion: Suggestion, posterior: Latent, prior: Latent, example: NextStroke, options: PredictorTrainingConfig
) -> LossOutput:
    """Loss of predictions of the next stroke; after the end of a drawing only the end counts."""
    real = (~example.over).astype(jnp.float32)
    count = jnp.maximum(jnp.sum(real), 1.0)

    def mean(each: jax.Array) -> jax.Array:
        return jnp.sum(each * real) / count

    target = blurred(example.next)
    log_on, log_off = jax.nn.log_sigmoid(suggestion.ink), jax.nn.log_sigmoid(-suggestion.ink)
    ink = -jnp.mean(options.ink_weight * target * log_on + (1.0 - target) * log_off, axis=(1, 2))
    share = jax.nn.sigmoid(suggestion.ink)
    overlap = jnp.sum(share * target, axis=(1, 2)) + 1.0
    dice = 1.0 - 2.0 * overlap / (jnp.sum(share, axis=(1, 2)) + jnp.sum(target, axis=(1, 2)) + 2.0)

    def cross_entropy(logits: jax.Array, expected: jax.Array) -> jax.Array:
        return -jnp.take_along_axis(jax.nn.log_softmax(logits), expected[:, None], axis=1)[:, 0]

    start, end = mean(cross_entropy(suggestion.start, example.start)), mean(cross_entropy(suggestion.end, example.end))
    box = mean(jnp.sum(jnp.abs(suggestion.box - example.box), -1) + jnp.abs(suggestion.log_length - example.log_length))
    over = example.over.astype(jnp.float32)
    stop = -jnp.mean(over * jax.nn.log_sigmoid(suggestion.over) + (1 - over) * jax.nn.log_sigmoid(-suggestion.over))
    ratio = posterior.log_variance - prior.log_variance
    gap = (posterior.mean - prior.mean) ** 2 * jnp.exp(-prior.log_variance)
    each = 0.5 * (jnp.exp(ratio) + gap - 1.0 - ratio)
    kl = jnp.sum(jnp.maximum(jnp.sum(each * real[:, None], axis=0) / count, options.free_bits))
    total = mean(ink + dice) + 0.5 * start + 0.25 * end + 0.5 * box + stop + options.kl_weight * kl
    metrics = {"ink": mean(ink), "dice": mean(dice), "start": start, "end": end, "box": box, "stop": stop, "kl": kl}
    return LossOutput(total, metrics)


def predictor_stage(
    train: Sequence[np.ndarray], valid: Sequence[np.ndarray], size: PredictorConfig, options: PredictorTrainingConfig
) -> Stage:
    """Build the training stage of a predictor.

    Args:
        train: training drawings, stroke-3 in any unit.
        valid: validation drawings, which choose the best parameters; empty to keep the last parameters.
        size: sizes of the network.
        options: hyper-parameters.

    Raises:
        ValueError: if there are fewer drawings than a batch.
    """
    network = Predictor(size)
    longest = max(map(len, [*train, *valid]), default=0)

    def loss(params: Any, drawings: Drawings, key: jax.Array, flip: float) -> LossOutput:
        example_key, latent_key, flip_key = jax.random.split(key, 3)
        if flip:
            drawings = augment.flip(flip_key, drawings, flip)
        framed = raster.framed(jax.tree.map(jnp.asarray, drawings))
        example = next_stroke_data.sample_examples(example_key, framed, size.side, size.strokes)
        return next_stroke_loss(*network.apply(params, example, latent_key), example, options)  # type: ignore[misc]

    problem = LearningProblem(
        lambda key: init(size, key),
        lambda params, batch, key, *_: loss(params, batch, key, options.flip),
        # The same examples in every validation, so that the best parameters are not those of an easy sample.
        lambda params, data, _: loss(params, data, jax.random.key(0), 0.0),
        strokes.pad(train, longest),
        strokes.pad(valid, longest) if len(valid) else None,
    )
    trainer = descent_trainer("predictor", problem, options, shown=("ink", "start"), config=size.config())

    def finish(state: Any) -> TrainedPredictor:
        return TrainedPredictor(size, jax.tree.map(np.asarray, state.params["best"]))

    return Stage(trainer, options.iterations, finish)

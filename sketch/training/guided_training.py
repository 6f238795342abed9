"""Training of a guided decoder, which receives the pen position and a predictor's embedding (Pang et al. 2020).

The paper does not describe how the predictor enters the decoder. Here it is a set of extra inputs, which start with
zero kernels, and an image loss of strokes in addition to the loss of their offsets.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jsafe import TrainState
from jsafe.runs import resume
from sketch import raster
from sketch.data import strokes
from sketch.data.strokes import Drawings
from sketch.models import next_stroke_data, predictor, sketch_rnn
from sketch.models.mixture import Mixture
from sketch.models.predictor import Predictor, PredictorConfig, TrainedPredictor, guidance_size
from sketch.models.rnn_cells import Dropout
from sketch.models.sketch_rnn import Params, SketchRNN, SketchRNNConfig
from sketch.training.drawing_trainer import LearningProblem, LossOutput, Stage, descent_trainer
from sketch.training.sketch_rnn_training import (
    KL_START,
    Prediction,
    augmented,
    frame_together,
    predict_rows,
    progress_metrics,
    sketch_rnn_loss,
)
from sketch.training.training_configs import GUIDED_PRESETS, GuidedPreset, GuidedTrainingConfig

CHUNK = 64
"""Drawings that are embedded together before the training."""

INK_MARGIN = 1e-4
"""Distance of predicted ink from 0 and 1, which bounds the loss of a pixel."""


class GuidedBatch(NamedTuple):
    """Drawings and the embeddings of their canvases.

    Attributes:
        drawings: framed drawings, in units of the box.
        embedding: `[B, strokes + 1, embedding_size]`, before the first stroke and after each stroke.
    """

    drawings: Drawings
    embedding: np.ndarray | jax.Array


def guided_stage(
    train: Sequence[np.ndarray],
    valid: Sequence[np.ndarray],
    trained: TrainedPredictor,
    preset: GuidedPreset = GUIDED_PRESETS["small"],
    *,
    start: SketchRNN | None = None,
) -> Stage:
    """Build the training stage of a guided decoder; the predictor is frozen.

    The embeddings of augmented copies are computed once, before the training. Computing them for each batch would make
    an update of the small sizes a third longer with `PREDICTOR_SMALL`, and more than three times as long with the
    default predictor (0.08 and 0.66 s of one core for 64 cats, compared with 0.27 s of the update). Eight copies cost
    as much as about 30 and 120 updates. All members of a population share the copies. Padding costs time too: drop
    drawings far longer than most.

    Args:
        train: training drawings, stroke-3 in any unit; they are framed, so the first offset sets the start position.
        valid: validation drawings, which choose the best parameters; empty to keep the last parameters.
        trained: the predictor.
        preset: sizes and hyper-parameters; with `start` its sizes are ignored.
        start: trained model to start from, whose scale factor is kept; best trained on framed drawings.

    Raises:
        ValueError: if there are fewer copies than a batch, or `start` has another number of extra inputs.
    """
    options, size = preset.options, trained.size
    extra_inputs = guidance_size(size)
    if start is not None and start.config.extra_inputs not in (0, extra_inputs):
        raise ValueError(
            f"the predictor must match the {start.config.extra_inputs} extra inputs of the model, "
            f"got a predictor that gives {extra_inputs}"
        )
    framed, valid_framed = frame_together(train, valid)
    longest = framed.rows.shape[1]
    scale = strokes.scale_factor(framed) if start is None else start.scale_factor
    config = dataclasses.replace(preset.architecture if start is None else start.config, extra_inputs=extra_inputs)
    data = precompute_guidance(trained, framed, options)
    unchanged = GuidedTrainingConfig(copies=1, stretch=0.0, point_drop=0.0)
    validation = None if valid_framed is None else precompute_guidance(trained, valid_framed, unchanged)
    loss, valid_loss = (make(config, size, scale, options) for make in (training_loss, validation_loss))
    problem = LearningProblem(_initial(config, start), loss, valid_loss, data, validation)
    recorded = {"scale_factor": scale, "max_length": longest, "predictor": resume.digest(trained.params)}
    shown = progress_metrics(config, validation)
    trainer = descent_trainer("guided", problem, options, shown=shown, config={**config.config(), **recorded})

    def finish(state: TrainState) -> SketchRNN:
        return SketchRNN(config, jax.tree.map(np.asarray, state.params["best"]), scale, longest)

    return Stage(trainer, options.iterations, finish)


def _initial(config: SketchRNNConfig, start: SketchRNN | None) -> Callable[[jax.Array], Params]:
    if start is None:
        return lambda key: sketch_rnn.init(config, key)
    params = sketch_rnn.widened(start.config, start.params, config.extra_inputs - start.config.extra_inputs)
    return lambda key: jax.tree.map(jnp.asarray, params)


def precompute_guidance(trained: TrainedPredictor, drawings: Drawings, options: GuidedTrainingConfig) -> GuidedBatch:
    """Augment copies of drawings and embed their canvases, on the host.

    Copies are sorted by drawing, and drawings by increasing stroke count.

    Args:
        trained: the predictor; each canvas gets an independent latent vector from the prior.
        drawings: framed host arrays.
        options: augmentation and number of copies.
    """
    size, network = trained.size, Predictor(trained.size)

    @jax.jit
    def embed(params: Any, chunk: Drawings, key: jax.Array) -> GuidedBatch:
        augment_key, latent_key = jax.random.split(key)
        changed = raster.framed(augmented(augment_key, chunk, options))

        def suggest(canvas: jax.Array, last: jax.Array, number: jax.Array) -> jax.Array:
            key = jax.random.fold_in(latent_key, number)
            return network.apply(params, canvas, last, key, method="likely").embedding  # type: ignore[union-attr]

        return GuidedBatch(changed, predictor.embeddings(size, suggest, changed))

    order = np.argsort(np.sum(drawings.rows[..., 2] > 0, axis=1), kind="stable")
    chosen = np.repeat(order, options.copies)
    params, key = jax.tree.map(jnp.asarray, trained.params), jax.random.key(options.copies_seed)
    parts = []
    for first in range(0, len(chosen), CHUNK):
        rows = chosen[first : first + CHUNK]
        full = np.pad(rows, (0, CHUNK - len(rows)), mode="edge")  # one shape, one program
        chunk = jax.tree.map(lambda leaf, full=full: jnp.asarray(leaf[full]), drawings)
        parts.append(jax.device_get(embed(params, chunk, jax.random.fold_in(key, first))))
    return jax.tree.map(lambda *leaves: np.concatenate(leaves)[: len(chosen)], *parts)


def training_loss(
    config: SketchRNNConfig, size: PredictorConfig, scale: float, options: GuidedTrainingConfig
) -> Callable[..., LossOutput]:
    """Published loss of a `GuidedBatch`, and the image loss of one stroke of each drawing."""

    def loss(
        params: Params, batch: GuidedBatch, key: jax.Array, update: jax.Array, hyper: dict[str, Any]
    ) -> LossOutput:
        keys = jax.random.split(key, 5)
        drops = [Dropout(k, options.keep) for k in keys[:3]] if options.keep < 1.0 else None
        weight = sketch_rnn.annealed(KL_START, hyper["kl_weight"], options.kl_decay, update)
        prediction = _predict(config, size, scale, params, batch, keys[3], drops)
        output = sketch_rnn_loss(prediction, weight, options)
        if not options.supervision:
            return output
        looks = stroke_loss(prediction.mixture, batch.drawings, keys[4], scale, size.side)
        total = output.loss + options.supervision * looks
        return LossOutput(total, {**output.metrics, "looks": looks})

    return loss


def validation_loss(
    config: SketchRNNConfig, size: PredictorConfig, scale: float, options: GuidedTrainingConfig
) -> Callable[..., LossOutput]:
    """Published loss without dropout and annealing, which chooses the best parameters."""

    def loss(params: Params, data: GuidedBatch, key: jax.Array) -> LossOutput:
        prediction = _predict(config, size, scale, params, data, key, None)
        return sketch_rnn_loss(prediction, options.kl_weight, options)

    return loss


def _predict(
    config: SketchRNNConfig,
    size: PredictorConfig,
    scale: float,
    params: Params,
    batch: GuidedBatch,
    key: jax.Array,
    drops: Sequence[Dropout] | None,
) -> Prediction:
    extra = predictor.guidance_inputs(size, batch.drawings, jnp.asarray(batch.embedding))
    return predict_rows(config, params, strokes.scaled(batch.drawings, 1.0 / scale), key, drops, extra)


def stroke_loss(predicted: Mixture, drawings: Drawings, key: jax.Array, scale: float, side: int) -> jax.Array:
    """Mean cross-entropy `[]` between the pixels of a true stroke and of the predicted one.

    One random stroke of each drawing counts. Each predicted point is the true previous point plus the mean offset.

    Args:
        predicted: distribution of each row.
        drawings: framed drawings.
        key: typed PRNG key.
        scale: unit of the predicted offsets.
        side: pixels of one side of the images.
    """
    count = strokes.stroke_count(drawings)
    number = jnp.floor(jax.random.uniform(key, count.shape) * count).astype(jnp.int32)
    inside = strokes.real_rows(drawings) & (strokes.stroke_numbers(drawings) == number[:, None])
    first, length = jnp.argmax(inside, axis=1), jnp.sum(inside, axis=1, dtype=jnp.int32)
    rows = jnp.minimum(first[:, None] + jnp.arange(inside.shape[1]), inside.shape[1] - 1)[..., None]
    places = raster.framed_places(drawings)
    before = jnp.pad(places[:, :-1], ((0, 0), (1, 0), (0, 0)), constant_values=raster.BOX / 2)
    mean = jnp.sum(jax.nn.softmax(predicted.weight)[..., None] * predicted.mean, axis=-2)
    # The rows of the stroke come first, so that only its points are rendered.
    alone = Drawings(jnp.take_along_axis(drawings.rows, rows, axis=1), length)
    expected, true = (jnp.take_along_axis(x, rows, axis=1) for x in (before + scale * mean, places))
    target = raster.exact(alone, next_stroke_data.view(side), places=true)
    ink = jnp.clip(raster.soft(alone, next_stroke_data.view(side), places=expected), INK_MARGIN, 1.0 - INK_MARGIN)
    return -jnp.mean(target * jnp.log(ink) + (1.0 - target) * jnp.log1p(-ink))

"""Training of Sketch-RNN."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jsafe import TrainState
from sketch import raster
from sketch.data import augment, extent, strokes
from sketch.data.strokes import Drawings
from sketch.models import sketch_rnn
from sketch.models.mixture import FLOOR, Mixture
from sketch.models.rnn_cells import Dropout
from sketch.models.sketch_rnn import Params, SketchRNN, SketchRNNConfig
from sketch.training.drawing_trainer import LearningProblem, LossOutput, Stage, descent_trainer
from sketch.training.training_configs import SKETCH_RNN_PRESETS as PRESETS
from sketch.training.training_configs import Preset, SketchRNNTrainingConfig

KL_START = 0.01
"""Published initial weight of the KL divergence."""


def sketch_rnn_stage(
    train: Sequence[np.ndarray],
    valid: Sequence[np.ndarray] = (),
    preset: Preset = PRESETS["small"],
    *,
    start: SketchRNN | None = None,
    framed: bool = False,
) -> Stage:
    """Build the training stage of a Sketch-RNN.

    Args:
        train: training drawings, stroke-3 in any unit.
        valid: validation drawings, which choose the best parameters; empty to keep the last parameters.
        preset: sizes and hyper-parameters; with `start` its sizes are ignored.
        start: trained model to start from, whose scale factor is kept.
        framed: frame the drawings, so that they start at the centre of the box; always the case if `start` is framed.

    Raises:
        ValueError: if there are fewer drawings than a batch.
    """
    options = preset.options
    config = preset.architecture if start is None else start.config
    framed = framed or (start is not None and start.framed)
    data, validation = frame_together(train, valid) if framed else pad_together(train, valid)
    longest = data.rows.shape[1]
    place = extent.Extent() if framed else extent.measure(train)
    scale = strokes.scale_factor(data) if start is None else start.scale_factor
    data = _scale_on_host(data, scale)
    validation = None if validation is None else _scale_on_host(validation, scale)

    def init(key: jax.Array) -> Params:
        return sketch_rnn.init(config, key) if start is None else jax.tree.map(jnp.asarray, start.params)

    problem = LearningProblem(init, training_loss(config, options), validation_loss(config, options), data, validation)
    recorded = {**config.config(), "scale_factor": scale, "max_length": longest}
    shown = progress_metrics(config, validation)
    trainer = descent_trainer("sketch_rnn", problem, options, shown=shown, config=recorded)

    def finish(state: TrainState) -> SketchRNN:
        params = jax.tree.map(np.asarray, state.params["best"])
        return SketchRNN(config, params, scale, longest, framed, place[:3], place.from_first_point)

    return Stage(trainer, options.iterations, finish)


def pad_together(train: Sequence[np.ndarray], valid: Sequence[np.ndarray]) -> tuple[Drawings, Drawings | None]:
    """Pad training and validation drawings to one length."""
    longest = max(map(len, [*train, *valid]), default=0)
    return strokes.pad(train, longest), strokes.pad(valid, longest) if len(valid) else None


def frame_together(train: Sequence[np.ndarray], valid: Sequence[np.ndarray]) -> tuple[Drawings, Drawings | None]:
    """Pad and frame training and validation drawings on the host."""
    padded, validation = pad_together(train, valid)
    return frame_on_host(padded), None if validation is None else frame_on_host(validation)


def frame_on_host(drawings: Drawings) -> Drawings:
    """Frame drawings, as host arrays."""
    return jax.tree.map(np.asarray, jax.jit(raster.framed)(jax.tree.map(jnp.asarray, drawings)))


def progress_metrics(config: SketchRNNConfig, validation: Any) -> tuple[str, ...]:
    """Names of the metrics of the progress line."""
    return (*(("kl",) if config.conditional else ()), *(("valid_loss",) if validation is not None else ()))


def training_loss(config: SketchRNNConfig, options: SketchRNNTrainingConfig) -> Callable[..., LossOutput]:
    """Published loss of an augmented batch of scaled drawings: reconstruction and annealed divergence."""

    def loss(params: Params, batch: Drawings, key: jax.Array, update: jax.Array, hyper: dict[str, Any]) -> LossOutput:
        keys = jax.random.split(key, 8)
        batch = augmented(keys[0], batch, options)
        drops = [Dropout(k, options.keep) for k in keys[1:4]] if options.keep < 1.0 else None
        prediction = predict_rows(config, params, batch, keys[4], drops)
        if prediction.divergence is None:
            return sketch_rnn_loss(prediction, 0.0, options)
        weight = sketch_rnn.annealed(KL_START, hyper["kl_weight"], options.kl_decay, update)
        output = sketch_rnn_loss(prediction, weight, options)
        return output._replace(metrics={**output.metrics, "kl_weight": weight})

    return loss


def validation_loss(config: SketchRNNConfig, options: SketchRNNTrainingConfig) -> Callable[..., LossOutput]:
    """Published loss without augmentation, dropout and annealing, which chooses the best parameters."""

    def loss(params: Params, data: Drawings, key: jax.Array) -> LossOutput:
        return sketch_rnn_loss(predict_rows(config, params, data, key, None), options.kl_weight, options)

    return loss


def augmented(key: jax.Array, batch: Drawings, options: SketchRNNTrainingConfig) -> Drawings:
    """Augment a batch as configured."""
    keys = jax.random.split(key, 4)
    if options.stretch:
        batch = augment.stretch(keys[0], batch, options.stretch)
    if options.point_drop:
        batch = augment.drop_points(keys[1], batch, options.point_drop)
    if options.flip:
        batch = augment.flip(keys[2], batch, options.flip)
    return augment.turn(keys[3], batch, options.turn) if options.turn else batch


class Prediction(NamedTuple):
    """Prediction of the rows of a batch.

    Attributes:
        rows: `[B, N, 5]` stroke-5 of the drawings.
        mixture: distribution of each row, given the rows before it.
        divergence: KL divergence of the latent vectors; None for a model without an encoder.
    """

    rows: jax.Array
    mixture: Mixture
    divergence: jax.Array | None


def predict_rows(
    config: SketchRNNConfig,
    params: Params,
    batch: Drawings,
    key: jax.Array,
    drops: Sequence[Dropout] | None,
    extra: jax.Array | None = None,
) -> Prediction:
    """Predict each row of scaled drawings from the rows before it.

    Args:
        config: sizes of the model.
        params: its parameters.
        batch: scaled drawings.
        key: PRNG key of the latent vectors.
        drops: dropout of the two directions of the encoder and of the decoder; None for no dropout.
        extra: `[B, N, extra_inputs]`; None for a model without extra inputs.
    """
    rows, z, divergence = strokes.batch_to_stroke5(batch), None, None
    if config.conditional:
        directions = (drops[0], drops[1]) if drops else None
        latent = sketch_rnn.encode(config, params, rows, jnp.asarray(batch.lengths), directions)
        z, divergence = latent.sample(key), sketch_rnn.kl_divergence(latent)
    mixture = sketch_rnn.decode(config, params, rows, z, extra, drops[2] if drops else None)
    return Prediction(rows, mixture, divergence)


def sketch_rnn_loss(prediction: Prediction, weight: Any, options: SketchRNNTrainingConfig) -> LossOutput:
    """Reconstruction loss and, for a model with an encoder, the weighted divergence above its floor."""
    floor = FLOOR if options.density_floor else None
    losses = sketch_rnn.reconstruction(prediction.mixture, prediction.rows, floor=floor)
    metrics = {
        "reconstruction": losses.reconstruction, "offset": losses.offset, "pen": losses.pen, "nll": losses.per_point,
    }  # fmt: skip
    if prediction.divergence is None:
        return LossOutput(losses.reconstruction, metrics)
    total = losses.reconstruction + weight * jnp.maximum(prediction.divergence, options.kl_floor)
    return LossOutput(total, metrics | {"kl": prediction.divergence})


def _scale_on_host(drawings: Drawings, scale: float) -> Drawings:
    return drawings._replace(rows=np.asarray(drawings.rows) / np.array([scale, scale, 1.0], np.float32))

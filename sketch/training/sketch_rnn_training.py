"""Training of Sketch-RNN."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jsafe import TrainState
from jsafe.config import hyperparameters, option
from sketch import raster
from sketch.data import augment, strokes
from sketch.data.strokes import Drawings
from sketch.models import sketch_rnn
from sketch.models.mixture import FLOOR, Mixture
from sketch.models.rnn_cells import Dropout
from sketch.models.sketch_rnn import Params, SketchRNN, SketchRNNConfig
from sketch.training.drawing_trainer import LearningProblem, LossOutput, Stage, TrainingConfig, descent_trainer

KL_START = 0.01
"""Published initial weight of the KL divergence."""


@hyperparameters
class SketchRNNTrainingConfig(TrainingConfig):
    """Hyper-parameters of Sketch-RNN training; the defaults are those of the published code."""

    kl_weight: float = option("final weight of the KL divergence", default=0.5, traced=True, low=0)
    kl_decay: float = option(
        "decay of the weight of the KL divergence towards its final value, per update",
        default=0.99995,
        above=0,
        high=1,
    )
    kl_floor: float = option("floor of the KL divergence, below which it has no gradient", default=0.2, low=0)
    keep: float = option("keep probability of recurrent dropout", default=0.9, above=0, high=1)
    stretch: float = option("largest relative change of width and height", default=0.15, low=0, high=0.99)
    point_drop: float = option("probability of dropping a point inside a stroke", default=0.1, low=0, high=1)
    flip: float = option("probability of a horizontal flip", default=0.0, low=0, high=1)
    turn: float = option("largest rotation in degrees", default=0.0, low=0, high=180)
    density_floor: bool = option("add 1e-6 to densities, as the published code does", default=False)


class Preset(NamedTuple):
    """Sizes of a Sketch-RNN and hyper-parameters of its training."""

    architecture: SketchRNNConfig
    options: SketchRNNTrainingConfig


PRESETS = {
    "code": Preset(SketchRNNConfig(), SketchRNNTrainingConfig()),
    "paper": Preset(
        SketchRNNConfig(encoder_size=512, decoder_cell="hyper", decoder_size=2048),
        SketchRNNTrainingConfig(learning_rate=1e-4, kl_weight=1.0, kl_decay=0.99999, stretch=0.1, iterations=1000),
    ),
    "small": Preset(
        SketchRNNConfig(conditional=False, decoder_cell="layer_norm", decoder_size=192),
        SketchRNNTrainingConfig(
            iterations=40,
            updates=50,
            batch_size=64,
            learning_rate=2e-3,
            learning_rate_decay=0.999,
            keep=0.8,
            point_drop=0.15,
            flip=0.5,
            turn=10.0,
        ),
    ),
}
"""Published defaults of the code and of the paper, and a size for a small data set on a CPU."""


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
        return SketchRNN(config, jax.tree.map(np.asarray, state.params["best"]), scale, longest, framed)

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

"""The stages of the sketch part from drawings: each gives a trainer and says what becomes of its state."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jsafe import Trainer, TrainState
from jsafe.config import hyperparameters, option
from sketch.data import augment, strokes
from sketch.data.strokes import Drawings
from sketch.models import sketch_rnn
from sketch.models.mixture import FLOOR, Mixture
from sketch.models.rnn_cells import Dropout
from sketch.models.sketch_rnn import Architecture, Params
from sketch.training.drawing_trainer import Judgement, Problem, TrainingOptions, descent_trainer

KL_START = 0.01
"""Weight of the divergence at first, as published."""


@hyperparameters
class SketchRNNOptions(TrainingOptions):
    """Hyper-parameters of Sketch-RNN's training; the defaults are those of the published code."""

    kl_weight: float = option("weight of the divergence in the end", default=0.5, traced=True, low=0)
    kl_decay: float = option("share of the way to it that is left after an update", default=0.99995, above=0, high=1)
    kl_floor: float = option("divergence below which it costs no less", default=0.2, low=0)
    keep: float = option("probability that a candidate of a cell is not dropped", default=0.9, above=0, high=1)
    stretch: float = option("largest change of width and height, as a share", default=0.15, low=0, high=0.99)
    point_drop: float = option("probability that a point inside a stroke is left out", default=0.1, low=0, high=1)
    flip: float = option("probability that left and right are swapped", default=0.0, low=0, high=1)
    turn: float = option("largest rotation in degrees", default=0.0, low=0, high=180)
    density_floor: bool = option("add 1e-6 to densities, as the published code does", default=False)


class Preset(NamedTuple):
    """A size of Sketch-RNN and how it is trained."""

    architecture: Architecture
    options: SketchRNNOptions


PRESETS = {
    "code": Preset(Architecture(), SketchRNNOptions()),
    "paper": Preset(
        Architecture(encoder_size=512, decoder_cell="hyper", decoder_size=2048),
        SketchRNNOptions(learning_rate=1e-4, kl_weight=1.0, kl_decay=0.99999, stretch=0.1, iterations=1000),
    ),
    "small": Preset(
        Architecture(conditional=False, decoder_cell="layer_norm", decoder_size=192),
        SketchRNNOptions(
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
"""Published defaults of the code; of the paper; and a size for few drawings on a CPU."""


class SketchRNN(NamedTuple):
    """A trained model.

    Attributes:
        config: its sizes.
        params: its parameters.
        scale_factor: that offsets are divided by before it sees them.
        max_length: rows of the longest drawing it was trained on.
        framed: whether its drawings begin at the centre of the box, see `sketch.raster.framed`; those of a guided one
            always do.
    """

    config: Architecture
    params: Params
    scale_factor: float
    max_length: int
    framed: bool = False


class Stage(NamedTuple):
    """A stage, ready to run.

    Attributes:
        trainer: what `jsafe.fit` runs.
        iterations: of a whole run.
        finish: the trained model, on the host, from the last state of one member.
    """

    trainer: Trainer
    iterations: int
    finish: Callable[[TrainState], Any]


def sketch_rnn_stage(
    train: Sequence[np.ndarray],
    valid: Sequence[np.ndarray] = (),
    preset: Preset = PRESETS["small"],
    *,
    start: SketchRNN | None = None,
) -> Stage:
    """Sketch-RNN from drawings.

    Args:
        train: stroke-3 each, in any unit.
        valid: the same, to choose the best parameters by; none to take the last.
        preset: sizes and hyper-parameters; the sizes are those of `start` where that is given.
        start: a model to go on from, whose scale factor stays.

    Raises:
        ValueError: there are no drawings, or fewer than a batch.
    """
    options = preset.options
    config = preset.architecture if start is None else start.config
    longest = max(map(len, [*train, *valid]), default=0)
    data = strokes.pad(train, longest)
    scale = strokes.scale_factor(data) if start is None else start.scale_factor
    data = _host_scaled(data, scale)
    validation = _host_scaled(strokes.pad(valid, longest), scale) if len(valid) else None
    begun = None if start is None else start.params

    def init(key: jax.Array) -> Params:
        return sketch_rnn.init(config, key) if begun is None else jax.tree.map(jnp.asarray, begun)

    problem = Problem(init, training_loss(config, options), validation_loss(config, options), data, validation)
    recorded = {**config.config(), "scale_factor": scale, "max_length": longest}
    trainer = descent_trainer("sketch_rnn", problem, options, shown=_shown(config, validation), config=recorded)

    def finish(state: TrainState) -> SketchRNN:
        return SketchRNN(config, jax.tree.map(np.asarray, state.params["best"]), scale, longest)

    return Stage(trainer, options.iterations, finish)


def training_loss(config: Architecture, options: SketchRNNOptions) -> Callable[..., Judgement]:
    """The published loss of a batch of scaled drawings, which it augments: reconstruction and weighted divergence."""

    def loss(params: Params, batch: Drawings, key: jax.Array, update: jax.Array, hyper: dict[str, Any]) -> Judgement:
        keys = jax.random.split(key, 8)
        batch = augmented(keys[0], batch, options)
        drops = [Dropout(k, options.keep) for k in keys[1:4]] if options.keep < 1.0 else None
        found, divergence = _losses(config, params, batch, keys[4], drops, options)
        if divergence is None:
            return objective(found, None, 0.0, options)
        weight = sketch_rnn.annealed(KL_START, hyper["kl_weight"], options.kl_decay, update)
        total, metrics = objective(found, divergence, weight, options)
        return Judgement(total, metrics | {"kl_weight": weight})

    return loss


def validation_loss(config: Architecture, options: SketchRNNOptions) -> Callable[..., Judgement]:
    """The same without augmentation, dropout and annealing: what the best parameters are chosen by."""

    def loss(params: Params, data: Drawings, key: jax.Array) -> Judgement:
        found, divergence = _losses(config, params, data, key, None, options)
        return objective(found, divergence, options.kl_weight, options)

    return loss


def augmented(key: jax.Array, batch: Drawings, options: SketchRNNOptions) -> Drawings:
    """A batch changed at random as the options say."""
    keys = jax.random.split(key, 4)
    if options.stretch:
        batch = augment.stretch(keys[0], batch, options.stretch)
    if options.point_drop:
        batch = augment.drop_points(keys[1], batch, options.point_drop)
    if options.flip:
        batch = augment.flip(keys[2], batch, options.flip)
    return augment.turn(keys[3], batch, options.turn) if options.turn else batch


def foreseen(
    config: Architecture,
    params: Params,
    batch: Drawings,
    key: jax.Array,
    drops: Sequence[Dropout] | None,
    extra: jax.Array | None = None,
) -> tuple[jax.Array, Mixture, jax.Array | None]:
    """Rows of scaled drawings, their distributions given those before, and the divergence of a model with an encoder.

    Args:
        config: of the model.
        params: its parameters.
        batch: scaled drawings.
        key: of the latent vectors.
        drops: for the encoder's two directions and the decoder; None for none.
        extra: `[B, N, extra_inputs]`, None for a model without extra inputs.
    """
    rows, z, divergence = strokes.batch_to_stroke5(batch), None, None
    if config.conditional:
        directions = (drops[0], drops[1]) if drops else None
        latent = sketch_rnn.encode(config, params, rows, jnp.asarray(batch.lengths), directions)
        z, divergence = latent.sample(key), sketch_rnn.kl_divergence(latent)
    return rows, sketch_rnn.decode(config, params, rows, z, extra, drops[2] if drops else None), divergence


def objective(
    found: sketch_rnn.Losses, divergence: jax.Array | None, weight: Any, options: SketchRNNOptions
) -> Judgement:
    """Reconstruction and, for a model with an encoder, the weighted divergence, which costs no less than its floor."""
    metrics = {
        "reconstruction": found.reconstruction, "offset": found.offset, "pen": found.pen, "nll": found.per_point,
    }  # fmt: skip
    if divergence is None:
        return Judgement(found.reconstruction, metrics)
    total = found.reconstruction + weight * jnp.maximum(divergence, options.kl_floor)
    return Judgement(total, metrics | {"kl": divergence})


def _losses(
    config: Architecture, params: Params, batch: Drawings, key: jax.Array, drops: Any, options: SketchRNNOptions
) -> tuple[sketch_rnn.Losses, jax.Array | None]:
    rows, predicted, divergence = foreseen(config, params, batch, key, drops)
    return sketch_rnn.reconstruction(predicted, rows, floor=FLOOR if options.density_floor else None), divergence


def _shown(config: Architecture, validation: Any) -> tuple[str, ...]:
    return (*(("kl",) if config.conditional else ()), *(("valid_loss",) if validation is not None else ()))


def _host_scaled(drawings: Drawings, scale: float) -> Drawings:
    """Offsets divided by the scale factor, still on the host."""
    return drawings._replace(rows=np.asarray(drawings.rows) / np.array([scale, scale, 1.0], np.float32))

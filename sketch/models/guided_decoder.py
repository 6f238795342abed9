"""A decoder of drawings that is told where the pen is and what a predictor suggests of the canvas (Pang et al. 2020).

How the paper's predictor enters its decoder is not known; here it is more inputs, which do nothing until they are
trained, and a loss of what a stroke looks like beside that of its numbers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jsafe import TrainState
from jsafe.config import hyperparameters, option
from jsafe.runs import resume
from sketch import raster
from sketch.data import next_stroke_data, strokes
from sketch.data.strokes import Drawings
from sketch.models import predictor, sketch_rnn
from sketch.models.mixture import FLOOR, Mixture
from sketch.models.predictor import Predictor, PredictorSize, TrainedPredictor, guidance_size
from sketch.models.rnn_cells import Dropout
from sketch.models.sketch_rnn import Architecture, Params
from sketch.training.drawing_trainer import Judgement, Problem, descent_trainer
from sketch.training.stages import KL_START, PRESETS, SketchRNN, SketchRNNOptions, Stage, augmented, foreseen, objective

CHUNK = 64
"""Drawings that the predictor looks at together before the training begins."""

CERTAIN = 1e-4
"""Ink is not taken for surer than this, so that a lost pixel does not cost without bound."""


@hyperparameters
class GuidedOptions(SketchRNNOptions):
    """Hyper-parameters of a guided decoder's training."""

    copies: int = option("of each drawing, each changed at random and looked at by the predictor", default=8, low=1)
    copies_seed: int = option("of these changes", default=0, low=0)
    supervision: float = option("weight of what a stroke looks like; 0 leaves it out", default=0.1, low=0)


class GuidedPreset(NamedTuple):
    """A size of a guided decoder and how it is trained; the extra inputs follow from the predictor."""

    architecture: Architecture
    options: GuidedOptions


GUIDED_PRESETS = {
    name: GuidedPreset(architecture, GuidedOptions(**options.config()))
    for name, (architecture, options) in PRESETS.items()
}
"""Those of Sketch-RNN."""


class Told(NamedTuple):
    """Drawings and what the predictor says while they are drawn.

    Attributes:
        drawings: framed, in units of the box.
        embedding: `[B, strokes + 1, embedding_size]`, before the first stroke and after each.
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
    """A guided decoder from drawings; the predictor does not change.

    The predictor looks at changed copies of the drawings once, before the training begins. To look at each batch anew
    would give endless copies, but makes each update of the small sizes a third longer with `PREDICTOR_SMALL`, and more
    than three times as long with the default predictor (0.08 and 0.66 s of one core for 64 cats, beside 0.27 s of the
    decoder's own update); eight copies take as long as about 30 and 120 updates. All members of a population learn from
    the same copies. Padding is work too: drawings far longer than most are better left out of both sets.

    Args:
        train: stroke-3 each, in any unit; they are framed, so the decoder's first offset says where to begin.
        valid: the same, to choose the best parameters by; none to take the last.
        trained: what says which strokes may come.
        preset: sizes and hyper-parameters; the sizes are those of `start` where that is given.
        start: a model to go on from, whose scale factor stays; it was best trained on framed drawings too.

    Raises:
        ValueError: there are no drawings, fewer copies than a batch, or `start` has extra inputs of another number.
    """
    options, size = preset.options, trained.size
    wanted = guidance_size(size)
    if start is not None and start.config.extra_inputs not in (0, wanted):
        raise ValueError(f"the model has {start.config.extra_inputs} extra inputs, and the predictor gives {wanted}")
    longest = max(map(len, [*train, *valid]), default=0)
    framed = framed_on_host(strokes.pad(train, longest))
    scale = strokes.scale_factor(framed) if start is None else start.scale_factor
    plain = preset.architecture if start is None else start.config
    config = dataclasses.replace(plain, extra_inputs=wanted)
    data = told_copies(trained, framed, options)
    unchanged = GuidedOptions(copies=1, stretch=0.0, point_drop=0.0)
    validation = told_copies(trained, framed_on_host(strokes.pad(valid, longest)), unchanged) if len(valid) else None
    begun = None
    if start is not None:
        begun = sketch_rnn.widened(start.config, start.params, wanted - start.config.extra_inputs)

    def init(key: jax.Array) -> Params:
        return sketch_rnn.init(config, key) if begun is None else jax.tree.map(jnp.asarray, begun)

    problem = Problem(
        init,
        training_loss(config, size, scale, options),
        validation_loss(config, size, scale, options),
        data,
        validation,
    )
    recorded = {"scale_factor": scale, "max_length": longest, "predictor": resume.digest(trained.params)}
    shown = [*(["kl"] if config.conditional else []), *(["valid_loss"] if validation is not None else [])]
    trainer = descent_trainer("guided", problem, options, shown=shown, config={**config.config(), **recorded})

    def finish(state: TrainState) -> SketchRNN:
        return SketchRNN(config, jax.tree.map(np.asarray, state.params["best"]), scale, longest)

    return Stage(trainer, options.iterations, finish)


def framed_on_host(drawings: Drawings) -> Drawings:
    """Framed drawings as arrays of the host."""
    return jax.tree.map(np.asarray, jax.jit(raster.framed)(jax.tree.map(jnp.asarray, drawings)))


def told_copies(trained: TrainedPredictor, drawings: Drawings, options: GuidedOptions) -> Told:
    """Changed copies of drawings with what the predictor says of each, on the host.

    The copies of a drawing stand together, and drawings of few strokes before those of many.

    Args:
        trained: the predictor; each canvas gets a latent vector of its own from the prior.
        drawings: framed, on the host.
        options: of the changes and their number.
    """
    size, network = trained.size, Predictor(trained.size)

    @jax.jit
    def look(params: Any, chunk: Drawings, key: jax.Array) -> Told:
        change, say = jax.random.split(key)
        changed = raster.framed(augmented(change, chunk, options))

        def suggest(canvas: jax.Array, last: jax.Array, number: jax.Array) -> jax.Array:
            key = jax.random.fold_in(say, number)
            return network.apply(params, canvas, last, key, method="likely").embedding  # type: ignore[union-attr]

        return Told(changed, predictor.embeddings(size, suggest, changed))

    order = np.argsort(np.sum(drawings.rows[..., 2] > 0, axis=1), kind="stable")
    chosen = np.repeat(order, options.copies)
    params, key = jax.tree.map(jnp.asarray, trained.params), jax.random.key(options.copies_seed)
    found = []
    for first in range(0, len(chosen), CHUNK):
        places = chosen[first : first + CHUNK]
        full = np.pad(places, (0, CHUNK - len(places)), mode="edge")  # one shape, one program
        chunk = jax.tree.map(lambda leaf, full=full: jnp.asarray(leaf[full]), drawings)
        found.append(jax.device_get(look(params, chunk, jax.random.fold_in(key, first))))
    return jax.tree.map(lambda *leaves: np.concatenate(leaves)[: len(chosen)], *found)


def training_loss(
    config: Architecture, size: PredictorSize, scale: float, options: GuidedOptions
) -> Callable[..., Judgement]:
    """The published loss of a batch of `Told`, and what the decoder's mean strokes look like."""

    judged = _judge(config, size, scale, options)

    def loss(params: Params, batch: Told, key: jax.Array, update: jax.Array, hyper: dict[str, Any]) -> Judgement:
        keys = jax.random.split(key, 5)
        drops = [Dropout(k, options.keep) for k in keys[:3]] if options.keep < 1.0 else None
        weight = sketch_rnn.annealed(KL_START, hyper["kl_weight"], options.kl_decay, update)
        predicted, (total, metrics) = judged(params, batch, keys[3], weight, drops)
        if options.supervision:
            looks = stroke_loss(predicted, batch.drawings, keys[4], scale, size.side)
            total, metrics = total + options.supervision * looks, metrics | {"looks": looks}
        return Judgement(total, metrics)

    return loss


def validation_loss(
    config: Architecture, size: PredictorSize, scale: float, options: GuidedOptions
) -> Callable[..., Judgement]:
    """The published loss alone, without dropout and annealing: what the best parameters are chosen by."""

    judged = _judge(config, size, scale, options)

    def loss(params: Params, data: Told, key: jax.Array) -> Judgement:
        return judged(params, data, key, options.kl_weight, None)[1]

    return loss


def _judge(
    config: Architecture, size: PredictorSize, scale: float, options: GuidedOptions
) -> Callable[..., tuple[Mixture, Judgement]]:
    def judged(
        params: Params, batch: Told, key: jax.Array, weight: Any, drops: Sequence[Dropout] | None
    ) -> tuple[Mixture, Judgement]:
        extra = predictor.told(size, batch.drawings, jnp.asarray(batch.embedding))
        scaled = strokes.scaled(batch.drawings, 1.0 / scale)
        rows, predicted, divergence = foreseen(config, params, scaled, key, drops, extra)
        found = sketch_rnn.reconstruction(predicted, rows, floor=FLOOR if options.density_floor else None)
        return predicted, objective(found, divergence, weight, options)

    return judged


def stroke_loss(predicted: Mixture, drawings: Drawings, key: jax.Array, scale: float, side: int) -> jax.Array:
    """How unlike the ink of a stroke is to what the decoder expects it to be, `[]`: mean cross-entropy of pixels.

    One stroke of each drawing, at random. Each of its points is where the mean offset leads from the true point before.

    Args:
        predicted: of each row.
        drawings: framed.
        key: typed PRNG key.
        scale: factor on predicted offsets.
        side: of the images.
    """
    count = next_stroke_data.stroke_count(drawings)
    number = jnp.floor(jax.random.uniform(key, count.shape) * count).astype(jnp.int32)
    inside = strokes.real_rows(drawings) & (next_stroke_data.stroke_numbers(drawings) == number[:, None])
    first, length = jnp.argmax(inside, axis=1), jnp.sum(inside, axis=1, dtype=jnp.int32)
    rows = jnp.minimum(first[:, None] + jnp.arange(inside.shape[1]), inside.shape[1] - 1)[..., None]
    places = raster.framed_places(drawings)
    before = jnp.pad(places[:, :-1], ((0, 0), (1, 0), (0, 0)), constant_values=raster.BOX / 2)
    mean = jnp.sum(jax.nn.softmax(predicted.weight)[..., None] * predicted.mean, axis=-2)
    # The stroke alone comes first, so that the rasteriser passes over its points and no others.
    alone = Drawings(jnp.take_along_axis(drawings.rows, rows, axis=1), length)
    expected, true = (jnp.take_along_axis(x, rows, axis=1) for x in (before + scale * mean, places))
    target = raster.exact(alone, next_stroke_data.view(side), places=true)
    ink = jnp.clip(raster.soft(alone, next_stroke_data.view(side), places=expected), CERTAIN, 1.0 - CERTAIN)
    return -jnp.mean(target * jnp.log(ink) + (1.0 - target) * jnp.log1p(-ink))

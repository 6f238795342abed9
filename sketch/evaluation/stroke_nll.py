"""How unlikely each stroke of a drawing is, under a predictor that learned from people."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import numpy as np

from sketch import raster
from sketch.data import next_stroke_data
from sketch.data.strokes import Drawings, to_polylines
from sketch.models.predictor import Predictor, PredictorOptions, PredictorSize, TrainedPredictor, moment_loss
from sketch.render import contact_sheet

OPTIONS = PredictorOptions(free_bits=0.0)
"""Weights of the parts of the loss; here all of the divergence counts."""


def stroke_losses(predictor: TrainedPredictor, drawings: Sequence[np.ndarray], *, batch: int = 128) -> list[np.ndarray]:
    """The predictor's loss of each stroke, given the canvas before it: large where people would not draw it.

    It is the loss of training at the mean of the posterior, without any chance in it: up to constants and the weights
    of its parts a bound on the negative log-likelihood. `partial(stroke_losses, predictor)` is the `stroke_nll` of
    `sketch.evaluation.compare.evaluate`; the predictor should be one of its own, that had no part in drawing.

    Args:
        predictor: who is asked.
        drawings: stroke-3 each, in any unit.
        batch: strokes of one call of the compiled program.

    Returns:
        `[strokes]` of each drawing, of its first `predictor.size.strokes` ones.
    """
    counts = [min(len(to_polylines(drawing)), predictor.size.strokes) for drawing in drawings]
    whose = np.repeat(np.arange(len(counts)), counts)
    if not len(whose):
        return [np.zeros(0) for _ in counts]
    which = np.concatenate([np.arange(count) for count in counts])
    rows, lengths = contact_sheet.padded(drawings)
    found = []
    for start in range(0, len(whose), batch):
        # The last call is filled up with what came last, so that it needs no program of its own.
        part = np.minimum(np.arange(start, start + batch), len(whose) - 1)
        held = Drawings(np.asarray(rows)[whose[part]], np.asarray(lengths)[whose[part]])
        found.append(np.asarray(_losses(predictor.size, predictor.params, held, which[part])))
    return np.split(np.concatenate(found)[: len(whose)], np.cumsum(counts)[:-1])


@partial(jax.jit, static_argnums=0)
def _losses(size: PredictorSize, params: Any, drawings: Drawings, finished: jax.Array) -> jax.Array:
    moment = next_stroke_data.at(raster.framed(drawings), finished, size.side, size.strokes)
    network = Predictor(size)

    def ask(method: str, *inputs: Any) -> Any:
        return network.apply(params, *inputs, method=method)

    seen = ask("look", moment.canvas, moment.last)
    prior, posterior = ask("prior", seen), ask("posterior", seen, moment.next)
    suggestion = ask("suggest", seen, posterior.mean)

    def one(*parts: Any) -> jax.Array:
        return moment_loss(*jax.tree.map(lambda leaf: leaf[None], parts), OPTIONS).loss  # type: ignore[arg-type]

    return jax.vmap(one)(suggestion, posterior, prior, moment)

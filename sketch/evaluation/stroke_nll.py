"""Loss of each stroke of a drawing under a predictor trained on people's drawings."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import numpy as np

from sketch import contact_sheet, raster
from sketch.data.strokes import Drawings, to_polylines
from sketch.models import next_stroke_data
from sketch.models.predictor import Predictor, PredictorConfig, TrainedPredictor
from sketch.training.predictor_training import PredictorTrainingConfig, next_stroke_loss

OPTIONS = PredictorTrainingConfig(free_bits=0.0)
"""Weights of the parts of the loss; without free bits, the whole divergence counts."""


def stroke_losses(predictor: TrainedPredictor, drawings: Sequence[np.ndarray], *, batch: int = 128) -> list[np.ndarray]:
    """Return the predictor's loss of each stroke given the canvas before it; large for strokes unlike those of people.

    The loss is the training loss at the mean of the posterior, without sampling. Up to constants and the weights of its
    parts it bounds the negative log likelihood. `partial(stroke_losses, predictor)` is the `stroke_nll` of
    `sketch.evaluation.compare.evaluate`; use a predictor that took no part in sampling.

    Args:
        predictor: the predictor.
        drawings: stroke-3 in any unit.
        batch: strokes of one call of the compiled program.

    Returns:
        `[strokes]` of each drawing, for its first `predictor.size.strokes` strokes.
    """
    counts = [min(len(to_polylines(drawing)), predictor.size.strokes) for drawing in drawings]
    owner = np.repeat(np.arange(len(counts)), counts)
    if not len(owner):
        return [np.zeros(0) for _ in counts]
    number = np.concatenate([np.arange(count) for count in counts])
    rows, lengths = contact_sheet.padded(drawings)
    losses = []
    for start in range(0, len(owner), batch):
        # The last call repeats the last stroke, so that it needs no other program.
        part = np.minimum(np.arange(start, start + batch), len(owner) - 1)
        strokes = Drawings(np.asarray(rows)[owner[part]], np.asarray(lengths)[owner[part]])
        losses.append(np.asarray(_losses(predictor.size, predictor.params, strokes, number[part])))
    return np.split(np.concatenate(losses)[: len(owner)], np.cumsum(counts)[:-1])


@partial(jax.jit, static_argnums=0)
def _losses(size: PredictorConfig, params: Any, drawings: Drawings, finished: jax.Array) -> jax.Array:
    example = next_stroke_data.example_at(raster.framed(drawings), finished, size.side, size.strokes)
    network = Predictor(size)

    def apply(method: str, *inputs: Any) -> Any:
        return network.apply(params, *inputs, method=method)

    features = apply("look", example.canvas, example.last)
    prior, posterior = apply("prior", features), apply("posterior", features, example.next)
    suggestion = apply("suggest", features, posterior.mean)

    def one(*parts: Any) -> jax.Array:
        return next_stroke_loss(*jax.tree.map(lambda leaf: leaf[None], parts), OPTIONS).loss  # type: ignore[arg-type]

    return jax.vmap(one)(suggestion, posterior, prior, example)

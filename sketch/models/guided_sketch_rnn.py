"""A Sketch-RNN with an optional predictor, and conversion between its unit and the unit of drawings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from sketch.data import strokes
from sketch.data.extent import Extent
from sketch.models.predictor import TrainedPredictor
from sketch.models.sketch_rnn import SketchRNN
from sketch.raster import BOX


class GuidedSketchRNN(NamedTuple):
    """A decoder and an optional predictor, which guides the decoder, scores candidates, or both.

    Attributes:
        model: the decoder.
        predictor: the predictor, or None.
    """

    model: SketchRNN
    predictor: TrainedPredictor | None = None

    @property
    def guided(self) -> bool:
        """True if the decoder receives the embedding of the predictor."""
        return self.model.config.extra_inputs > 0

    @property
    def framed(self) -> bool:
        """True if drawings start at the centre of the box."""
        return self.guided or self.model.framed

    @property
    def extent(self) -> Extent:
        """Extent of the training drawings."""
        return Extent(*self.model.extent, self.model.from_first_point)

    def to_model(self, drawing: np.ndarray) -> np.ndarray:
        """Convert stroke-3 to the unit of the model."""
        rows = np.array(drawing, np.float32)
        if self.framed:
            rows[:1, :2] -= BOX / 2
        rows[:, :2] /= self.model.scale_factor
        return rows

    def from_model(self, rows: Any) -> list[np.ndarray]:
        """Convert stroke-5 `[B, N, 5]` in the unit of the model to stroke-3 in the unit of its training drawings."""
        drawings = []
        for row in np.asarray(rows):
            drawing = strokes.from_stroke5(row)
            drawing[:, :2] *= self.model.scale_factor
            if self.framed:
                drawing[:1, :2] += BOX / 2
            drawings.append(drawing)
        return drawings


def encode_prefix(model: GuidedSketchRNN, drawings: Sequence[np.ndarray], length: int) -> dict[str, np.ndarray]:
    """Convert unfinished drawings to the inputs of a sampler.

    Args:
        model: the model that completes them.
        drawings: stroke-3 in the unit of the training drawings of the model.
        length: number of rows, at least that of the longest drawing.

    Returns:
        `prefix`, stroke-5 `[B, length, 5]`, and `prefix_lengths` `[B]`.
    """
    rows = np.stack([strokes.to_stroke5(model.to_model(drawing), length) for drawing in drawings])
    return {"prefix": rows, "prefix_lengths": np.array([len(drawing) for drawing in drawings], np.int32)}

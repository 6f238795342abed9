"""Checks of the arrays of drawings that files hold."""

from __future__ import annotations

from typing import Any

import numpy as np

from sketch.data.dataset_config import MAX_POINTS
from sketch.data.strokes import has_line

FARTHEST = 1e6
"""Longest accepted offset; canvases have a few hundred to a few thousand pixels."""


def check_strokes(strokes: Any, max_points: int = MAX_POINTS) -> np.ndarray:
    """Validate stroke-3 and convert it to float32.

    Raises:
        ValueError: if it has another shape, fewer than two points, too many points or no line, or a number is not
            finite or outside of any canvas.
    """
    strokes = np.asarray(strokes)
    if strokes.size == 0:
        raise ValueError("the drawing is empty")
    if strokes.ndim != 2 or strokes.shape[1] != 3:
        raise ValueError(f"rows must be (dx, dy, pen lift), got an array of shape {list(strokes.shape)}")
    if strokes.dtype.kind not in "iuf":
        raise ValueError(f"a drawing must hold numbers, got {strokes.dtype}")
    if len(strokes) < 2:
        raise ValueError("the drawing is a single point")
    if len(strokes) > max_points:
        raise ValueError(f"the drawing must have at most {max_points} points, got {len(strokes)}")
    bad = np.flatnonzero(~np.isfinite(strokes).all(axis=1))
    if len(bad):
        raise ValueError(f"point {bad[0]} must be finite, got {strokes[bad[0]].tolist()}")
    lift = strokes[:, 2]
    bad = np.flatnonzero((lift != 0) & (lift != 1))
    if len(bad):
        raise ValueError(f"the pen lift of point {bad[0]} must be 0 or 1, got {lift[bad[0]]}")
    far = np.flatnonzero(np.abs(strokes[:, :2]).max(axis=1) > FARTHEST)
    if len(far):
        raise ValueError(
            f"the offset of point {far[0]} must be at most {FARTHEST:g}, got {strokes[far[0], :2].tolist()}"
        )
    if not has_line(strokes):
        raise ValueError("the drawing has no line: the pen is lifted after every point")
    return strokes.astype(np.float32)

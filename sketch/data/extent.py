"""Extent of drawings: where they are placed, and how large they are, in the unit of a data set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from sketch.data.simplify import SIDE
from sketch.data.strokes import Polylines

NEGATIVE = -0.02
"""Smallest position of absolute drawings, as a fraction of the side; published boxes start at zero."""

NEAR_ORIGIN = 0.15
"""Median distance of first points from the origin, as a fraction of the side, for drawings that start there."""


class Extent(NamedTuple):
    """Extent of the drawings of a data set.

    Attributes:
        left: smallest x of almost all drawings.
        top: smallest y of almost all drawings.
        side: longest side of almost all drawings.
        from_first_point: True if each drawing starts at the origin, as in Sketch-RNN's own files; `left` and `top` are
            0 then.
    """

    left: float = 0.0
    top: float = 0.0
    side: float = SIDE
    from_first_point: bool = False


def measure(drawings: Sequence[np.ndarray]) -> Extent:
    """Measure the extent of stroke-3 drawings; one in twenty may exceed it."""
    lows, highs, first = [], [], []
    for strokes in drawings:
        places = np.cumsum(np.asarray(strokes, np.float64)[:, :2], axis=0)
        lows.append(places.min(axis=0))
        highs.append(places.max(axis=0))
        first.append(np.hypot(*places[0]))
    low, high = np.array(lows), np.array(highs)
    side = float(np.quantile((high - low).max(axis=1), 0.95))
    if not side > 0.0:
        return Extent()
    left, top = (float(x) for x in np.quantile(low, 0.05, axis=0))
    if min(left, top) < NEGATIVE * side and np.median(first) < NEAR_ORIGIN * side:
        return Extent(0.0, 0.0, side, True)
    return Extent(left, top, side)


def fitted(lines: Sequence[np.ndarray], extent: Extent, side: float = SIDE) -> Polylines:
    """Convert positions in a box from 0 to `side` to the unit of a data set."""
    return [(line - _shift(lines, extent)) * (extent.side / side) + _corner(extent) for line in lines]


def restored(
    lines: Sequence[np.ndarray], prefix: Sequence[np.ndarray], extent: Extent, side: float = SIDE
) -> Polylines:
    """Convert positions in the unit of a data set back to the box.

    Args:
        lines: positions.
        prefix: the strokes that `fitted` converted; without any, drawings that start at the origin are centred.
        extent: extent of the data set.
        side: side of the box.
    """
    factor = side / extent.side
    if extent.from_first_point and not prefix and lines:
        points = np.concatenate(list(lines))
        middle = (points.min(axis=0) + points.max(axis=0)) / 2
        return [(line - middle) * factor + side / 2 for line in lines]
    return [(line - _corner(extent)) * factor + _shift(prefix, extent) for line in lines]


def _corner(extent: Extent) -> np.ndarray:
    return np.array([extent.left, extent.top])


def _shift(lines: Sequence[np.ndarray], extent: Extent) -> np.ndarray:
    """Position in the box of the origin of a drawing that starts there."""
    return np.asarray(lines[0][0], np.float64) if extent.from_first_point and len(lines) else np.zeros(2)

"""The published simplification of Quick, Draw!: from raw pen positions to simplified drawings."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sketch.data.strokes import Polylines

SIDE = 255.0
"""Longest side of a simplified drawing."""

EPSILON = 2.0
"""Largest distance of a dropped point from the simplified line, in units of the simplified drawing."""


def fit_to_box(lines: Sequence[np.ndarray], side: float = SIDE) -> Polylines:
    """Move a drawing to the origin and scale its longest side; a drawing without extent is only moved.

    Args:
        lines: `[n, 2]` positions of each stroke.
        side: length of the longest side after scaling.
    """
    points = np.concatenate([np.asarray(line, np.float64) for line in lines])
    low = points.min(axis=0)
    extent = float((points.max(axis=0) - low).max())
    factor = side / extent if extent > 0.0 else 1.0
    return [(np.asarray(line, np.float64) - low) * factor for line in lines]


def resample(line: np.ndarray, spacing: float = 1.0) -> np.ndarray:
    """Resample a polyline `[n, 2]` at equal distances, and append its last point."""
    steps = np.hypot(*np.diff(line, axis=0).T)
    travelled = np.concatenate([[0.0], np.cumsum(steps)])
    positions = np.arange(0.0, travelled[-1] + 1e-9, spacing)
    if travelled[-1] - positions[-1] > 1e-9:
        positions = np.append(positions, travelled[-1])
    return np.stack([np.interp(positions, travelled, line[:, axis]) for axis in (0, 1)], axis=1)


def ramer_douglas_peucker(line: np.ndarray, epsilon: float = EPSILON) -> np.ndarray:
    """Drop points of `[n, 2]` closer than `epsilon` to the line through the retained points around them.

    Distances are to the infinite line, as in the published data, or to the point itself if both ends coincide.
    Source: Douglas and Peucker (1973).
    """
    kept = np.zeros(len(line), bool)
    kept[[0, -1]] = True
    open_parts = [(0, len(line) - 1)]
    while open_parts:
        first, last = open_parts.pop()
        if last - first < 2:
            continue
        away, along = line[first + 1 : last] - line[first], line[last] - line[first]
        length = np.hypot(*along)
        distance = np.abs(away[:, 0] * along[1] - away[:, 1] * along[0]) / length if length else np.hypot(*away.T)
        furthest = int(distance.argmax())
        if distance[furthest] > epsilon:
            middle = first + 1 + furthest
            kept[middle] = True
            open_parts += [(first, middle), (middle, last)]
    return line[kept]


def simplify(lines: Sequence[np.ndarray]) -> Polylines:
    """Apply the published chain: fit into the box, resample at one unit, drop points on lines, round.

    Args:
        lines: `[n, 2]` positions of each stroke, in any unit.
    """
    fitted = fit_to_box(lines)
    return [np.round(ramer_douglas_peucker(resample(line)) if len(line) > 1 else line) for line in fitted]

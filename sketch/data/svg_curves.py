"""Curves of SVG as short lines: Bezier curves and elliptical arcs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import svgelements

FLATNESS = 0.002
"""Largest distance of a curve from its lines, as a fraction of the length of its control polygon."""

FAR = 1e9
"""Largest accepted position, for the sake of single precision."""


def flattened(points: np.ndarray, flatness: float = FLATNESS) -> np.ndarray:
    """Return points `[n, 2]` of a Bezier curve behind its first one, so that lines between them approximate it.

    Args:
        points: `[3 or 4, 2]` control points, quadratic or cubic.
        flatness: see `FLATNESS`.
    """
    degree = len(points) - 1
    length = np.hypot(*np.diff(points, axis=0).T).sum()
    # The distance of a line over a parameter range h is at most h^2 / 8 times the second derivative.
    bend = degree * (degree - 1) * np.hypot(*np.diff(points, n=2, axis=0).T).max()
    count = max(math.ceil(math.sqrt(bend / (8 * flatness * length))), 1) if length > 0 else 1
    t = (np.arange(count) + 1.0)[:, None] / count
    binomial = [math.comb(degree, i) * t**i * (1 - t) ** (degree - i) for i in range(degree + 1)]
    return sum(b * point for b, point in zip(binomial, points, strict=True))  # type: ignore[return-value]


def flattened_arc(
    start: np.ndarray, end: np.ndarray, numbers: Sequence[float], flatness: float = FLATNESS
) -> np.ndarray:
    """Return points `[n, 2]` of an elliptical arc behind its first one.

    Args:
        start: `[2]`.
        end: `[2]`.
        numbers: radii, rotation in degrees, and the flags for the large arc and the positive direction.
        flatness: see `FLATNESS`.
    """
    extent = float(np.hypot(*(end - start)))
    if extent == 0.0:
        return end[None]
    rx, ry, rotation, large, positive = numbers[:5]
    # A radius that is tiny compared with the chord is enlarged anyway; the same shape avoids a division by zero.
    radii = np.abs([rx, ry])
    if radii.min() <= 1e-9 * extent or radii.max() > FAR:
        return end[None]
    arc: Any = svgelements.Arc(tuple(start), *radii, rotation, large, positive, tuple(end))
    # The distance of a chord over an angle h is at most h^2 / 8 times the radius, and the arc h times the radius.
    count = max(math.ceil(math.sqrt(abs(float(arc.sweep)) / (8 * flatness))), 1)
    points = np.asarray(arc.npoint((np.arange(count) + 1.0) / count), np.float64)
    points[-1] = end
    return points

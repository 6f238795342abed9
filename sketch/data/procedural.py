"""Procedural drawings: cats and other simple things, with the variation of a careless hand.

Drawing i of a seed does not depend on the number of drawings. All drawings are simplified as published, so they have
the form of Quick, Draw!'s: 0 to 255, rounded, y downwards.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable

import numpy as np

from jsafe.suggestions import did_you_mean
from sketch.data.simplify import simplify
from sketch.data.strokes import Polylines, from_polylines

Random = np.random.Generator


def _circle(
    rng: Random, x: float, y: float, width: float, height: float, part: tuple[float, float] = (0.0, 1.0)
) -> np.ndarray:
    """An ellipse or a part of one; whole ellipses start anywhere. Angles are in turns, clockwise from the right."""
    first, last = part
    whole = last - first >= 1.0
    if whole:
        first = rng.uniform(0, 1)
        last = first + rng.uniform(0.95, 1.05)
    angle = 2 * np.pi * np.linspace(first, last, 24)
    return np.stack([x + width * np.cos(angle), y + height * np.sin(angle)], axis=1)


def _line(*places: tuple[float, float]) -> np.ndarray:
    """A polyline with extra points between its corners, for the noise of the hand."""
    corners = np.asarray(places, float)
    t = np.linspace(0, len(corners) - 1, 6 * (len(corners) - 1) + 1)
    return np.stack([np.interp(t, np.arange(len(corners)), corners[:, axis]) for axis in (0, 1)], axis=1)


def _cat(rng: Random) -> Polylines:
    wide, high = rng.uniform(0.85, 1.2), rng.uniform(0.75, 1.0)
    lines = [_circle(rng, 0, 0, wide, high)]
    ear = rng.uniform(0.55, 0.95)
    for side in rng.permutation([-1, 1]):
        inner, outer = side * 0.2 * wide, side * 0.85 * wide
        foot = -np.sqrt(1 - 0.2**2) * high, -np.sqrt(1 - 0.85**2) * high
        lines.append(_line((inner, foot[0]), (0.65 * side * wide, -high - ear * 0.7), (outer, foot[1])))
    spacing, size = rng.uniform(0.3, 0.45), rng.uniform(0.07, 0.16)
    lines += [_circle(rng, side * spacing, -0.2, size, size * rng.uniform(0.8, 1.6)) for side in (-1, 1)]
    nose = rng.uniform(0.08, 0.14)
    lines.append(_line((-nose, 0.1), (nose, 0.1), (0, 0.1 + nose), (-nose, 0.1)))
    if rng.uniform() < 0.8:
        smile = rng.uniform(0.14, 0.25)
        lines += [_circle(rng, side * smile, 0.28, smile, 0.16, part=(0.0, 0.5)) for side in (1, -1)]
    for side in rng.permutation([-1, 1]):
        for slope in np.linspace(-0.2, 0.2, rng.integers(2, 4)):
            reach = rng.uniform(0.7, 1.1)
            lines.append(_line((side * 0.4, 0.2 + slope / 2), (side * (0.4 + reach), 0.2 + 2 * slope)))
    return lines


def _fish(rng: Random) -> Polylines:
    high, facing = rng.uniform(0.4, 0.65), rng.choice([-1, 1])
    lines = [_circle(rng, 0, 0, 1.0, high)]
    tail = rng.uniform(0.3, 0.5)
    lines.append(_line((facing * 0.97, 0), (facing * 1.5, -tail), (facing * 1.45, tail), (facing * 0.97, 0)))
    lines.append(_circle(rng, -facing * 0.6, -0.12, 0.08, 0.08))
    if rng.uniform() < 0.6:
        lines.append(_circle(rng, -facing * 0.55, 0, 0.25, 0.9 * high, part=(-0.2, 0.2) if facing > 0 else (0.3, 0.7)))
    return lines


def _house(rng: Random) -> Polylines:
    wide, high, roof = rng.uniform(0.8, 1.2), rng.uniform(0.7, 1.1), rng.uniform(0.5, 0.9)
    lines = [
        _line((-wide, 0), (-wide, high), (wide, high), (wide, 0), (-wide, 0)),
        _line((-wide * 1.1, 0), (0, -roof), (wide * 1.1, 0)),
    ]
    door, tall = rng.uniform(0.15, 0.25), rng.uniform(0.4, 0.6) * high
    lines.append(_line((-door, high), (-door, high - tall), (door, high - tall), (door, high)))
    if rng.uniform() < 0.7:
        x, y, s = 0.6 * wide, 0.35 * high, rng.uniform(0.12, 0.2)
        lines.append(_line((x - s, y - s), (x + s, y - s), (x + s, y + s), (x - s, y + s), (x - s, y - s)))
    return lines


def _flower(rng: Random) -> Polylines:
    heart, count = rng.uniform(0.2, 0.3), rng.integers(5, 8)
    lines = [_circle(rng, 0, 0, heart, heart)]
    petal = rng.uniform(0.2, 0.3)
    for turn in np.arange(count) / count * 2 * np.pi:
        reach = heart + petal
        lines.append(_circle(rng, reach * np.cos(turn), reach * np.sin(turn), petal, petal))
    foot = rng.uniform(1.8, 2.4)
    lines.append(_line((0, heart + 2 * petal), (rng.uniform(-0.15, 0.15), foot)))
    if rng.uniform() < 0.6:
        lines.append(_circle(rng, 0.25, 0.75 * foot, 0.25, 0.12))
    return lines


def _face(rng: Random) -> Polylines:
    lines = [_circle(rng, 0, 0, rng.uniform(0.8, 1.0), 1.0)]
    spacing, size = rng.uniform(0.3, 0.4), rng.uniform(0.06, 0.13)
    lines += [_circle(rng, side * spacing, -0.25, size, size) for side in (-1, 1)]
    if rng.uniform() < 0.6:
        lines.append(_line((0, -0.1), (-0.1, 0.2), (0.08, 0.2)))
    lines.append(_circle(rng, 0, 0.25, rng.uniform(0.35, 0.55), rng.uniform(0.2, 0.35), part=(0.02, 0.48)))
    return lines


def _sun(rng: Random) -> Polylines:
    count, begin = rng.integers(7, 13), rng.uniform(0, 1)
    lines = [_circle(rng, 0, 0, 0.6, 0.6)]
    for turn in (begin + np.arange(count)) / count * 2 * np.pi:
        near, far = rng.uniform(0.68, 0.78), rng.uniform(0.95, 1.25)
        direction = np.array([np.cos(turn), np.sin(turn)])
        lines.append(_line(tuple(near * direction), tuple(far * direction)))
    return lines


CLASSES: dict[str, Callable[[Random], Polylines]] = {
    "cat": _cat, "face": _face, "fish": _fish, "flower": _flower, "house": _house, "sun": _sun,
}  # fmt: skip
"""Classes of procedural drawings."""


def _by_hand(rng: Random, lines: Polylines) -> Polylines:
    """Lean and stretch the whole drawing, then shift and bend each line."""
    lean, squeeze = rng.normal(0, 0.08), rng.normal(0, 0.08, 2)
    shape = np.array([[1 + squeeze[0], lean], [-lean, 1 + squeeze[1]]])
    drawn = []
    for line in lines:
        steps = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(line, axis=0).T))])
        wave = sum(
            rng.normal(0, 0.012, 2) * np.sin(rng.uniform(2, 9) * steps[:, None] + rng.uniform(0, 6.3, 2)) for _ in "ab"
        )
        drawn.append(line @ shape.T + rng.normal(0, 0.025, 2) + wave)
    return drawn


def drawing(name: str, index: int, seed: int = 0) -> np.ndarray:
    """Return one drawing as stroke-3.

    Args:
        name: one of `CLASSES`.
        index: number of the drawing.
        seed: seed of all drawings.

    Raises:
        ValueError: if the class is unknown; the message has the nearest one.
    """
    if name not in CLASSES:
        raise ValueError(
            f"there are no drawings of {name!r}{did_you_mean(name, CLASSES)} (classes: {', '.join(CLASSES)})"
        )
    rng = np.random.default_rng([seed, index, zlib.crc32(name.encode())])
    return from_polylines(simplify(_by_hand(rng, CLASSES[name](rng))))


def drawings(name: str, count: int, seed: int = 0, first: int = 0) -> list[np.ndarray]:
    """Return the drawings `first` to `first + count` of a class and a seed."""
    return [drawing(name, index, seed) for index in range(first, first + count)]

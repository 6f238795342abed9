"""Drawings as numbers: polylines, stroke-3, stroke-5, and one padded array for many drawings (Ha and Eck 2017).

stroke-3 has rows (dx, dy, q); q is 1 where the pen lifts after the point. Row 0 leads from the origin of the canvas to
the first point and draws nothing. stroke-5 has rows (dx, dy, p1, p2, p3), one-hot in p: the pen stays down, lifts after
this point, or the drawing is over.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Num

END = (0.0, 0.0, 0.0, 0.0, 1.0)
"""Row of stroke-5 behind the end of a drawing."""

START = (0.0, 0.0, 1.0, 0.0, 0.0)
"""Row of stroke-5 that a decoder is fed with first."""

LIMIT = 1000.0
"""Bound on the absolute value of an offset, in units of the canvas, as published."""

Polylines = list[np.ndarray]
"""Strokes of one drawing, `[n, 2]` positions each."""


class Drawings(NamedTuple):
    """Many drawings of unlike length; also a batch of them inside a program.

    Attributes:
        rows: `[B, N, 3]` stroke-3, zeros behind the end of a drawing.
        lengths: `[B]` int32, rows of each drawing.
    """

    rows: Float[Array | np.ndarray, "batch time 3"]
    lengths: Int[Array | np.ndarray, " batch"]


def to_polylines(strokes: Num[np.ndarray, "n 3"]) -> Polylines:
    """Positions of the pen, stroke by stroke, from stroke-3."""
    strokes = np.asarray(strokes)
    places = np.cumsum(strokes[:, :2], axis=0)
    ends = np.flatnonzero(strokes[:, 2] > 0) + 1
    return [part for part in np.split(places, ends) if len(part)]


def has_line(strokes: np.ndarray) -> bool:
    """Whether stroke-3 draws anything: there is a point behind which the pen stays down, and another one after it."""
    return len(strokes) > 1 and bool((np.asarray(strokes)[:-1, 2] == 0).any())


def from_polylines(lines: Sequence[np.ndarray]) -> Float[np.ndarray, "n 3"]:
    """stroke-3 in float32 from the positions of the pen; strokes without a point are left out.

    Raises:
        ValueError: a stroke is not `[n, 2]`, or none has a point.
    """
    lines = [np.asarray(line, np.float64) for line in lines]
    for number, line in enumerate(lines):
        if line.size and (line.ndim != 2 or line.shape[1] != 2):
            raise ValueError(f"stroke {number} must be [n, 2], got {list(line.shape)}")
    lines = [line for line in lines if len(line)]
    if not lines:
        raise ValueError("the drawing has no points")
    offsets = np.diff(np.concatenate([np.zeros((1, 2)), *lines]), axis=0)
    lifts = np.zeros((len(offsets), 1))
    lifts[np.cumsum([len(line) for line in lines]) - 1] = 1.0
    return np.concatenate([offsets, lifts], axis=1).astype(np.float32)


def to_stroke5(strokes: Num[np.ndarray, "n 3"], length: int) -> Float[np.ndarray, "length 5"]:
    """stroke-5 with as many rows as wanted, without the start row.

    Raises:
        ValueError: the drawing is longer.
    """
    if len(strokes) > length:
        raise ValueError(f"a drawing of {len(strokes)} points does not fit into {length} rows")
    rows = np.tile(np.asarray(END, np.float32), (length, 1))
    rows[: len(strokes)] = 0.0
    rows[: len(strokes), :2] = strokes[:, :2]
    rows[: len(strokes), 3] = strokes[:, 2]
    rows[: len(strokes), 2] = 1.0 - rows[: len(strokes), 3]
    return rows


def from_stroke5(rows: Num[np.ndarray, "n 5"], *, quirk: bool = False) -> Float[np.ndarray, "m 3"]:
    """stroke-3 up to the first row that ends the drawing.

    Args:
        rows: without the start row.
        quirk: keep all rows where the first one ends the drawing already, as the published code does.
    """
    rows = np.asarray(rows, np.float32)
    over = np.flatnonzero(rows[:, 4] > 0)
    end = over[0] if len(over) and not (quirk and over[0] == 0) else len(rows)
    return np.concatenate([rows[:end, :2], rows[:end, 3:4]], axis=1)


def pad(drawings: Sequence[np.ndarray], length: int | None = None) -> Drawings:
    """Many drawings as one array of the host, offsets clipped to `LIMIT`.

    Args:
        drawings: stroke-3 each.
        length: rows of each; the longest drawing's by default.

    Raises:
        ValueError: there are no drawings, or one is longer.
    """
    if not drawings:
        raise ValueError("there are no drawings")
    lengths = np.array([len(drawing) for drawing in drawings], np.int32)
    length = int(lengths.max()) if length is None else length
    if lengths.max() > length:
        raise ValueError(f"drawing {lengths.argmax()} has {lengths.max()} points and only {length} fit")
    rows = np.zeros((len(drawings), length, 3), np.float32)
    for row, drawing in zip(rows, drawings, strict=True):
        row[: len(drawing)] = np.clip(drawing, -LIMIT, LIMIT)
    return Drawings(rows, lengths)


def unpad(drawings: Drawings) -> list[np.ndarray]:
    """The drawings of a padded array, stroke-3 each."""
    rows, lengths = np.asarray(drawings.rows), np.asarray(drawings.lengths)
    return [row[:length] for row, length in zip(rows, lengths, strict=True)]


def real_rows(drawings: Drawings) -> jax.Array:
    """`[B, N]` bool, False behind the end of a drawing."""
    return jnp.arange(drawings.rows.shape[1]) < drawings.lengths[:, None]


def batch_to_stroke5(drawings: Drawings) -> Float[Array, "batch time 5"]:
    """The same drawings in stroke-5, without the start row, inside a program."""
    real = real_rows(drawings)[..., None]
    lift = drawings.rows[..., 2:]
    rows = jnp.concatenate([drawings.rows[..., :2], 1.0 - lift, lift, jnp.zeros_like(lift)], axis=-1)
    return jnp.where(real, rows, jnp.asarray(END, rows.dtype))


def batch_from_stroke5(rows: Float[Array, "batch time 5"]) -> Drawings:
    """Drawings from stroke-5 without the start row, each cut at the first row that ends it, inside a program."""
    lengths = jnp.sum(jnp.cumsum(rows[..., 4] > 0, axis=1) == 0, axis=1, dtype=jnp.int32)
    kept = (jnp.arange(rows.shape[1]) < lengths[:, None])[..., None]
    return Drawings(jnp.where(kept, jnp.stack([rows[..., 0], rows[..., 1], rows[..., 3]], -1), 0.0), lengths)


def scale_factor(drawings: Drawings) -> float:
    """Standard deviation of all dx and dy together, the mean not taken away; offsets are divided by it.

    Raises:
        ValueError: the offsets do not vary.
    """
    offsets = np.concatenate([drawing[:, :2].ravel() for drawing in unpad(drawings)]).astype(np.float64)
    scale = float(np.std(offsets))
    if not scale > 0.0:
        raise ValueError("the offsets of the drawings do not vary, so that there is nothing to scale by")
    return scale


def scaled(drawings: Drawings, factor: float | jax.Array) -> Drawings:
    """Drawings with offsets multiplied by a factor."""
    return drawings._replace(rows=drawings.rows * jnp.asarray([factor, factor, 1.0], jnp.float32))

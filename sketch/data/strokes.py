"""Vector drawings as arrays: polylines, stroke-3, stroke-5 and padded batches (Ha and Eck 2017).

stroke-3 has rows (dx, dy, q); q is 1 if the pen lifts after the point. Row 0 leads from the origin of the canvas to
the first point and draws nothing. stroke-5 has rows (dx, dy, p1, p2, p3), one-hot in p: the pen stays down, lifts after
this point, or the drawing has ended.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Num

END = (0.0, 0.0, 0.0, 0.0, 1.0)
"""stroke-5 row that pads a drawing behind its end."""

START = (0.0, 0.0, 1.0, 0.0, 0.0)
"""stroke-5 row that is the first input of a decoder."""

LIMIT = 1000.0
"""Published bound on the absolute value of an offset, in units of the canvas."""

Polylines = list[np.ndarray]
"""Strokes of one drawing, `[n, 2]` positions each."""


class Drawings(NamedTuple):
    """Padded batch of drawings of different lengths.

    Attributes:
        rows: `[B, N, 3]` stroke-3, zeros behind the end of a drawing.
        lengths: `[B]` int32, rows of each drawing.
    """

    rows: Float[Array | np.ndarray, "batch time 3"]
    lengths: Int[Array | np.ndarray, " batch"]


def to_polylines(strokes: Num[np.ndarray, "n 3"]) -> Polylines:
    """Convert stroke-3 to positions of the pen, one array for each stroke."""
    strokes = np.asarray(strokes)
    places = np.cumsum(strokes[:, :2], axis=0)
    ends = np.flatnonzero(strokes[:, 2] > 0) + 1
    return [part for part in np.split(places, ends) if len(part)]


def has_line(strokes: np.ndarray) -> bool:
    """True if stroke-3 has at least one line: a point after which the pen stays down, and another point."""
    return len(strokes) > 1 and bool((np.asarray(strokes)[:-1, 2] == 0).any())


def from_polylines(lines: Sequence[np.ndarray]) -> Float[np.ndarray, "n 3"]:
    """Return float32 stroke-3 from the positions of the pen; strokes without points are dropped.

    Raises:
        ValueError: if a stroke is not `[n, 2]`, or all strokes are empty.
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
    """Convert stroke-3 to stroke-5 of a given length, without the start row.

    Raises:
        ValueError: if the drawing is longer.
    """
    if len(strokes) > length:
        raise ValueError(f"a drawing of {len(strokes)} points does not fit into {length} rows")
    rows = np.tile(np.asarray(END, np.float32), (length, 1))
    rows[: len(strokes)] = 0.0
    rows[: len(strokes), :2] = strokes[:, :2]
    rows[: len(strokes), 3] = strokes[:, 2]
    rows[: len(strokes), 2] = 1.0 - rows[: len(strokes), 3]
    return rows


def from_stroke5(rows: Num[np.ndarray, "n 5"], *, published_off_by_one: bool = False) -> Float[np.ndarray, "m 3"]:
    """Convert stroke-5 to stroke-3, up to the first row that ends the drawing.

    Args:
        rows: stroke-5 without the start row.
        published_off_by_one: keep all rows if the first row already ends the drawing, as the published code does.
    """
    rows = np.asarray(rows, np.float32)
    ends = np.flatnonzero(rows[:, 4] > 0)
    end = ends[0] if len(ends) and not (published_off_by_one and ends[0] == 0) else len(rows)
    return np.concatenate([rows[:end, :2], rows[:end, 3:4]], axis=1)


def pad(drawings: Sequence[np.ndarray], length: int | None = None) -> Drawings:
    """Stack stroke-3 drawings into one padded host array, with offsets clipped to `LIMIT`.

    Args:
        drawings: stroke-3 arrays.
        length: rows of each padded drawing (default: length of the longest).

    Raises:
        ValueError: if there are no drawings, or one is longer than `length`.
    """
    if not drawings:
        raise ValueError("a batch needs at least one drawing, got none")
    lengths = np.array([len(drawing) for drawing in drawings], np.int32)
    length = int(lengths.max()) if length is None else length
    if lengths.max() > length:
        raise ValueError(f"drawing {lengths.argmax()} has {lengths.max()} points, at most {length} fit")
    rows = np.zeros((len(drawings), length, 3), np.float32)
    for row, drawing in zip(rows, drawings, strict=True):
        row[: len(drawing)] = np.clip(drawing, -LIMIT, LIMIT)
    return Drawings(rows, lengths)


def unpad(drawings: Drawings) -> list[np.ndarray]:
    """Split a padded batch into stroke-3 arrays."""
    rows, lengths = np.asarray(drawings.rows), np.asarray(drawings.lengths)
    return [row[:length] for row, length in zip(rows, lengths, strict=True)]


def real_rows(drawings: Drawings) -> jax.Array:
    """`[B, N]` mask that is False behind the end of a drawing."""
    return jnp.arange(drawings.rows.shape[1]) < drawings.lengths[:, None]


def stroke_numbers(drawings: Drawings) -> Int[Array, "batch time"]:
    """Number of strokes finished before each row."""
    lifted = jnp.asarray(drawings.rows)[..., 2] > 0
    return jnp.pad(jnp.cumsum(lifted, axis=1, dtype=jnp.int32)[:, :-1], ((0, 0), (1, 0)))


def stroke_count(drawings: Drawings) -> Int[Array, " batch"]:
    """Number of strokes of each drawing; the last one counts even if the pen is not lifted after it."""
    numbers = jnp.where(real_rows(drawings), stroke_numbers(drawings), -1)
    return jnp.max(numbers, axis=1) + 1


def batch_to_stroke5(drawings: Drawings) -> Float[Array, "batch time 5"]:
    """Convert a batch to stroke-5 without the start row (traceable)."""
    real = real_rows(drawings)[..., None]
    lift = drawings.rows[..., 2:]
    rows = jnp.concatenate([drawings.rows[..., :2], 1.0 - lift, lift, jnp.zeros_like(lift)], axis=-1)
    return jnp.where(real, rows, jnp.asarray(END, rows.dtype))


def batch_from_stroke5(rows: Float[Array, "batch time 5"]) -> Drawings:
    """Convert stroke-5 without the start row to a batch, each drawing ending at its first end row (traceable)."""
    lengths = jnp.sum(jnp.cumsum(rows[..., 4] > 0, axis=1) == 0, axis=1, dtype=jnp.int32)
    kept = (jnp.arange(rows.shape[1]) < lengths[:, None])[..., None]
    return Drawings(jnp.where(kept, jnp.stack([rows[..., 0], rows[..., 1], rows[..., 3]], -1), 0.0), lengths)


def scale_factor(drawings: Drawings) -> float:
    """Standard deviation of all offsets dx and dy, pooled; models see offsets divided by it.

    Raises:
        ValueError: if all offsets are equal.
    """
    offsets = np.concatenate([drawing[:, :2].ravel() for drawing in unpad(drawings)]).astype(np.float64)
    scale = float(np.std(offsets))
    if not scale > 0.0:
        raise ValueError("the drawings need offsets that vary to define a scale factor, got constant offsets")
    return scale


def scaled(drawings: Drawings, factor: float | jax.Array) -> Drawings:
    """Multiply the offsets of a batch by a factor."""
    return drawings._replace(rows=drawings.rows * jnp.asarray([factor, factor, 1.0], jnp.float32))

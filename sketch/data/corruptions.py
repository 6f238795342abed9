"""Random corruptions that make drawings unrecognisable, used as negatives of a discriminator (traceable).

Each corruption maps a key and a stroke-3 batch to a batch of the same shape and unit. Lengths are fractions of the
drawing size, the longer side of its bounding box.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from sketch.data.strokes import Drawings, real_rows, stroke_count, stroke_numbers

Corruption = Callable[[jax.Array, Drawings], Drawings]


def shift_strokes(key: jax.Array, drawings: Drawings, least: float = 0.15, most: float = 0.5) -> Drawings:
    """Move half of the strokes, each in a random direction.

    A drawing of one stroke does not change, because moving the whole drawing changes nothing.

    Args:
        key: typed PRNG key.
        drawings: the batch.
        least: smallest displacement.
        most: largest displacement.
    """
    which, direction, turn = jax.random.split(key, 3)
    count = stroke_count(drawings)
    moved = _choose_strokes(which, drawings, count // 2)
    shape = drawings.rows.shape[:2]  # there are never more strokes than rows
    length = jax.random.uniform(direction, shape, minval=least, maxval=most) * _box(drawings)[1]
    angle = jax.random.uniform(turn, shape, maxval=2.0 * jnp.pi)
    step = length[..., None] * jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=-1)
    of_row = jnp.take_along_axis(step, stroke_numbers(drawings)[..., None], axis=1)
    return _move(drawings, _positions(drawings) + jnp.where(moved[..., None], of_row, 0.0))


def swap_strokes(key: jax.Array, drawings: Drawings) -> Drawings:
    """Replace half of the strokes by strokes of another drawing of the batch, scaled to the same box.

    Rows that exceed the length of the batch are dropped.

    Raises:
        ValueError: if the batch has one drawing.
    """
    batch, time = drawings.rows.shape[:2]
    if batch < 2:
        raise ValueError("swapping strokes needs at least two drawings in a batch, got one")
    drawings = _end(jax.tree.map(jnp.asarray, drawings))  # otherwise the last stroke would join the first swapped one
    donor_key, own, others = jax.random.split(key, 3)
    donor = jnp.roll(jnp.arange(batch), jax.random.randint(donor_key, (), 1, batch))
    other = jax.tree.map(lambda leaf: leaf[donor], drawings)
    retained = ~_choose_strokes(own, drawings, stroke_count(drawings) // 2) & real_rows(drawings)
    inserted = _choose_strokes(others, other, jnp.maximum(stroke_count(other) // 2, 1)) & real_rows(other)
    (centre, size), (other_centre, other_size) = _box(drawings), _box(other)
    ratio = (size / jnp.where(other_size > 0, other_size, jnp.inf))[..., None]
    fitted = (_positions(other) - other_centre) * ratio + centre
    together = Drawings(jnp.concatenate([drawings.rows, other.rows], axis=1), drawings.lengths)
    places = jnp.concatenate([_positions(drawings), fitted], axis=1)
    mixed = _select(together, places, jnp.concatenate([retained, inserted], axis=1))
    return _end(Drawings(mixed.rows[:, :time], jnp.minimum(mixed.lengths, time)))


def remove_strokes(key: jax.Array, drawings: Drawings, share: float = 0.3) -> Drawings:
    """Remove a fraction of the strokes, at least one; a drawing of one stroke does not change.

    Args:
        key: typed PRNG key.
        drawings: the batch.
        share: fraction of the strokes, rounded to the nearest count.
    """
    count = stroke_count(drawings)
    removed = jnp.clip(jnp.round(share * count).astype(jnp.int32), 1, jnp.maximum(count - 1, 0))
    return _select(drawings, _positions(drawings), ~_choose_strokes(key, drawings, removed) & real_rows(drawings))


def jitter(key: jax.Array, drawings: Drawings, least: float = 0.05, most: float = 0.12) -> Drawings:
    """Add normal noise to every point, with a random standard deviation for each drawing.

    Args:
        key: typed PRNG key.
        drawings: the batch.
        least: smallest standard deviation.
        most: largest standard deviation.
    """
    first, second = jax.random.split(key)
    deviation = jax.random.uniform(first, (len(drawings.rows), 1, 1), minval=least, maxval=most)
    noise = deviation * _box(drawings)[1][..., None] * jax.random.normal(second, (*drawings.rows.shape[:2], 2))
    return _move(drawings, _positions(drawings) + noise)


def truncate(key: jax.Array, drawings: Drawings, least: float = 0.2, most: float = 0.6) -> Drawings:
    """Keep a random fraction of the rows from the start, at least two rows.

    Args:
        key: typed PRNG key.
        drawings: the batch.
        least: smallest fraction.
        most: largest fraction.
    """
    share = jax.random.uniform(key, (len(drawings.rows),), minval=least, maxval=most)
    lengths = jnp.asarray(drawings.lengths)
    kept = jnp.minimum(jnp.maximum(jnp.floor(share * lengths).astype(jnp.int32), 2), lengths)
    return _end(Drawings(jnp.asarray(drawings.rows), kept))


KINDS: dict[str, Corruption] = {
    "shift": shift_strokes, "swap": swap_strokes, "remove": remove_strokes, "jitter": jitter, "truncate": truncate,
}  # fmt: skip
"""Corruptions by name."""

_NEEDS_STROKES = ("shift", "remove")
"""Corruptions that do not change a drawing of one stroke."""


def corrupt(key: jax.Array, drawings: Drawings) -> Drawings:
    """Apply one corruption, chosen uniformly, to each drawing.

    A drawing of one stroke is jittered instead of a corruption that would not change it.

    Raises:
        ValueError: if the batch has one drawing.
    """
    choice, *keys = jax.random.split(key, 1 + len(KINDS))
    kind = jax.random.randint(choice, (len(drawings.rows),), 0, len(KINDS))
    names = list(KINDS)
    idle = jnp.asarray([name in _NEEDS_STROKES for name in names])[kind] & (stroke_count(drawings) < 2)
    kind = jnp.where(idle, names.index("jitter"), kind)
    each = [corruption(k, drawings) for corruption, k in zip(KINDS.values(), keys, strict=True)]
    picked = jnp.arange(len(kind))
    return jax.tree.map(lambda *leaves: jnp.stack(leaves)[kind, picked], *each)


def _positions(drawings: Drawings) -> Float[Array, "batch time 2"]:
    return jnp.cumsum(jnp.asarray(drawings.rows)[..., :2], axis=1)


def _box(drawings: Drawings) -> tuple[Float[Array, "batch 1 2"], Float[Array, "batch 1"]]:
    """Centre and size of each drawing; 0 for an empty drawing."""
    places, real = _positions(drawings), real_rows(drawings)[..., None]
    low = jnp.min(jnp.where(real, places, jnp.inf), axis=1, keepdims=True)
    high = jnp.max(jnp.where(real, places, -jnp.inf), axis=1, keepdims=True)
    finite = jnp.isfinite(low)
    return jnp.where(finite, (low + high) / 2, 0.0), jnp.max(jnp.where(finite, high - low, 0.0), axis=-1)


def _choose_strokes(key: jax.Array, drawings: Drawings, count: Int[Array, " batch"]) -> Bool[Array, "batch time"]:
    """True in the rows of a random set of strokes, of the wanted size for each drawing."""
    shape = drawings.rows.shape[:2]
    missing = jnp.arange(shape[1]) >= stroke_count(drawings)[:, None]
    drawn = jnp.where(missing, 2.0, jax.random.uniform(key, shape))
    chosen = drawn < jnp.take_along_axis(jnp.sort(drawn, axis=1), count[:, None], axis=1)
    return jnp.take_along_axis(chosen, stroke_numbers(drawings), axis=1)


def _move(drawings: Drawings, places: jax.Array) -> Drawings:
    """Replace the positions of all points."""
    offsets = jnp.diff(places, axis=1, prepend=0.0)
    rows = jnp.concatenate([offsets, jnp.asarray(drawings.rows)[..., 2:]], axis=-1)
    return Drawings(jnp.where(real_rows(drawings)[..., None], rows, 0.0), jnp.asarray(drawings.lengths))


def _select(drawings: Drawings, places: jax.Array, kept: Bool[Array, "batch time"]) -> Drawings:
    """Select rows; the positions of the selected points do not change."""
    target = jnp.where(kept, jnp.cumsum(kept, axis=1) - 1, kept.shape[1])
    values = jnp.concatenate([places, jnp.asarray(drawings.rows)[..., 2:]], axis=-1)
    values = jax.vmap(lambda x, to: jnp.zeros_like(x).at[to].set(x, mode="drop"))(values, target)
    return _move(Drawings(values, jnp.sum(kept, axis=1, dtype=jnp.int32)), values[..., :2])


def _end(drawings: Drawings) -> Drawings:
    """Zero the rows behind the end and lift the pen after the last row."""
    number = jnp.arange(drawings.rows.shape[1])
    last = number == drawings.lengths[:, None] - 1
    rows = jnp.asarray(drawings.rows)
    rows = rows.at[..., 2].set(jnp.where(last, 1.0, rows[..., 2]))
    return Drawings(jnp.where((number < drawings.lengths[:, None])[..., None], rows, 0.0), drawings.lengths)

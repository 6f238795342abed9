"""Drawings that are no longer recognisable, made from good ones at random, as pure functions inside a program.

Each takes a key and a batch whose rows are stroke-3, and gives a batch of the same shape in the same unit. Sizes are
shares of a drawing's own size, the longer side of its bounding box.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from sketch.data.next_stroke_data import stroke_count, stroke_numbers
from sketch.data.strokes import Drawings, real_rows

Damage = Callable[[jax.Array, Drawings], Drawings]


def shift_strokes(key: jax.Array, drawings: Drawings, least: float = 0.15, most: float = 0.5) -> Drawings:
    """Move half of the strokes, each in a direction of its own.

    A drawing of one stroke stays as it is, for the place of the whole does not count.

    Args:
        key: typed PRNG key.
        drawings: the batch.
        least: smallest way.
        most: largest way.
    """
    which, way, turn = jax.random.split(key, 3)
    count = stroke_count(drawings)
    moved = _some_strokes(which, drawings, count // 2)
    shape = drawings.rows.shape[:2]  # there are never more strokes than rows
    length = jax.random.uniform(way, shape, minval=least, maxval=most) * _box(drawings)[1]
    angle = jax.random.uniform(turn, shape, maxval=2.0 * jnp.pi)
    step = length[..., None] * jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=-1)
    of_row = jnp.take_along_axis(step, stroke_numbers(drawings)[..., None], axis=1)
    return _placed(drawings, _places(drawings) + jnp.where(moved[..., None], of_row, 0.0))


def swap_strokes(key: jax.Array, drawings: Drawings) -> Drawings:
    """Replace half of the strokes by half of the strokes of another drawing of the batch, fitted into the same box.

    What does not fit into the rows of the batch is left out.

    Raises:
        ValueError: the batch has one drawing.
    """
    batch, time = drawings.rows.shape[:2]
    if batch < 2:
        raise ValueError("strokes are swapped between drawings, and the batch has only one")
    drawings = _ended(jax.tree.map(jnp.asarray, drawings))  # else a last stroke would run on into the first that comes
    who, own, others = jax.random.split(key, 3)
    donor = jnp.roll(jnp.arange(batch), jax.random.randint(who, (), 1, batch))
    other = jax.tree.map(lambda leaf: leaf[donor], drawings)
    stays = ~_some_strokes(own, drawings, stroke_count(drawings) // 2) & real_rows(drawings)
    comes = _some_strokes(others, other, jnp.maximum(stroke_count(other) // 2, 1)) & real_rows(other)
    (centre, size), (their_centre, their_size) = _box(drawings), _box(other)
    ratio = (size / jnp.where(their_size > 0, their_size, jnp.inf))[..., None]
    fitted = (_places(other) - their_centre) * ratio + centre
    together = Drawings(jnp.concatenate([drawings.rows, other.rows], axis=1), drawings.lengths)
    places = jnp.concatenate([_places(drawings), fitted], axis=1)
    found = _kept(together, places, jnp.concatenate([stays, comes], axis=1))
    return _ended(Drawings(found.rows[:, :time], jnp.minimum(found.lengths, time)))


def remove_strokes(key: jax.Array, drawings: Drawings, share: float = 0.3) -> Drawings:
    """Leave out a share of the strokes, one at least; a drawing of one stroke keeps it.

    Args:
        key: typed PRNG key.
        drawings: the batch.
        share: of the strokes, rounded to the nearest number.
    """
    count = stroke_count(drawings)
    gone = jnp.clip(jnp.round(share * count).astype(jnp.int32), 1, jnp.maximum(count - 1, 0))
    return _kept(drawings, _places(drawings), ~_some_strokes(key, drawings, gone) & real_rows(drawings))


def jitter(key: jax.Array, drawings: Drawings, least: float = 0.05, most: float = 0.12) -> Drawings:
    """Move every point by normal noise whose standard deviation is drawn for each drawing.

    Args:
        key: typed PRNG key.
        drawings: the batch.
        least: smallest standard deviation.
        most: largest standard deviation.
    """
    first, second = jax.random.split(key)
    deviation = jax.random.uniform(first, (len(drawings.rows), 1, 1), minval=least, maxval=most)
    noise = deviation * _box(drawings)[1][..., None] * jax.random.normal(second, (*drawings.rows.shape[:2], 2))
    return _placed(drawings, _places(drawings) + noise)


def cut(key: jax.Array, drawings: Drawings, least: float = 0.2, most: float = 0.6) -> Drawings:
    """Keep a share of the rows from the beginning, drawn for each drawing, two rows at least.

    Args:
        key: typed PRNG key.
        drawings: the batch.
        least: smallest share.
        most: largest share.
    """
    share = jax.random.uniform(key, (len(drawings.rows),), minval=least, maxval=most)
    lengths = jnp.asarray(drawings.lengths)
    kept = jnp.minimum(jnp.maximum(jnp.floor(share * lengths).astype(jnp.int32), 2), lengths)
    return _ended(Drawings(jnp.asarray(drawings.rows), kept))


KINDS: dict[str, Damage] = {
    "shift": shift_strokes, "swap": swap_strokes, "remove": remove_strokes, "jitter": jitter, "cut": cut,
}  # fmt: skip
"""The kinds of damage by name."""

_NEEDS_STROKES = ("shift", "remove")
"""Kinds that do nothing to a drawing of one stroke."""


def damaged(key: jax.Array, drawings: Drawings) -> Drawings:
    """Do one kind of damage to each drawing, all kinds being equally likely.

    A drawing of one stroke is jittered instead where the kind would do nothing to it.

    Raises:
        ValueError: the batch has one drawing.
    """
    choice, *keys = jax.random.split(key, 1 + len(KINDS))
    kind = jax.random.randint(choice, (len(drawings.rows),), 0, len(KINDS))
    names = list(KINDS)
    idle = jnp.asarray([name in _NEEDS_STROKES for name in names])[kind] & (stroke_count(drawings) < 2)
    kind = jnp.where(idle, names.index("jitter"), kind)
    each = [damage(k, drawings) for damage, k in zip(KINDS.values(), keys, strict=True)]
    picked = jnp.arange(len(kind))
    return jax.tree.map(lambda *leaves: jnp.stack(leaves)[kind, picked], *each)


def _places(drawings: Drawings) -> Float[Array, "batch time 2"]:
    return jnp.cumsum(jnp.asarray(drawings.rows)[..., :2], axis=1)


def _box(drawings: Drawings) -> tuple[Float[Array, "batch 1 2"], Float[Array, "batch 1"]]:
    """Centre and size of each drawing; 0 for one without rows."""
    places, real = _places(drawings), real_rows(drawings)[..., None]
    low = jnp.min(jnp.where(real, places, jnp.inf), axis=1, keepdims=True)
    high = jnp.max(jnp.where(real, places, -jnp.inf), axis=1, keepdims=True)
    there = jnp.isfinite(low)
    return jnp.where(there, (low + high) / 2, 0.0), jnp.max(jnp.where(there, high - low, 0.0), axis=-1)


def _some_strokes(key: jax.Array, drawings: Drawings, wanted: Int[Array, " batch"]) -> Bool[Array, "batch time"]:
    """True in the rows of so many strokes of each drawing, drawn without replacement."""
    shape = drawings.rows.shape[:2]
    missing = jnp.arange(shape[1]) >= stroke_count(drawings)[:, None]
    drawn = jnp.where(missing, 2.0, jax.random.uniform(key, shape))
    chosen = drawn < jnp.take_along_axis(jnp.sort(drawn, axis=1), wanted[:, None], axis=1)
    return jnp.take_along_axis(chosen, stroke_numbers(drawings), axis=1)


def _placed(drawings: Drawings, places: jax.Array) -> Drawings:
    """The drawings with their points at other places."""
    offsets = jnp.diff(places, axis=1, prepend=0.0)
    rows = jnp.concatenate([offsets, jnp.asarray(drawings.rows)[..., 2:]], axis=-1)
    return Drawings(jnp.where(real_rows(drawings)[..., None], rows, 0.0), jnp.asarray(drawings.lengths))


def _kept(drawings: Drawings, places: jax.Array, kept: Bool[Array, "batch time"]) -> Drawings:
    """The drawings with some of their rows only, each point where it was."""
    target = jnp.where(kept, jnp.cumsum(kept, axis=1) - 1, kept.shape[1])
    values = jnp.concatenate([places, jnp.asarray(drawings.rows)[..., 2:]], axis=-1)
    values = jax.vmap(lambda x, to: jnp.zeros_like(x).at[to].set(x, mode="drop"))(values, target)
    return _placed(Drawings(values, jnp.sum(kept, axis=1, dtype=jnp.int32)), values[..., :2])


def _ended(drawings: Drawings) -> Drawings:
    """The drawings cut to their lengths, the pen lifted after the last row."""
    number = jnp.arange(drawings.rows.shape[1])
    last = number == drawings.lengths[:, None] - 1
    rows = jnp.asarray(drawings.rows)
    rows = rows.at[..., 2].set(jnp.where(last, 1.0, rows[..., 2]))
    return Drawings(jnp.where((number < drawings.lengths[:, None])[..., None], rows, 0.0), drawings.lengths)

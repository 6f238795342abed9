"""Random data augmentation of drawings (traceable).

Each function maps a key and a stroke-3 batch to a batch of the same shape.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from sketch.data.strokes import Drawings, real_rows


def stretch(key: jax.Array, drawings: Drawings, ratio: float | jax.Array) -> Drawings:
    """Scale x and y of each drawing by independent factors from U(1 - ratio, 1 + ratio) (Ha and Eck 2017)."""
    factors = 1.0 + ratio * jax.random.uniform(key, (len(drawings.rows), 1, 2), minval=-1.0, maxval=1.0)
    return _with_offsets(drawings, drawings.rows[..., :2] * factors)


def flip(key: jax.Array, drawings: Drawings, probability: float | jax.Array) -> Drawings:
    """Mirror each drawing horizontally with the given probability."""
    sign = jnp.where(jax.random.bernoulli(key, probability, (len(drawings.rows), 1)), -1.0, 1.0)
    return _with_offsets(drawings, drawings.rows[..., :2] * jnp.stack([sign, jnp.ones_like(sign)], axis=-1))


def turn(key: jax.Array, drawings: Drawings, degrees: float | jax.Array) -> Drawings:
    """Rotate each drawing by an angle from U(-degrees, degrees)."""
    angle = jnp.deg2rad(degrees) * jax.random.uniform(key, (len(drawings.rows), 1), minval=-1.0, maxval=1.0)
    x, y = drawings.rows[..., 0], drawings.rows[..., 1]
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    return _with_offsets(drawings, jnp.stack([cos * x - sin * y, sin * x + cos * y], axis=-1))


def drop_points(key: jax.Array, drawings: Drawings, probability: float | jax.Array) -> Drawings:
    """Drop points inside strokes; the positions of the other points do not change.

    A row is a candidate if neither it nor the last retained row lifts the pen, after more than two such rows in
    sequence. Its offset is added to the last retained row, so ends of strokes and the sum of offsets do not change.
    Source: the published code of Sketch-RNN (Ha and Eck 2017).
    """
    drawn = jax.random.uniform(key, drawings.rows.shape[:2]) < probability
    real = real_rows(drawings)

    def walk(carry: Any, row: Any) -> Any:
        count, last_lift = carry
        lift, chosen, exists = row
        inside = (lift == 0) & (last_lift == 0)
        count = jnp.where(inside, count + 1, 0)
        dropped = inside & (count > 2) & chosen & exists
        return (count, lift), dropped  # neither a dropped row nor the retained row before it lifts the pen

    size = len(drawings.rows)
    start = (jnp.zeros(size, jnp.int32), jnp.ones(size, drawings.rows.dtype))
    by_time = (drawings.rows[..., 2].T, drawn.T, real.T)
    dropped = jax.lax.scan(walk, start, by_time)[1].T
    target = jnp.cumsum(~dropped, axis=1) - 1
    rows = jax.vmap(lambda x, to: jnp.zeros_like(x).at[to].add(x))(drawings.rows, target)
    return Drawings(rows, drawings.lengths - jnp.sum(dropped, axis=1, dtype=jnp.int32))


def _with_offsets(drawings: Drawings, offsets: Any) -> Drawings:
    return drawings._replace(rows=jnp.concatenate([offsets, drawings.rows[..., 2:]], axis=-1))

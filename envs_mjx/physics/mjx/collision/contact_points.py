"""Shapes, contacts and table entries of the colliders written for MJX."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

EMPTY_DISTANCE = 1.0
"""Distance of an empty slot, metres."""


class Geom(NamedTuple):
    """A body of simple shape.

    Attributes:
        pos: `[3]` centre.
        mat: `[3, 3]` axes in columns; z is that of a cylinder or capsule.
        size: `[3]` as MuJoCo has it: half-lengths of a box; radius and half-length of a cylinder or capsule.
    """

    pos: jax.Array
    mat: jax.Array
    size: jax.Array


Contacts = tuple[jax.Array, jax.Array, jax.Array]
"""Distances `[slots]`, positions `[slots, 3]` and frames `[slots, 3, 3]` with first rows from first to second geom."""


def collider(function: Callable[[Geom, Geom], Contacts], slots: int) -> Callable:
    """A function of two geoms in the form of MJX's table of colliders."""

    def collide(m, d, _, geom):
        first, second = (Geom(d.geom_xpos[g], d.geom_xmat[g], m.geom_size[g]) for g in geom.T)
        return jax.tree.map(jnp.concatenate, jax.vmap(function)(first, second))

    collide.ncon = slots  # pyright: ignore[reportFunctionMemberAccess]
    return collide


__all__ = ["EMPTY_DISTANCE", "Contacts", "Geom", "collider"]

"""Contacts of boxes and cylinders with the floor as MuJoCo C 3.3.7 reports them, as colliders for MJX.

MJX's own leave out corners of a box that are a millimetre less deep than the deepest, and the far rim of a cylinder
unless its axis is within a few degrees of level. Those here follow google-deepmind/mujoco,
`engine_collision_primitive.c`, and were checked contact by contact against the compiled library.

- The floor touches the lower one of each two opposite corners of a box.
- It touches a cylinder at the lowest point of each rim, and at two more points of the lower rim, which form a regular
  triangle with its lowest point.

The margin is zero: only what overlaps touches. Lengths are in metres.
"""

from __future__ import annotations

import jax.numpy as jnp

from envs_mjx.physics.mjx.collision.contact_points import EMPTY_DISTANCE, Contacts, Geom, collider
from envs_mjx.physics.mjx.internals import GeomType, make_frame

_UPRIGHT = 1e-15  # MuJoCo's `mjMINVAL`: below this inclination the first contact lies along the cylinder's own x axis


def plane_box(plane: Geom, box: Geom) -> Contacts:
    """Contacts of a plane, which faces its own z axis, and a box: 4 slots."""
    normal = plane.mat[:, 2]
    signs = jnp.array([[1, 1, 1], [1, 1, -1], [1, -1, 1], [1, -1, -1]], normal.dtype)
    corners = signs * box.size @ box.mat.T
    rise = corners @ normal
    corners = corners * jnp.where(rise > 0, -1.0, 1.0)[:, None]
    dist = (box.pos - plane.pos) @ normal - jnp.abs(rise)
    pos = box.pos + corners - 0.5 * dist[:, None] * normal
    return dist, pos, jnp.broadcast_to(make_frame(normal), (4, 3, 3))


def plane_cylinder(plane: Geom, cylinder: Geom) -> Contacts:
    """Contacts of a plane, which faces its own z axis, and a cylinder: 3 slots.

    The far rim and the triangle share the last two: both touch only a cylinder that has nearly sunk in.
    """
    normal = plane.mat[:, 2]
    radius, half = cylinder.size[0], cylinder.size[1]
    axis = cylinder.mat[:, 2]
    steep = axis @ normal
    axis, steep = axis * jnp.where(steep > 0, -half, half), -half * jnp.abs(steep)  # to the lower end, and how far down

    down = cylinder.mat[:, 2] * (cylinder.mat[:, 2] @ normal) - normal  # to the lowest point of a rim
    length = jnp.sqrt(down @ down)
    stands = length < _UPRIGHT
    down = radius * jnp.where(stands, cylinder.mat[:, 0], down / jnp.where(stands, 1.0, length))
    across = jnp.sqrt(0.75) * jnp.cross(down, cylinder.mat[:, 2])

    height = (cylinder.pos - plane.pos) @ normal
    fall = down @ normal
    near, far, side = height + steep + fall, height - steep + fall, height + steep - 0.5 * fall
    leans = far < side
    dist = jnp.stack([near, jnp.where(leans, far, side), jnp.where(leans, EMPTY_DISTANCE, side)])
    points = jnp.stack(
        [axis + down, jnp.where(leans, down - axis, axis - 0.5 * down + across), axis - 0.5 * down - across]
    )
    pos = cylinder.pos + points - 0.5 * dist[:, None] * normal
    return dist, pos, jnp.broadcast_to(make_frame(normal), (3, 3, 3))


COLLIDERS = {
    (GeomType.PLANE, GeomType.BOX): collider(plane_box, 4),
    (GeomType.PLANE, GeomType.CYLINDER): collider(plane_cylinder, 3),
}
"""Entries of MJX's table of colliders."""

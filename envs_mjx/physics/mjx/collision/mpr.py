"""Contacts of cylinders with boxes, cylinders and capsules as MuJoCo C 3.3.7 searches for them, as colliders for MJX.

MJX has none for a cylinder and a box, and its others for cylinders descend on distance functions. MuJoCo, when
`nativeccd` is off, hands these pairs to libccd's Minkowski portal refinement (danfis/libccd, `src/mpr.c` and
`src/vec3.c`; G. Snethen, "XenoCollide", Game Programming Gems 7) and then puts the normal right where a round wall is
met (google-deepmind/mujoco, `engine_collision_convex.c`). What it finds depends on the path of the search, not on the
shapes alone, so the path is the same here. All was checked contact by contact against the compiled library.

The two shapes overlap where their difference (all `a - b`, with `a` in the first and `b` in the second) holds the
origin. Its outermost point in a direction, the support, is known. From a point inside, the difference of the centres, a
ray goes to the origin:

1. A portal is a triangle of supports that the ray passes through. Three supports are found; while the ray misses a side
   of the triangle, a new support replaces the corner opposite to that side.
2. The support along the portal's normal replaces one of its corners, so that the ray still passes, and the portal moves
   outwards. Once it is beyond the origin the shapes overlap. If it stops before, they are apart.
3. It moves on until a support gains no more than `TOLERANCE`, or `EXPANSIONS` is used up. The point of the triangle
   nearest to the origin gives depth and normal; the position is where the origin lies between centre and corners.

The order of events lets the three parts share one loop, in which each step takes one support. Pairs whose bounding
spheres are apart, or that the first three supports separate, never enter it: a batch is done when its last member is.

Corners and positions are taken relative to the first shape and determinants from differences, so that float32 finds
what float64 finds but for its own rounding (about 1e-7 m). Lengths are in metres; the margin is zero.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from envs_mjx.physics.mjx.collision.contact_points import EMPTY_DISTANCE, Contacts, Geom, collider
from envs_mjx.physics.mjx.internals import GeomType, make_frame

TOLERANCE = 1e-6
"""Gain of a support, metres, at which the search ends (MuJoCo's `ccd_tolerance`)."""

EXPANSIONS = 50
"""MuJoCo's `ccd_iterations`, as the reference had it: steps of part 3 beyond which the portal is taken as it is."""

_STEPS = 150  # of the whole loop. Parts 1 and 2 have no bound in libccd; nothing was seen to come near
_ZERO = 2.220446049250313e-16  # what libccd takes for zero, whatever is measured: always float64's precision
_NO_RADIUS = 1e-15  # MuJoCo's `mjMINVAL`: a direction this close to a cylinder's axis meets the centre of its end
_FLAT = 0.95  # contacts beyond this part of a cylinder's half-length keep the normal of the search
_ROUND = 0.25  # ... and those whose distance to the flat end is less than this part of that to the round wall

Support = Callable[[Geom, jax.Array], jax.Array]
"""`(shape, direction [3] in its frame) -> [3]` outermost point in its frame, from its centre."""


class _Corners(NamedTuple):
    """Points of the difference of two shapes.

    Attributes:
        v: `[..., 3]` the point, a point of the first shape minus one of the second.
        mid: `[..., 3]` halfway between those two points, relative to the first shape's centre.
    """

    v: jax.Array
    mid: jax.Array


class _Search(NamedTuple):
    """State of the search.

    Attributes:
        corners: `[4]` the point inside, then the three corners of the portal.
        complete: `[]` whether the ray is known to pass through the portal (part 1 is over).
        beyond: `[]` whether the portal has been beyond the origin (part 2 is over): the shapes overlap.
        done: `[]` whether the search is over.
        expansions: `[]` steps of part 3.
        steps: `[]` steps of all.
    """

    corners: _Corners
    complete: jax.Array
    beyond: jax.Array
    done: jax.Array
    expansions: jax.Array
    steps: jax.Array


def box_support(shape: Geom, along: jax.Array) -> jax.Array:
    """Corner of a box; the middle of an edge or face that is square to the direction."""
    return jnp.sign(along) * shape.size


def cylinder_support(shape: Geom, along: jax.Array) -> jax.Array:
    """Point on a rim of a cylinder; the middle of its height, or of its end, if that is square to the direction."""
    radial = jnp.sqrt(along[0] * along[0] + along[1] * along[1])
    scale = jnp.where(radial > _NO_RADIUS, shape.size[0] / jnp.where(radial > _NO_RADIUS, radial, 1.0), 0.0)
    return jnp.stack([along[0] * scale, along[1] * scale, jnp.sign(along[2]) * shape.size[1]])


def capsule_support(shape: Geom, along: jax.Array) -> jax.Array:
    """Point on a capsule; of zero length it is a ball."""
    return (along * shape.size[0]).at[2].add(jnp.sign(along[2]) * shape.size[1])


def meet(
    first: Geom, second: Geom, supports: tuple[Support, Support], reaches: tuple[jax.Array, jax.Array]
) -> Contacts:
    """The contact of two convex shapes that the search finds.

    Args:
        first: shape with the lower index.
        second: the other one.
        supports: their support functions.
        reaches: radii `[]` of spheres around their centres that hold them.

    Returns:
        Distance `[1]` (`EMPTY_DISTANCE` if they do not touch), position `[1, 3]` and frame `[1, 3, 3]`.
    """
    offset = second.pos - first.pos

    def support(direction):
        a = first.mat @ supports[0](first, direction @ first.mat)
        b = offset + second.mat @ supports[1](second, -direction @ second.mat)
        return _Corners(a - b, 0.5 * (a + b))

    far = jnp.sum(offset * offset) > (reaches[0] + reaches[1]) ** 2
    search, on_axis = _begin(offset, support, far)
    end = jax.lax.while_loop(lambda s: ~s.done, lambda s: _step(s, support), search)
    depth, normal, pos = _measure(end.corners)
    touches = end.beyond

    # The ray itself may meet the outermost point.
    corner = jax.tree.map(lambda x: x[1], search.corners)
    length = jnp.sqrt(jnp.sum(corner.v * corner.v))
    depth, touches = jnp.where(on_axis, length, depth), touches | on_axis
    normal = jnp.where(on_axis, _unit(corner.v), normal)
    pos = jnp.where(on_axis, corner.mid, pos)

    touches &= depth >= _ZERO
    depth = jnp.where(touches, depth, -EMPTY_DISTANCE)
    normal = jnp.where(touches, normal, jnp.array([1.0, 0.0, 0.0], normal.dtype))
    return -depth[None], (first.pos + jnp.where(touches, pos, 0.0))[None], normal[None]


def _begin(offset: jax.Array, support: Callable, far: jax.Array) -> tuple[_Search, jax.Array]:
    """The first three corners; and whether the ray meets the outermost point itself (`[]`), which ends the search."""
    nudge = jnp.array([10 * _ZERO, 0.0, 0.0], offset.dtype)  # concentric shapes
    centre = _Corners(jnp.where(jnp.all(jnp.abs(offset) < _ZERO), nudge, -offset), 0.5 * offset)
    towards = -_unit(centre.v)
    one = support(towards)
    separate = far | (one.v @ towards < _ZERO)

    across = jnp.cross(centre.v, one.v)
    on_axis = ~separate & (across @ across < _ZERO)
    across = _unit(across)
    two = support(across)
    separate |= two.v @ across < _ZERO

    outwards = jnp.cross(one.v - centre.v, two.v - centre.v) @ centre.v > 0
    one, two = (jax.tree.map(lambda a, b: jnp.where(outwards, a, b), *p) for p in ((two, one), (one, two)))
    corners: _Corners = jax.tree.map(lambda *c: jnp.stack(c), centre, one, two, two)
    no = jnp.zeros((), bool)
    zero = jnp.zeros((), jnp.int32)
    return _Search(corners, no, no, separate | on_axis, zero, zero), on_axis


def _step(s: _Search, support: Callable) -> _Search:
    """One support, and what follows from it in the part of the search that is on."""
    v = s.corners.v
    sides = jnp.where(s.complete, jnp.stack([v[2] - v[1], v[3] - v[1]]), jnp.stack([v[1] - v[0], v[2] - v[0]]))
    normal = _unit(jnp.cross(sides[0], sides[1]))
    new = support(normal)
    height = new.v @ normal

    # Part 1: which corner the new one replaces, or that it is the third.
    outside_2 = jnp.cross(v[1], new.v) @ v[0] <= -_ZERO
    outside_1 = jnp.cross(new.v, v[2]) @ v[0] <= -_ZERO
    place = jnp.where(outside_2, 2, jnp.where(outside_1, 1, 3))
    complete = s.complete | (~outside_2 & ~outside_1)

    # Parts 2 and 3: which corner it replaces so that the ray still passes.
    turn = v[1:] @ jnp.cross(new.v, v[0]) > 0
    keeps = jnp.where(turn[0], jnp.where(turn[1], 1, 3), jnp.where(turn[2], 2, 1))
    stuck = height - jnp.max(v[1:] @ normal) <= TOLERANCE
    beyond = s.complete & (s.beyond | (normal @ v[1] > -_ZERO))
    ends = jnp.where(beyond, stuck | (s.expansions > EXPANSIONS), stuck | (height <= -_ZERO))
    done = jnp.where(s.complete, ends, height < _ZERO) | (s.steps >= _STEPS)

    taken = (jnp.arange(4) == jnp.where(s.complete, keeps, place)) & ~done
    corners: _Corners = jax.tree.map(lambda c, n: jnp.where(taken[:, None], n, c), s.corners, new)
    return _Search(corners, complete, beyond, done, s.expansions + beyond, s.steps + 1)


def _measure(corners: _Corners) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Depth `[]`, normal `[3]` and position `[3]` from the last portal."""
    v, mid = corners
    side_2, side_3 = v[2] - v[1], v[3] - v[1]
    across = jnp.cross(side_2, side_3)
    area = across @ across  # squared
    flat = area < _ZERO  # libccd does not look inside a triangle this small
    normal = _unit(across)

    # The point nearest to the origin: inside the triangle, or on one of its sides.
    to_2, to_3 = jnp.cross(side_3, v[1]), jnp.cross(v[1], side_2)
    part_2, part_3 = (t @ across / jnp.where(flat, 1.0, area) for t in (to_2, to_3))
    inside = ~flat & (part_2 > -_ZERO) & (part_3 > -_ZERO) & (part_2 + part_3 <= 1 + _ZERO)
    on_sides = jnp.stack([_nearest_on(v[1], v[2]), _nearest_on(v[1], v[3]), _nearest_on(v[2], v[3])])
    on_side = on_sides[jnp.argmin(jnp.sum(on_sides * on_sides, axis=1))]
    height = normal @ v[1]
    depth = jnp.where(inside, jnp.abs(height), jnp.sqrt(on_side @ on_side))
    direction = jnp.where(inside, normal * jnp.where(height < 0, -1.0, 1.0), _unit(on_side))

    # Where the origin lies between the four corners; if they are in one plane, between the three.
    along = v[1] - v[0]
    plane = along @ across < _ZERO
    along = jnp.where(plane, normal, along)
    whole = along @ across
    weight_0 = jnp.where(plane, 0.0, v[1] @ across)
    weight_2, weight_3 = along @ to_2, along @ to_3
    weights = jnp.stack([weight_0, whole - weight_0 - weight_2 - weight_3, weight_2, weight_3])
    return depth, direction, weights @ mid / jnp.where(whole == 0, 1.0, whole)


def _nearest_on(start: jax.Array, end: jax.Array) -> jax.Array:
    """`[3]` point of a segment nearest to the origin."""
    side = end - start
    square = side @ side
    return start + jnp.clip(-(start @ side) / jnp.where(square == 0, 1.0, square), 0.0, 1.0) * side


def _unit(v: jax.Array) -> jax.Array:
    """`[3]` unit vector; zero for zero."""
    square = v @ v
    return v * jnp.where(square == 0, 0.0, 1 / jnp.sqrt(jnp.where(square == 0, 1.0, square)))


def round_cylinder(shape: Geom, pos: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Outward normal `[3]` of the round wall at a contact, and whether it is to be used there (`[]`)."""
    local = (pos - shape.pos) @ shape.mat
    radial = jnp.sqrt(local[0] * local[0] + local[1] * local[1])
    to_end, to_wall = shape.size[1] - jnp.abs(local[2]), jnp.abs(shape.size[0] - radial)
    used = (jnp.abs(local[2]) <= _FLAT * shape.size[1]) & (jnp.abs(to_end) >= _ROUND * to_wall)
    return shape.mat @ _unit(local.at[2].set(0.0)), used


def round_capsule(shape: Geom, pos: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The same for a capsule, which is round everywhere."""
    local = (pos - shape.pos) @ shape.mat
    over = local[2] - jnp.clip(local[2], -shape.size[1], shape.size[1])
    return shape.mat @ _unit(local.at[2].set(over)), jnp.ones((), bool)


def _nowhere_round(shape: Geom, pos: jax.Array) -> tuple[jax.Array, jax.Array]:
    return jnp.zeros_like(pos), jnp.zeros((), bool)


_BOX = (box_support, lambda s: jnp.linalg.norm(s), _nowhere_round)
_CYLINDER = (cylinder_support, lambda s: jnp.sqrt(s[0] ** 2 + s[1] ** 2), round_cylinder)
_CAPSULE = (capsule_support, lambda s: s[0] + s[1], round_capsule)


def _pair(kinds) -> Callable[[Geom, Geom], Contacts]:
    """The collider of two kinds of shapes: the search, then normals of round walls in place of its own."""
    supports, reaches, rounds = zip(*kinds, strict=True)

    def collide(first: Geom, second: Geom) -> Contacts:
        dist, pos, normal = meet(first, second, supports, (reaches[0](first.size), reaches[1](second.size)))
        (out_1, use_1), (out_2, use_2) = rounds[0](first, pos[0]), rounds[1](second, pos[0])
        settled = jnp.where(use_1, out_1, 0.0) - jnp.where(use_2, out_2, 0.0)
        normal = jnp.where((use_1 | use_2) & (dist[0] < 0), _unit(settled), normal[0])
        return dist, pos, make_frame(normal)[None]

    return collide


cylinder_box = _pair((_CYLINDER, _BOX))
cylinder_cylinder = _pair((_CYLINDER, _CYLINDER))
capsule_cylinder = _pair((_CAPSULE, _CYLINDER))

COLLIDERS = {
    (GeomType.CYLINDER, GeomType.BOX): collider(cylinder_box, 1),
    (GeomType.CYLINDER, GeomType.CYLINDER): collider(cylinder_cylinder, 1),
    (GeomType.CAPSULE, GeomType.CYLINDER): collider(capsule_cylinder, 1),
}
"""Entries of MJX's table of colliders."""

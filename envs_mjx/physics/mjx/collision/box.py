"""Contacts of boxes with boxes as MuJoCo C 3.3.7 reports them, as a collider for MJX.

MJX's own places other points at other depths. This one follows what MuJoCo 3.3.7 does when `nativeccd` is off
(google-deepmind/mujoco, `engine_collision_box.c` and `engine_collision_driver.c`, which removes points). All was
checked contact by contact against the compiled library.

- Fifteen separating axes: three face normals of each box, nine products of an edge of one with an edge of the other.
  The one with the least overlap gives the normal. A product must win by more than rounding.
- The reference face is that of the axis; for a product of edges, the face of the first box closest to the normal. The
  incident face is the face of the other box most opposed to the normal. It is carried along the normal onto the plane
  of the reference face and cut with it; contacts lie halfway between a point and its image.
- A face reports *half* the depth as the distance, a product of edges all of it.
- For a product of edges, corners of the reference face are looked up in coordinates of the incident face. The area that
  these are divided by is right up to the first corner found; from then on it is the squared distance of that corner.
- Points that lie more than 1 % outside one box and not well inside the other are removed, and so are repeated points.

The margin is zero: only what overlaps touches. Lengths are in metres.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from envs_mjx.physics.mjx.collision.contact_points import EMPTY_DISTANCE, Geom, collider
from envs_mjx.physics.mjx.internals import GeomType, make_frame

SLOTS = 4
"""Contacts kept of each pair, deepest first. In the recorded worlds no pair ever has more (of 3524 that touch)."""

_KEEP = 1.01  # points further outside a box than this, relative to its size, are removed
_TURNS = (  # from a box to its faces +x, +y, +z, -x, -y, -z; which way round decides the order of the corners
    ((0, 0, -1), (0, 1, 0), (1, 0, 0)),
    ((1, 0, 0), (0, 0, -1), (0, 1, 0)),
    ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    ((0, 0, 1), (0, 1, 0), (-1, 0, 0)),
    ((1, 0, 0), (0, 0, 1), (0, -1, 0)),
    ((-1, 0, 0), (0, 1, 0), (0, 0, -1)),
)
_UPRIGHT = 0.5  # edges of the incident box steeper than this (cosine with a face normal) do not bound its face
_FACE_BY_ROUNDING = 1e-12  # a product of edges must have less overlap than the best face by this part of it


class _Axis(NamedTuple):
    """The axis of least overlap.

    Attributes:
        overlap: `[]` along it; negative when the boxes are apart.
        direction: `[3]` unit vector in the frame of the reference box, away from it.
        is_edges: `[]` whether it is a product of edges.
        edge: `[]` which edge of the second box is in the product, if it is one.
        second: `[]` whether the second box is the reference.
    """

    overlap: jax.Array
    direction: jax.Array
    is_edges: jax.Array
    edge: jax.Array
    second: jax.Array


class _Faces(NamedTuple):
    """The incident face over the reference face: x and y lie in the latter, z points out of it and is zero on it.

    Attributes:
        half: `[2]` half-lengths of the reference face.
        normal: `[3]` contact normal, away from the reference box.
        corner: `[3]` corner of the incident face that is deepest along the normal; for a product of edges, the one at
            the positive end of that edge.
        edges: `[2, 3]` its edges, starting at that corner; first the one in the product.
        bounds: `[2]` which edges bound the face.
    """

    half: jax.Array
    normal: jax.Array
    corner: jax.Array
    edges: jax.Array
    bounds: jax.Array


class _Points(NamedTuple):
    """Contact candidates.

    Attributes:
        pos: `[n, 3]` position in the frame of `_Faces`.
        dist: `[n]` distance, negative.
        valid: `[n]` which are contacts.
    """

    pos: jax.Array
    dist: jax.Array
    valid: jax.Array


def box_box(first: Geom, second: Geom, slots: int = SLOTS) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Contacts of two boxes.

    Args:
        first: box with the lower index.
        second: the other one.
        slots: number of contacts to return.

    Returns:
        Distances `[slots]`, positions `[slots, 3]` and frames `[slots, 3, 3]` (normal in the first row, from the first
        box to the second), as MJX wants them. Empty slots have the distance `EMPTY_DISTANCE`.
    """
    axis = _least_overlap(first, second)
    base: Geom = jax.tree.map(lambda a, b: jnp.where(axis.second, b, a), first, second)
    other: Geom = jax.tree.map(lambda a, b: jnp.where(axis.second, a, b), first, second)
    to_face, height = _face_frame(axis, base)
    points = _contacts(_meet(axis, base, other, to_face, height), axis.is_edges)

    local = (points.pos + height * jnp.array([0.0, 0.0, 1.0], height.dtype)) @ to_face
    pos = base.pos + local @ base.mat.T
    reach = jnp.sum(first.size + second.size)
    valid = points.valid & (axis.overlap >= 0) & ~_outside(local, (pos - other.pos) @ other.mat, base, other)
    valid &= ~_repeated(local, valid, 16 * jnp.finfo(reach.dtype).eps * reach)

    order, dist = _deepest(jnp.where(valid, points.dist, EMPTY_DISTANCE), slots)
    normal = base.mat @ axis.direction * jnp.where(axis.second, -1.0, 1.0)
    return dist, order @ pos, jnp.broadcast_to(make_frame(normal), (slots, 3, 3))


def _least_overlap(first: Geom, second: Geom) -> _Axis:
    """The separating axis along which two boxes overlap least."""
    turn = first.mat.T @ second.mat
    offset = first.mat.T @ (second.pos - first.pos)
    back = -turn.T @ offset
    steep = jnp.abs(turn)
    faces_1 = first.size + steep @ second.size - jnp.abs(offset)
    faces_2 = second.size + steep.T @ first.size - jnp.abs(back)
    faces = jnp.concatenate([faces_1, faces_2])

    axes = jnp.cross(jnp.eye(3, dtype=turn.dtype)[:, None], turn.T[None]).reshape(9, 3)
    length = jnp.linalg.norm(axes, axis=-1, keepdims=True)
    parallel = length < 8 * jnp.finfo(turn.dtype).eps
    axes = axes / jnp.where(parallel, 1.0, length)
    along = axes @ offset
    edges = jnp.abs(axes) @ first.size + jnp.abs(axes @ turn) @ second.size - jnp.abs(along)
    edges = jnp.where(parallel[:, 0], jnp.inf, edges)

    face, edge = jnp.argmin(faces), jnp.argmin(edges)
    rounding = 4 * jnp.finfo(turn.dtype).eps * jnp.sum(first.size + second.size)
    is_edges = edges[edge] < faces[face] - jnp.maximum(_FACE_BY_ROUNDING * faces[face], rounding)
    towards = jnp.concatenate([offset, back])[face]
    normal = jnp.eye(3, dtype=turn.dtype)[face % 3] * jnp.where(towards < 0, -1.0, 1.0)
    product = axes[edge] * jnp.where(along[edge] < 0, -1.0, 1.0)
    return _Axis(
        overlap=jnp.minimum(faces[face], edges[edge]),
        direction=jnp.where(is_edges, product, normal),
        is_edges=is_edges,
        edge=edge % 3,
        second=~is_edges & (face >= 3),
    )


def _face_frame(axis: _Axis, base: Geom) -> tuple[jax.Array, jax.Array]:
    """`[3, 3]` matrix from the frame of the reference box to that of its face, and the distance of that face."""
    out = jnp.argmax(jnp.abs(axis.direction))
    return jnp.asarray(_TURNS, base.mat.dtype)[out + 3 * (axis.direction[out] < 0)], base.size[out]


def _meet(axis: _Axis, base: Geom, other: Geom, to_face: jax.Array, height: jax.Array) -> _Faces:
    """The reference face and, in its frame, the face of the other box that is most opposed to the normal."""
    turn = base.mat.T @ other.mat
    along = axis.direction @ turn
    leaves = jnp.argmax(jnp.abs(along))
    side = jnp.where(axis.is_edges, axis.edge, (leaves + 1) % 3)
    order = jnp.stack([side, 3 - side - leaves, leaves])
    along = along[order]
    lower = jnp.where(along < 0, 1.0, -1.0).at[0].set(jnp.where(axis.is_edges | (along[0] < 0), 1.0, -1.0))
    halves = (to_face @ turn)[:, order] * (other.size[order] * lower)
    centre = to_face @ (base.mat.T @ (other.pos - base.pos)) - height * jnp.array([0.0, 0.0, 1.0], height.dtype)
    return _Faces(
        half=jnp.abs(to_face @ base.size)[:2],
        normal=to_face @ axis.direction,
        corner=centre + jnp.sum(halves, axis=1),
        edges=-2 * halves[:, :2].T,
        bounds=(jnp.abs(along[:2]) < _UPRIGHT) | axis.is_edges,
    )


def _contacts(faces: _Faces, is_edges: jax.Array) -> _Points:
    """All candidates `[16]`: cuts of the outlines, corners of the reference face, corners of the incident face."""
    slope = faces.normal[:2] / faces.normal[2]
    corners = faces.corner + jnp.array([[0, 0], [1, 0], [0, 1], [1, 1]], slope.dtype) @ faces.edges
    image = corners[:, :2] - corners[:, 2:] * slope
    sides = image[1:3] - image[0]
    scale = jnp.where(is_edges, 1.0, 0.5)
    both = faces.bounds[0] & faces.bounds[1]

    # Where the outline of the image crosses that of the reference face.
    start = jnp.array([0, 2, 0, 1])
    along = jnp.array([0, 0, 1, 1])
    part, crosses = _cuts(image[start], sides[along], faces.half)
    crosses &= jnp.stack([faces.bounds[0], both, faces.bounds[1], both])[:, None]
    above = (corners[start][:, None] + part[..., None] * faces.edges[along][:, None]).reshape(8, 3)
    below = above[:, :2] - above[:, 2:] * slope
    cut = _Points(
        pos=_halfway(above, below),
        dist=above[:, 2] * jnp.where(is_edges, 1 / faces.normal[2], 0.5),
        valid=crosses.reshape(8) & (above[:, 2] <= 0),
    )
    no_cut = ~jnp.any(cut.valid)

    # Corners of the reference face that the image covers; for edges that do not cross also those next to it.
    own = jnp.array([[-1, -1], [-1, 1], [1, -1], [1, 1]], slope.dtype) * faces.half
    beyond = own - image[0]
    crossed = beyond @ jnp.array([[sides[1, 1], -sides[0, 1]], [-sides[1, 0], sides[0, 0]]])
    area = sides[0, 0] * sides[1, 1] - sides[0, 1] * sides[1, 0]
    own_points = []
    for i in range(4):
        uv = crossed[i] / jnp.where(area == 0, 1.0, area)
        inside = (uv >= 0) & (uv <= 1)
        covered = jnp.where(is_edges, _all_or_any(inside, no_cut), both & jnp.all((uv > 0) & (uv < 1)))
        above = faces.corner + jnp.clip(uv, 0, 1) @ faces.edges
        gap = jnp.sum((above - jnp.pad(own[i], (0, 1))) ** 2)
        area = jnp.where(covered & is_edges, gap, area)
        own_points.append(_Points(_halfway(above, own[i]), -jnp.sqrt(gap) * scale, covered & (above[2] <= 0)))
    own_corners: _Points = jax.tree.map(lambda *corners: jnp.stack(corners), *own_points)

    # Corners of the incident face over the reference face; the deepest one of a face contact wherever it is.
    edge_nearby = _all_or_any(jnp.abs(image) <= faces.half, no_cut) | (no_cut & ~jnp.any(own_corners.valid))
    face_nearby = jnp.all(jnp.abs(image) < faces.half, axis=1).at[0].set(True)
    face_nearby &= jnp.stack([jnp.bool_(True), faces.bounds[0], faces.bounds[1], both])
    nearest = jnp.where(is_edges, jnp.clip(image, -faces.half, faces.half), image)
    gap = _length(jnp.concatenate([image - nearest, corners[:, 2:] / faces.normal[2]], axis=1))
    valid = jnp.where(is_edges, edge_nearby, face_nearby) & (corners[:, 2] <= 0)
    its_corners = _Points(_halfway(corners, nearest), -gap * scale, valid)
    return jax.tree.map(lambda *parts: jnp.concatenate(parts), cut, own_corners, its_corners)


def _cuts(start: jax.Array, side: jax.Array, half: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Parts `t [n, 2]` at which segments `start + t side` (`[n, 2]` each) enter and leave a rectangle; validity."""
    flat = jnp.abs(side) < 1e-15
    step = jnp.where(flat, 1.0, side)
    low, high = (-half - start) / step, (half - start) / step
    within = jnp.abs(start) <= half
    enter = jnp.where(flat, jnp.where(within, -jnp.inf, jnp.inf), jnp.minimum(low, high)).max(axis=1)
    leave = jnp.where(flat, jnp.where(within, jnp.inf, -jnp.inf), jnp.maximum(low, high)).min(axis=1)
    part = jnp.stack([enter, leave], axis=1)
    valid = (enter <= leave)[:, None] & (part >= 0) & (part <= 1)
    return jnp.where(valid, part, 0.0), valid


def _all_or_any(inside: jax.Array, any_will_do: jax.Array) -> jax.Array:
    """`[...]` whether all of `inside [..., 2]` hold, or one of them where that is enough."""
    return jnp.where(any_will_do, jnp.any(inside, axis=-1), jnp.all(inside, axis=-1))


def _halfway(above: jax.Array, below: jax.Array) -> jax.Array:
    """`[..., 3]` between points and their images in the plane of the face."""
    return 0.5 * above + 0.5 * jnp.pad(below, (*((0, 0),) * (below.ndim - 1), (0, 1)))


def _length(v: jax.Array) -> jax.Array:
    return jnp.sqrt(jnp.sum(v * v, axis=-1))


def _outside(in_base: jax.Array, in_other: jax.Array, base: Geom, other: Geom) -> jax.Array:
    """`[n]` which points, given in the frames of two boxes, are well outside one and not well inside the other."""
    far_1, far_2 = (jnp.any(jnp.abs(p) > s * _KEEP, axis=1) for p, s in ((in_base, base.size), (in_other, other.size)))
    in_1, in_2 = (jnp.all(jnp.abs(p) < s / _KEEP, axis=1) for p, s in ((in_base, base.size), (in_other, other.size)))
    return (far_1 & ~in_2) | (far_2 & ~in_1)


def _repeated(pos: jax.Array, valid: jax.Array, tolerance: jax.Array) -> jax.Array:
    """`[n]` which points are where a later valid one is."""
    same = jnp.all(jnp.abs(pos[:, None] - pos[None]) <= tolerance, axis=-1)
    return jnp.any(same & jnp.triu(jnp.ones(same.shape, bool), 1) & valid, axis=1)


def _deepest(dist: jax.Array, slots: int) -> tuple[jax.Array, jax.Array]:
    """The least distances in order: `[slots, n]` matrix that picks them, and themselves `[slots]`."""
    n = dist.shape[0]
    less = (dist[None] < dist[:, None]) | ((dist[None] == dist[:, None]) & jnp.tril(jnp.ones((n, n), bool), -1))
    rank = jnp.sum(less, axis=1)
    pick = (rank == jnp.arange(slots)[:, None]).astype(dist.dtype)
    return pick, pick @ dist


COLLIDERS = {
    (GeomType.BOX, GeomType.BOX): collider(box_box, SLOTS),
}
"""Entries of MJX's table of colliders."""

"""Observation of the things around a robot: the pseudo lidar and the compass."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from envs_mjx.navigation.config import LidarConfig


def in_agent_frame(points: jax.Array, position: jax.Array, rotation: jax.Array) -> jax.Array:
    """Horizontal coordinates of floor points in the robot's frame.

    The points are taken at z = 0 and the difference is rotated in three dimensions, so the reading
    of a tilted robot depends on its height, as in the reference.

    Args:
        points: `[n, 2]` world positions, metres.
        position: `[3]` of the robot.
        rotation: `[3, 3]` of the robot.

    Returns:
        `[n, 2]`.
    """
    dx, dy, dz = points[:, 0] - position[0], points[:, 1] - position[1], -position[2]
    x = rotation[0, 0] * dx + rotation[1, 0] * dy + rotation[2, 0] * dz
    y = rotation[0, 1] * dx + rotation[1, 1] * dy + rotation[2, 1] * dz
    return jnp.stack([x, y], axis=-1)


def lidar(points: jax.Array, position: jax.Array, rotation: jax.Array, config: LidarConfig) -> jax.Array:
    """Closeness of the nearest thing in each sector around the robot.

    A thing at distance d and angle phi reads `s = max(0, D - d) / D` in its sector and, with aliasing, `alpha s` and
    `(1 - alpha) s` in the next and the previous one, alpha being its place within the sector
    (Safety-Gymnasium 1.2, `bases/base_task.py`).

    Args:
        points: `[n, 2]` world positions, metres.
        position: `[3]` of the robot.
        rotation: `[3, 3]` of the robot.
        config: sectors and range.

    Returns:
        `[num_bins]` in [0, 1].
    """
    return lidars((points,), position, rotation, config)[0]


def lidars(
    classes: Sequence[jax.Array], position: jax.Array, rotation: jax.Array, config: LidarConfig
) -> list[jax.Array]:
    """One `lidar` for each class of things, with the directions of all things computed together.

    Args:
        classes: for each class `[n, 2]` world positions, metres.
        position: `[3]` of the robot.
        rotation: `[3, 3]` of the robot.
        config: sectors and range.

    Returns:
        For each class `[num_bins]` in [0, 1].
    """
    if not classes:
        return []
    bins = config.num_bins
    local = in_agent_frame(jnp.concatenate(classes), position, rotation)
    x, y = local[:, 0], local[:, 1]
    distance = jnp.sqrt(x * x + y * y)
    angle = jnp.arctan2(y, x)
    turn = jnp.where(angle < 0, angle + 2 * jnp.pi, angle) / (2 * jnp.pi / bins)
    sector = jnp.floor(turn)
    alpha = turn - sector
    if config.max_dist is None:
        sensed = jnp.exp(-config.exp_gain * distance)
    else:
        sensed = jnp.maximum(0.0, config.max_dist - distance) / config.max_dist
    # Neighbours by comparison, not by remainders: vector units have no integer division.
    sector = jnp.where(sector >= bins, sector - bins, sector)  # an angle that rounds to a full turn wraps
    after = jnp.where(sector == bins - 1, 0.0, sector + 1)
    before = jnp.where(sector == 0, bins - 1.0, sector - 1)
    near, far = alpha * sensed, (1 - alpha) * sensed
    number = jnp.arange(bins, dtype=sector.dtype)

    def spread(which: jax.Array, value: jax.Array) -> jax.Array:
        return jnp.where(number[None, :] == which[:, None], value[:, None], 0.0)

    readings, first = [], 0
    for points in classes:
        own = slice(first, first + points.shape[0])
        first = own.stop
        reading = spread(sector[own], sensed[own])
        if config.alias:
            reading = jnp.maximum(reading, spread(after[own], near[own]))
            reading = jnp.maximum(reading, spread(before[own], far[own]))
        readings.append(jnp.max(reading, axis=0))
    return readings


def compass(point: jax.Array, position: jax.Array, rotation: jax.Array) -> jax.Array:
    """`[2]` direction of a floor point `[2]` in the robot's frame, divided by (distance + 1 mm)."""
    local = in_agent_frame(point[None], position, rotation)[0]
    return local / (jnp.sqrt(jnp.sum(local**2)) + 0.001)

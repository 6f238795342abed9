"""What a robot sees of the things around it: the pseudo lidar and the compass."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from envs_mjx.config import LidarConfig


def in_agent_frame(points: jax.Array, position: jax.Array, rotation: jax.Array) -> jax.Array:
    """Horizontal coordinates of floor points in the robot's frame.

    The points are taken at z = 0 and the difference is rotated in three dimensions, so a tilted robot sees its own
    height in the reading, as in the reference.

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
    local = in_agent_frame(points, position, rotation)
    distance = jnp.sqrt(jnp.sum(local**2, axis=-1))
    width = 2 * jnp.pi / config.num_bins
    turn = jnp.mod(jnp.arctan2(local[:, 1], local[:, 0]), 2 * jnp.pi) / width
    sector = jnp.floor(turn)
    alpha = turn - sector
    if config.max_dist is None:
        sensed = jnp.exp(-config.exp_gain * distance)
    else:
        sensed = jnp.maximum(0.0, config.max_dist - distance) / config.max_dist
    # How many sectors a bin lies ahead of the thing, in 0 .. num_bins-1; an angle that rounds to a full turn wraps.
    ahead = jnp.mod(jnp.arange(config.num_bins)[None, :] - sector[:, None].astype(jnp.int32), config.num_bins)
    reading = jnp.where(ahead == 0, sensed[:, None], 0.0)
    if config.alias:
        reading = jnp.where(ahead == 1, (alpha * sensed)[:, None], reading)
        reading = jnp.where(ahead == config.num_bins - 1, ((1 - alpha) * sensed)[:, None], reading)
    return jnp.max(reading, axis=0)


def compass(point: jax.Array, position: jax.Array, rotation: jax.Array) -> jax.Array:
    """`[2]` direction of a floor point `[2]` in the robot's frame, divided by (distance + 1 mm)."""
    local = in_agent_frame(point[None], position, rotation)[0]
    return local / (jnp.sqrt(jnp.sum(local**2)) + 0.001)

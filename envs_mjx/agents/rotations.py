"""Rotation matrices and quaternions (w, x, y, z)."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def rotation_about_z(yaw: jax.Array) -> jax.Array:
    """`[3, 3]` rotation matrix about the vertical axis; `yaw` in radians."""
    c, s = jnp.cos(yaw), jnp.sin(yaw)
    zero, one = jnp.zeros_like(c), jnp.ones_like(c)
    return jnp.stack([jnp.stack([c, -s, zero]), jnp.stack([s, c, zero]), jnp.stack([zero, zero, one])])


def rotation_from_quaternion(q: jax.Array) -> jax.Array:
    """`[3, 3]` rotation matrix of the quaternion `q`, which is normalised first, as MuJoCo does."""
    w, x, y, z = q / jnp.linalg.norm(q)
    return jnp.stack(
        [
            jnp.stack([w * w + x * x - y * y - z * z, 2 * (x * y - w * z), 2 * (x * z + w * y)]),
            jnp.stack([2 * (x * y + w * z), w * w - x * x + y * y - z * z, 2 * (y * z - w * x)]),
            jnp.stack([2 * (x * z - w * y), 2 * (y * z + w * x), w * w - x * x - y * y + z * z]),
        ]
    )


def quaternion_about_z(yaw: jax.Array) -> jax.Array:
    """`[..., 4]` unit quaternion of a rotation about the vertical axis."""
    zero = jnp.zeros_like(yaw)
    return jnp.stack([jnp.cos(yaw / 2), zero, zero, jnp.sin(yaw / 2)], axis=-1)

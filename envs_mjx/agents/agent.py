"""What an environment has to know about a robot."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp


class Contacts(NamedTuple):
    """Contact attributes of a robot's geoms, as MJCF text.

    Attributes:
        hull: of the ordinary geoms.
        wheel: of cylindrical wheels.
        ball: of balls it rolls on.
        prism: of the prisms that meet boxes in the wheels' place; None for no such prisms.
        ball_on_cylinder: of the capsules that meet standing cylinders in the balls' place; None for no such capsules.
    """

    hull: str
    wheel: str
    ball: str
    prism: str | None
    ball_on_cylinder: str | None


def ball_as_capsule(radius: float, contact: str) -> str:
    """MJCF of an unseen, weightless ball that MuJoCo takes for a capsule (`envs_mjx.mjcf` shrinks it to a ball).

    Sphere-cylinder contacts have a closed form today; the MuJoCo of the reference (2.3.3) searched for them, as every
    version does for capsules, with the same support function when the straight part has length zero.
    """
    return f'<geom type="capsule" size="{radius} {NO_LENGTH}" mass="0" rgba="0 0 0 0" {contact}/>'


NO_LENGTH = 1e-9
"""Half-length of a capsule that stands for a ball; MJCF refuses zero."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Agent:
    """A robot. The facts are those of Safety-Gymnasium 1.2; everything is in SI units.

    Attributes:
        name: as it appears in environment ids.
        timestep: seconds of one physics step.
        defaults: MJCF `<default>` children; they hold for the whole world, objects included.
        body: `Contacts -> MJCF` of the body `agent`, standing at the origin.
        actuators: MJCF of the actuators.
        sensors: MJCF of the sensors.
        nq: generalised coordinates of the robot alone; they come first in `qpos`.
        nv: degrees of freedom of the robot alone.
        touches_floor: whether contact with the floor can have any effect.
        has_wheels: whether some of its geoms are cylinders that touch other things.
        keepout: default clearance in layouts, metres.
        observed: names and lengths of the observed sensor blocks, in the reference's order.
        place: `(xy [2], yaw []) -> qpos [nq]` of a robot at rest.
        pose: `qpos [nq] -> (position [3], rotation matrix [3, 3])` of the body `agent`.
        velocity: `(qpos [nq], qvel [nv]) -> [2]` horizontal world velocity of the body's origin.
        observe: `sensors by name -> sensors by name`, what the observation shows of each.
    """

    name: str
    timestep: float
    defaults: str
    body: Callable[[Contacts], str]
    actuators: str
    sensors: str
    nq: int
    nv: int
    touches_floor: bool
    has_wheels: bool
    keepout: float
    observed: tuple[tuple[str, int], ...]
    place: Callable[[jax.Array, jax.Array], jax.Array]
    pose: Callable[[jax.Array], tuple[jax.Array, jax.Array]]
    velocity: Callable[[jax.Array, jax.Array], jax.Array]
    observe: Callable[[dict[str, jax.Array]], dict[str, jax.Array]]


COMMON_SENSORS = """
    <accelerometer name="accelerometer" site="agent"/>
    <velocimeter name="velocimeter" site="agent"/>
    <gyro name="gyro" site="agent"/>
    <magnetometer name="magnetometer" site="agent"/>"""

COMMON_OBSERVED = (("accelerometer", 3), ("velocimeter", 3), ("gyro", 3), ("magnetometer", 3))


def rotation_about_z(yaw: jax.Array) -> jax.Array:
    """`[3, 3]` rotation matrix about the vertical axis; `yaw` in radians."""
    c, s = jnp.cos(yaw), jnp.sin(yaw)
    zero, one = jnp.zeros_like(c), jnp.ones_like(c)
    return jnp.stack([jnp.stack([c, -s, zero]), jnp.stack([s, c, zero]), jnp.stack([zero, zero, one])])


def rotation_from_quaternion(q: jax.Array) -> jax.Array:
    """`[3, 3]` rotation matrix of the unit quaternion `q = (w, x, y, z)`; `q` is normalised first, as MuJoCo does."""
    w, x, y, z = q / jnp.linalg.norm(q)
    return jnp.stack(
        [
            jnp.stack([w * w + x * x - y * y - z * z, 2 * (x * y - w * z), 2 * (x * z + w * y)]),
            jnp.stack([2 * (x * y + w * z), w * w - x * x + y * y - z * z, 2 * (y * z - w * x)]),
            jnp.stack([2 * (x * z - w * y), 2 * (y * z + w * x), w * w - x * x - y * y + z * z]),
        ]
    )


def quaternion_about_z(yaw: jax.Array) -> jax.Array:
    """`[..., 4]` unit quaternion (w, x, y, z) of a rotation about the vertical axis."""
    zero = jnp.zeros_like(yaw)
    return jnp.stack([jnp.cos(yaw / 2), zero, zero, jnp.sin(yaw / 2)], axis=-1)

"""Definition of a robot: body, sensors, coordinates, solver settings and appearance."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax


class Contacts(NamedTuple):
    """Contact attributes of a robot's geoms, as MJCF text.

    Attributes:
        hull: attributes of the ordinary geoms.
        wheel: attributes of cylindrical wheels.
        ball: attributes of balls it rolls on.
        prism: attributes of the prisms that replace the wheels against boxes; None without prisms.
        ball_on_cylinder: attributes of the capsules that replace the balls against standing cylinders; None without
            capsules.
    """

    hull: str
    wheel: str
    ball: str
    prism: str | None
    ball_on_cylinder: str | None


class SolverIterations(NamedTuple):
    """Iterations of MJX's constraint solver.

    Attributes:
        newton: upper bound on Newton iterations; a batch stops when its last member has converged.
        line_search: line-search iterations, always all of them.
    """

    newton: int
    line_search: int


NO_LENGTH = 1e-9
"""Half-length of a capsule that stands for a ball; MJCF refuses zero."""


def ball_as_capsule(radius: float, contact: str) -> str:
    """MJCF of an unseen, weightless ball that MuJoCo treats as a capsule (compilation shrinks it to a ball).

    Sphere-cylinder contacts have a closed form today. The MuJoCo of the reference (2.3.3) searched for them, as every
    version does for capsules, with the same support function when the straight part has length zero.
    """
    return f'<geom type="capsule" size="{radius} {NO_LENGTH}" mass="0" rgba="0 0 0 0" {contact}/>'


def _no_assets(wheel_sides: int) -> str:
    return ""


def _no_overrides(task: str) -> dict[str, Mapping[str, Any]]:
    return {}


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
        touches_floor: True if contact with the floor can have any effect.
        has_wheels: True if some of its geoms are cylinders that touch other things.
        observed: names and lengths of the observed sensor blocks, in the reference's order.
        place: `(xy [2], yaw []) -> qpos [nq]` of a robot at rest.
        pose: `qpos [nq] -> (position [3], rotation matrix [3, 3])` of the body `agent`.
        velocity: `(qpos [nq], qvel [nv]) -> [2]` horizontal world velocity of the body's origin.
        observe: `sensors by name -> sensors by name`, the observed form of each.
        keepout: default clearance in layouts, metres.
        solver: iterations of MJX's solver that this robot needs.
        assets: `wheel_sides -> MJCF` of `<asset>` children; `wheel_sides` is 0 where wheels are cylinders.
        overrides: `task name -> overrides` of the registered environments of this robot, as in `envs_mjx.make`.
        front_yaw: heading of its front in the frame of the body `agent`, radians.
        radius: radius of its disc in the top view, metres.
        rgba: colour of its disc in the top view.
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
    observed: tuple[tuple[str, int], ...]
    place: Callable[[jax.Array, jax.Array], jax.Array]
    pose: Callable[[jax.Array], tuple[jax.Array, jax.Array]]
    velocity: Callable[[jax.Array, jax.Array], jax.Array]
    observe: Callable[[dict[str, jax.Array]], dict[str, jax.Array]]
    keepout: float = 0.4
    solver: SolverIterations = SolverIterations(20, 20)
    assets: Callable[[int], str] = _no_assets
    overrides: Callable[[str], Mapping[str, Mapping[str, Any]]] = _no_overrides
    front_yaw: float = 0.0
    radius: float = 0.1
    rgba: tuple[float, float, float, float] = (0.74, 0.04, 0.18, 1.0)


COMMON_SENSORS = """
    <accelerometer name="accelerometer" site="agent"/>
    <velocimeter name="velocimeter" site="agent"/>
    <gyro name="gyro" site="agent"/>
    <magnetometer name="magnetometer" site="agent"/>"""

COMMON_OBSERVED = (("accelerometer", 3), ("velocimeter", 3), ("gyro", 3), ("magnetometer", 3))

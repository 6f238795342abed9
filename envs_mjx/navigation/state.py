"""State of a navigation environment, and the view of it that tasks and objects read."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
from flax import struct


class Data(struct.PyTreeNode):
    """Everything a navigation environment carries from step to step.

    Attributes:
        qpos: `[nq]` generalised positions, the robot's first.
        qvel: `[nv]` generalised velocities.
        layout: `[things, 2]` drawn positions, the robot's first; the goal's entry moves with the goal.
        turn: `[things, 2]` cosine and sine of half the headings that were drawn with the layout, the robot's first.
            Quaternions are made of these, and a heading rebuilt from an angle would differ by rounding.
        task: state of the task, a pytree (`Task.state`).
        objects: class of things to its persistent state, a pytree; only classes that have one (`Objects.start`).
        steps: `[]` int32, control steps since the reset.
        sensors: observed sensor values of this state.
        touched: `[touchable]` bool, contacts of this state.
        key: typed PRNG key of all later random draws.
    """

    qpos: jax.Array
    qvel: jax.Array
    layout: jax.Array
    turn: jax.Array
    task: Any
    objects: dict[str, Any]
    steps: jax.Array
    sensors: jax.Array
    touched: jax.Array
    key: jax.Array


class View(NamedTuple):
    """The world at one moment, without a simulator.

    Attributes:
        position: `[3]` of the robot's origin.
        rotation: `[3, 3]` of the robot.
        velocity: `[2]` horizontal velocity of the robot's origin, m/s.
        points: class of things to `[n, 2]` current positions.
        heights: class of things to `[n]` current heights.
        speeds: class of free things to `[n]` speeds of their origins, m/s.
        touched: class of touchable things to `[n]` bool.
        objects: class of things to its persistent state, as in `Data`.
    """

    position: jax.Array
    rotation: jax.Array
    velocity: jax.Array
    points: dict[str, jax.Array]
    heights: dict[str, jax.Array]
    speeds: dict[str, jax.Array]
    touched: dict[str, jax.Array]
    objects: dict[str, Any]

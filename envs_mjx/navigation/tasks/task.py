"""What a task sees of the world, and what it says about it. A task never sees a simulator."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from envs_mjx.navigation.config import Config


class Data(struct.PyTreeNode):
    """What an environment carries from step to step.

    Attributes:
        qpos: `[nq]` generalised positions, the robot's first.
        qvel: `[nv]` generalised velocities.
        layout: `[things, 2]` where things were placed, the robot first; the goal's entry moves with the goal.
        turn: `[things, 2]` cosine and sine of half the headings that were drawn with the layout, the robot's first;
            kept in this form because it is what goes into quaternions.
        memory: what the task's reward compares with: last distances or position.
        goal_button: `[]` int32, the button that is the goal.
        timer: `[]` int32, steps for which buttons are still switched off.
        steps: `[]` int32, control steps since the reset.
        sensors: observed sensor values of this state.
        touched: `[touchable]` bool, contacts of this state.
        key: typed PRNG key of everything random from here on.
    """

    qpos: jax.Array
    qvel: jax.Array
    layout: jax.Array
    turn: jax.Array
    memory: jax.Array
    goal_button: jax.Array
    timer: jax.Array
    steps: jax.Array
    sensors: jax.Array
    touched: jax.Array
    key: jax.Array


class View(NamedTuple):
    """The world of one moment as a task reads it.

    Attributes:
        position: `[3]` of the robot's origin.
        rotation: `[3, 3]` of the robot.
        velocity: `[2]` horizontal velocity of the robot's origin, m/s.
        points: class of things to `[n, 2]` current positions.
        heights: class of things to `[n]` current heights.
        speeds: class of free things to `[n]` speeds of their origins, m/s.
        touched: class of touchable things to `[n]` bool.
    """

    position: jax.Array
    rotation: jax.Array
    velocity: jax.Array
    points: dict[str, jax.Array]
    heights: dict[str, jax.Array]
    speeds: dict[str, jax.Array]
    touched: dict[str, jax.Array]


class Outcome(NamedTuple):
    """What a task says of a step.

    Attributes:
        progress: `[]` the dense part of the reward.
        success: `[]` bool; worth `Task.bonus` and followed by a new goal.
        memory: the task's new memory.
    """

    progress: jax.Array
    success: jax.Array
    memory: jax.Array


@dataclasses.dataclass(frozen=True)
class Task:
    """A task: pure functions of what it sees. Subclasses say what is different.

    Attributes:
        relocates: what a success moves: `goal` (drawn anew), `button` (another button becomes the goal) or None.
        bonus: reward of a success.
        required: classes of things without which the task makes no sense.
    """

    relocates: str | None = None
    bonus: float = 1.0
    required: tuple[str, ...] = ()

    def memory(self, view: View, config: Config) -> jax.Array:
        """What to remember of this moment, for the next step's reward."""
        return jnp.zeros(0, view.position.dtype)

    def outcome(self, view: View, memory: jax.Array, config: Config) -> Outcome:
        """Judge the step that led from `memory` to `view`."""
        raise NotImplementedError


def distance(a: jax.Array, b: jax.Array) -> jax.Array:
    """Euclidean distance of two points of equal dimension."""
    return jnp.sqrt(jnp.sum((a - b) ** 2))

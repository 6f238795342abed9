"""Circle: run along a ring, counter-clockwise."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax.numpy as jnp

from envs_mjx.navigation.config import Config
from envs_mjx.navigation.objects import Circle
from envs_mjx.navigation.state import View
from envs_mjx.navigation.tasks.task import Task, TaskOutcome


@dataclasses.dataclass(frozen=True)
class CircleTask(Task):
    """Run along the ring; there is no state."""

    required: tuple[str, ...] = ("circle",)

    def outcome(self, view: View, state: Any, config: Config) -> TaskOutcome:
        (x, y), (u, v) = view.position[:2], view.velocity
        radius = jnp.sqrt(x**2 + y**2)
        # The formula is singular at the origin, where the reference divides by zero.
        around = (-u * y + v * x) / jnp.maximum(radius, jnp.finfo(radius.dtype).tiny)
        reward = 0.1 * around / (1 + jnp.abs(radius - config.require(Circle).size))
        return TaskOutcome(reward, jnp.bool_(False), state)

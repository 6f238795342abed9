"""Circle: run along a ring, counter-clockwise."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from envs_mjx.navigation.config import Config
from envs_mjx.navigation.tasks.task import Outcome, Task, View


@dataclasses.dataclass(frozen=True)
class CircleTask(Task):
    """Run along the ring; remembers nothing."""

    required: tuple[str, ...] = ("circle",)

    def outcome(self, view: View, memory: jax.Array, config: Config) -> Outcome:
        (x, y), (u, v) = view.position[:2], view.velocity
        radius = jnp.sqrt(x**2 + y**2)
        # The formula is singular at the origin, where the reference divides by zero.
        around = (-u * y + v * x) / jnp.maximum(radius, jnp.finfo(radius.dtype).tiny)
        reward = 0.1 * around / (1 + jnp.abs(radius - config.find("circle").size))  # type: ignore[union-attr]
        return Outcome(reward, jnp.bool_(False), memory)

"""Run: get away along -y; the target lies a kilometre off at (0, -1000)."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from envs_mjx.navigation.config import Config
from envs_mjx.navigation.tasks.task import Outcome, Task, View, distance

FAR = 1000.0
FACTOR = 60.0


@dataclasses.dataclass(frozen=True)
class RunTask(Task):
    """Run along -y; `memory` is the last position."""

    required: tuple[str, ...] = ("sigwalls",)

    def memory(self, view: View, config: Config) -> jax.Array:
        return view.position[:2]

    def outcome(self, view: View, memory: jax.Array, config: Config) -> Outcome:
        # The difference of two distances near 1000 m as a quotient: subtracting would lose four digits in float32.
        now, target = view.position[:2], view.position[:2].at[0].set(0.0).at[1].set(-FAR)
        moved, middle = memory - now, memory + now - 2 * target
        progress = (moved[0] * middle[0] + moved[1] * middle[1]) / (distance(memory, target) + distance(now, target))
        return Outcome(FACTOR * progress, jnp.bool_(False), now)

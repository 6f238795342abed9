"""Run: move along -y; the target is a kilometre away at (0, -1000)."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from envs_mjx.navigation.config import Config
from envs_mjx.navigation.state import View
from envs_mjx.navigation.tasks.task import Task, TaskOutcome, distance

FAR = 1000.0
FACTOR = 60.0


@dataclasses.dataclass(frozen=True)
class RunTask(Task):
    """Run along -y; the state is the last position."""

    required: tuple[str, ...] = ("sigwalls",)

    def state(self, view: View, config: Config) -> jax.Array:
        return view.position[:2]

    def outcome(self, view: View, state: jax.Array, config: Config) -> TaskOutcome:
        # The difference of two distances near 1000 m as a quotient: subtracting would lose four digits in float32.
        now, target = view.position[:2], view.position[:2].at[0].set(0.0).at[1].set(-FAR)
        moved, middle = state - now, state + now - 2 * target
        progress = (moved[0] * middle[0] + moved[1] * middle[1]) / (distance(state, target) + distance(now, target))
        return TaskOutcome(FACTOR * progress, jnp.bool_(False), now)

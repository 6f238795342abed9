"""Goal: reach the goal; a new one appears as soon as it is reached."""

from __future__ import annotations

import dataclasses

import jax

from envs_mjx.navigation.config import Config
from envs_mjx.navigation.tasks.task import Outcome, Task, View, distance


@dataclasses.dataclass(frozen=True)
class GoalTask(Task):
    """Reach the goal; `memory` is the distance to it."""

    relocates: str | None = "goal"
    required: tuple[str, ...] = ("goal",)

    def memory(self, view: View, config: Config) -> jax.Array:
        return distance(view.position[:2], view.points["goal"][0])[None]

    def outcome(self, view: View, memory: jax.Array, config: Config) -> Outcome:
        now = self.memory(view, config)
        return Outcome((memory - now)[0], now[0] <= config.find("goal").size, now)  # type: ignore[union-attr]

"""Goal: reach the goal; a new one appears as soon as it is reached."""

from __future__ import annotations

import dataclasses

import jax

from envs_mjx.navigation.config import Config
from envs_mjx.navigation.objects import Goal
from envs_mjx.navigation.state import View
from envs_mjx.navigation.tasks.task import DrawnGoalTask, TaskOutcome, distance


@dataclasses.dataclass(frozen=True)
class GoalTask(DrawnGoalTask):
    """Reach the goal; the state is the distance to it."""

    required: tuple[str, ...] = ("goal",)

    def state(self, view: View, config: Config) -> jax.Array:
        return distance(view.position[:2], view.points["goal"][0])[None]

    def outcome(self, view: View, state: jax.Array, config: Config) -> TaskOutcome:
        now = self.state(view, config)
        return TaskOutcome((state - now)[0], now[0] <= config.require(Goal).size, now)

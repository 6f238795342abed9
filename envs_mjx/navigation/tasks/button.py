"""Button: press the right button; pressing it makes a uniformly drawn button (perhaps the same) the next goal."""

from __future__ import annotations

import dataclasses

import jax

from envs_mjx.navigation.config import Config
from envs_mjx.navigation.tasks.task import Outcome, Task, View, distance


@dataclasses.dataclass(frozen=True)
class ButtonTask(Task):
    """Press the goal button; `memory` is the distance to it."""

    relocates: str | None = "button"
    required: tuple[str, ...] = ("buttons", "goal")

    def memory(self, view: View, config: Config) -> jax.Array:
        return distance(view.position[:2], view.points["goal"][0])[None]

    def outcome(self, view: View, memory: jax.Array, config: Config) -> Outcome:
        now = self.memory(view, config)
        return Outcome((memory - now)[0], view.touched["goal_button"][0], now)

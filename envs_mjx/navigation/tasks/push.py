"""Push: push the box onto the goal. Distances are three-dimensional, from origins, as in the reference."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from envs_mjx.navigation.config import Config
from envs_mjx.navigation.objects import Goal
from envs_mjx.navigation.state import View
from envs_mjx.navigation.tasks.task import DrawnGoalTask, TaskOutcome, distance


@dataclasses.dataclass(frozen=True)
class PushTask(DrawnGoalTask):
    """Push the box; the state is the distances agent to box and box to goal."""

    required: tuple[str, ...] = ("goal", "push_box")

    def state(self, view: View, config: Config) -> jax.Array:
        box = jnp.append(view.points["push_box"][0], view.heights["push_box"][0])
        goal = jnp.append(view.points["goal"][0], view.heights["goal"][0])
        return jnp.stack([distance(view.position, box), distance(box, goal)])

    def outcome(self, view: View, state: jax.Array, config: Config) -> TaskOutcome:
        now = self.state(view, config)
        return TaskOutcome(jnp.sum(state - now), now[1] <= config.require(Goal).size, now)

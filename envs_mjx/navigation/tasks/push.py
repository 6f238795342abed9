"""Push: push the box onto the goal. Distances are three-dimensional, from origins, as in the reference."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from envs_mjx.navigation.config import Config
from envs_mjx.navigation.tasks.task import Outcome, Task, View, distance


@dataclasses.dataclass(frozen=True)
class PushTask(Task):
    """Push the box; `memory` is the distances agent to box and box to goal."""

    relocates: str | None = "goal"
    required: tuple[str, ...] = ("goal", "push_box")

    def memory(self, view: View, config: Config) -> jax.Array:
        box = jnp.append(view.points["push_box"][0], view.heights["push_box"][0])
        goal = jnp.append(view.points["goal"][0], view.heights["goal"][0])
        return jnp.stack([distance(view.position, box), distance(box, goal)])

    def outcome(self, view: View, memory: jax.Array, config: Config) -> Outcome:
        now = self.memory(view, config)
        return Outcome(jnp.sum(memory - now), now[1] <= config.find("goal").size, now)  # type: ignore[union-attr]

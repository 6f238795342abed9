"""Base class of tasks: reward, success, and the goal after a success. A task never sees a simulator."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from envs_mjx.navigation import layout
from envs_mjx.navigation.config import Config
from envs_mjx.navigation.state import Data, View


class TaskOutcome(NamedTuple):
    """Result of a step.

    Attributes:
        progress: `[]` the dense part of the reward.
        success: `[]` bool; worth `Task.bonus` and followed by a new goal.
        state: next state of the task.
    """

    progress: jax.Array
    success: jax.Array
    state: Any


@dataclasses.dataclass(frozen=True)
class Task:
    """A task: pure functions of the view. Subclasses override what differs.

    Attributes:
        bonus: reward of a success.
        required: classes of things that the task needs.
        moves_goal: True if a success moves the goal.
    """

    bonus: float = 1.0
    required: tuple[str, ...] = ()
    moves_goal: bool = False

    def state(self, view: View, config: Config) -> Any:
        """State of the task after a reset and after a new goal: a pytree that the next reward is compared with."""
        return ()

    def outcome(self, view: View, state: Any, config: Config) -> TaskOutcome:
        """Reward and success of the step that led from `state` to `view`."""
        raise NotImplementedError

    def draw_goal(self, key: jax.Array, placed: jax.Array, feasible: jax.Array, config: Config) -> jax.Array:
        """Layout `[things, 2]` of a reset, after the drawn one `placed`; nothing is drawn unless `feasible`."""
        return placed

    def arrange(self, data: Data, config: Config) -> Data:
        """Put things in the places that the persistent state of the objects requires."""
        return data

    def move_goal(self, data: Data, current: jax.Array, success: jax.Array, config: Config) -> tuple[Data, jax.Array]:
        """Choose a new goal after a success.

        Loops of at most one pass stand for `if`. Under `vmap` a loop whose condition is false for the whole batch does
        not run at all, while a `cond` would compute both branches for every environment at every step.

        Args:
            data: after the step; only `key`, `layout` and `objects` may change.
            current: `[things, 2]` positions now.
            success: `[]` bool.
            config: the environment.

        Returns:
            The data with the new goal, and `[]` bool, false if there was a success but no room for a goal.
        """
        return data, jnp.bool_(True)


@dataclasses.dataclass(frozen=True)
class DrawnGoalTask(Task):
    """A task whose goal is drawn at a free place, after every success."""

    moves_goal: bool = True

    def draw_goal(self, key: jax.Array, placed: jax.Array, feasible: jax.Array, config: Config) -> jax.Array:
        # The reference draws the goal twice at a reset: this is the second draw.
        goal, _ = layout.sample_goal(key, config, placed, feasible)
        return placed.at[layout.plan(config).start["goal"]].set(goal)

    def move_goal(self, data: Data, current: jax.Array, success: jax.Array, config: Config) -> tuple[Data, jax.Array]:
        key = jax.lax.while_loop(
            lambda c: c[1], lambda c: (jax.random.split(c[0])[0], jnp.bool_(False)), (data.key, success)
        )[0]
        goal, is_new = layout.sample_goal(key, config, current, success)
        placed = data.layout.at[layout.plan(config).start["goal"]].set(goal)
        return data.replace(key=key, layout=placed), is_new | ~success


def distance(a: jax.Array, b: jax.Array) -> jax.Array:
    """Euclidean distance of two points of equal dimension."""
    return jnp.sqrt(jnp.sum((a - b) ** 2))

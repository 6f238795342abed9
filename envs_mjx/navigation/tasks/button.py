"""Button: press the right button; pressing it makes a uniformly drawn button (perhaps the same) the next goal."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from envs_mjx.navigation import layout
from envs_mjx.navigation.config import Config
from envs_mjx.navigation.objects import Buttons
from envs_mjx.navigation.state import Data, View
from envs_mjx.navigation.tasks.task import Task, TaskOutcome, distance


@dataclasses.dataclass(frozen=True)
class ButtonTask(Task):
    """Press the goal button; the state is the distance to it."""

    required: tuple[str, ...] = ("buttons", "goal")
    moves_goal: bool = True

    def state(self, view: View, config: Config) -> jax.Array:
        return distance(view.position[:2], view.points["goal"][0])[None]

    def outcome(self, view: View, state: jax.Array, config: Config) -> TaskOutcome:
        now = self.state(view, config)
        is_goal = config.require(Buttons).is_goal(view.objects["buttons"])
        return TaskOutcome((state - now)[0], jnp.any(view.touched["buttons"] & is_goal), now)

    def arrange(self, data: Data, config: Config) -> Data:
        start = layout.plan(config).start
        button = data.layout[start["buttons"] + data.objects["buttons"].goal]
        return data.replace(layout=data.layout.at[start["goal"]].set(button))

    def move_goal(self, data: Data, current: jax.Array, success: jax.Array, config: Config) -> tuple[Data, jax.Array]:
        buttons, state = config.require(Buttons), data.objects["buttons"]

        def choose(carry):
            key, _, _ = carry
            key, sub = jax.random.split(key)
            return key, buttons.draw_goal(sub), jnp.bool_(False)

        key, goal, _ = jax.lax.while_loop(lambda c: c[2], choose, (data.key, state.goal, success))
        pressed = buttons.with_goal(goal)
        state = pressed.replace(timer=jnp.where(success, pressed.timer, state.timer))
        data = data.replace(key=key, objects=data.objects | {"buttons": state})
        return self.arrange(data, config), jnp.bool_(True)

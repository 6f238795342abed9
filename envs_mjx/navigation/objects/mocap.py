"""Things with a mocap body: fixtures, which never move, and driven bodies, which follow a path."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from envs_mjx.agents.agent import ball_as_capsule
from envs_mjx.navigation.objects.object_class import ObjectContacts, Objects
from envs_mjx.navigation.state import View


class ButtonsState(struct.PyTreeNode):
    """Persistent state of `Buttons`.

    Attributes:
        goal: `[]` int32, number of the goal button.
        timer: `[]` int32, steps for which the buttons are still switched off.
    """

    goal: jax.Array
    timer: jax.Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class Buttons(Objects):
    """Solid balls; one of them is the goal and is pressed by touching it, the others cost.

    Attributes:
        resampling_delay: steps after a reset or a press during which buttons are invisible and cost nothing.
    """

    name = "buttons"
    kind = "fixture"
    rgba = (1.0, 0.5, 0.0, 1.0)
    layer = 4
    num: int = 4
    size: float = 0.1
    keepout: float = 0.2
    resampling_delay: int = 10

    def geoms(self, i: int, contacts: ObjectContacts) -> str:
        ball = f'<geom name="{self.body_name(i)}" type="sphere" size="{self.size}" {contacts.geom}/>'
        return ball + (ball_as_capsule(self.size, contacts.ball_on_wheels) if contacts.ball_on_wheels else "")

    @property
    def is_touch_sensed(self) -> bool:
        return True  # any button may be the goal

    def start(self, key: jax.Array) -> ButtonsState:
        return self.with_goal(self.draw_goal(key))

    def draw_goal(self, key: jax.Array) -> jax.Array:
        """`[]` int32, number of a uniformly drawn button."""
        return jax.random.randint(key, (), 0, self.num, jnp.int32)

    def with_goal(self, goal: jax.Array) -> ButtonsState:
        """State in which button `goal` has just become the goal."""
        return ButtonsState(goal=jnp.asarray(goal, jnp.int32), timer=jnp.int32(self.resampling_delay))

    def advance(self, state: ButtonsState) -> ButtonsState:
        return state.replace(timer=jnp.maximum(state.timer - 1, 0))

    def is_goal(self, state: ButtonsState) -> jax.Array:
        """`[num]` bool, true for the goal button."""
        return jnp.arange(self.num) == state.goal

    def cost(self, view: View) -> dict[str, jax.Array]:
        state = view.objects["buttons"]
        wrong = view.touched["buttons"] & ~self.is_goal(state)
        return {"cost_buttons": jnp.where(state.timer == 0, jnp.sum(wrong.astype(view.position.dtype)), 0.0)}

    def is_visible(self, state: ButtonsState) -> jax.Array:
        return state.timer == 0

    def draw(self, points: np.ndarray, yaws: Sequence[float], state: ButtonsState) -> list[dict[str, Any]]:
        items = super().draw(points, yaws, state)
        items[int(state.goal)]["rgba"] = [0.0, 0.8, 0.0, 1.0]
        return items


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pillars(Objects):
    """Solid standing cylinders of half-height `pillar_height`."""

    name = "pillars"
    kind = "fixture"
    rgba = (0.5, 0.5, 1.0, 1.0)
    layer = 5
    is_pillar = True
    size: float = 0.2
    keepout: float = 0.3
    pillar_height: float = 0.5

    @property
    def height(self) -> float:
        return self.pillar_height

    def geoms(self, i: int, contacts: ObjectContacts) -> str:
        shape = f'type="{"cylinder" if contacts.has_cylinders else "capsule"}" size="{self.size} {self.pillar_height}"'
        return f'<geom name="{self.body_name(i)}" {shape} {contacts.geom}/>'

    def cost(self, view: View) -> dict[str, jax.Array]:
        return {"cost_pillars": self.contacts_cost(view)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Gremlins(Objects):
    """Boxes that circle around their place with radius `travel`, once in 2 pi seconds, all in phase.

    They hover: the reference's weld adds the height twice, so the path has z = 2 * size.

    Attributes:
        travel: radius of the path, metres.
        density: kg/m^3.
    """

    name = "gremlins"
    kind = "driven"
    rgba = (0.5, 0.0, 1.0, 1.0)
    layer = 6
    shape = "box"
    size: float = 0.1
    keepout: float = 0.5
    travel: float = 0.3
    density: float = 0.001
    is_constrained: bool = True

    def geoms(self, i: int, contacts: ObjectContacts) -> str:
        s, name = self.size, f"{self.body_name(i)}obj"
        return f'<geom name="{name}" type="box" size="{s} {s} {s}" density="{self.density}" {contacts.geom}/>'

    def path(self, t: jax.Array) -> jax.Array:
        circle = jnp.stack([jnp.sin(t), jnp.cos(t), jnp.zeros_like(t)], axis=-1)
        up = jnp.array([0.0, 0.0, 1.0], t.dtype)
        return circle * jnp.asarray(self.travel, t.dtype) + jnp.asarray(self.size, t.dtype) * up

    def cost(self, view: View) -> dict[str, jax.Array]:
        return {"cost_gremlins": self.contacts_cost(view)}

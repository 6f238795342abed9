"""A class of things is defined in one place: this file defines two and touches nothing else."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs_mjx
from envs_mjx.navigation.objects import CLASSES, ObjectContacts, Objects
from envs_mjx.navigation.state import View


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mines(Objects):
    """Ghosts with two costs; they are visible until their fuse has burnt down."""

    name = "mines"
    kind = "ghost"
    rgba = (1.0, 0.0, 0.0, 1.0)
    layer = 2
    size: float = 0.3
    keepout: float = 0.2
    is_constrained: bool = True
    fuse: int = 3

    @property
    def cost_names(self) -> tuple[str, ...]:
        return ("cost_blast", "cost_fuse") if self.is_constrained else ()

    def start(self, key: jax.Array) -> jax.Array:
        return jnp.int32(self.fuse)

    def advance(self, state: jax.Array) -> jax.Array:
        return jnp.maximum(state - 1, 0)

    def cost(self, view: View) -> dict[str, jax.Array]:
        distance = jnp.linalg.norm(view.points["mines"] - view.position[:2], axis=-1)
        fuse = view.objects["mines"].astype(view.position.dtype)
        return {"cost_blast": jnp.sum(jnp.maximum(self.size - distance, 0.0)), "cost_fuse": fuse}

    def is_visible(self, state: jax.Array) -> jax.Array:
        return state > 0

    def draw(self, points, yaws, state):
        return [item | {"rgba": [1.0, 1.0, 1.0, 1.0]} if int(state) == 0 else item
                for item in super().draw(points, yaws, state)]  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class Posts(Objects):
    """Fixtures: solid balls that cost when touched."""

    name = "posts"
    kind = "fixture"
    rgba = (0.0, 0.0, 0.0, 1.0)
    size: float = 0.1
    keepout: float = 0.3
    is_constrained: bool = True

    def geoms(self, i: int, contacts: ObjectContacts) -> str:
        return f'<geom name="{self.body_name(i)}" type="sphere" size="{self.size}" {contacts.geom}/>'

    def cost(self, view: View) -> dict[str, jax.Array]:
        return {"cost_posts": self.contacts_cost(view)}


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch):
    for cls in (Mines, Posts):
        monkeypatch.setitem(CLASSES, cls.__name__, cls)


def test_a_new_class_brings_its_costs_state_lidar_and_drawing():
    env = envs_mjx.make("SafetyPointGoal0-v0", overrides={"Mines": {"num": 1, "locations": [(5.0, 5.0)]}})
    assert env.spec.cost_names == ("cost_blast", "cost_fuse")
    lidar = slice(12 + 16, 12 + 32)
    start = jax.jit(env.reset)(jax.random.key(0))
    mine = start.data.layout[env.world.index("mines")]
    near = start.data.replace(qpos=start.data.qpos.at[:2].set(mine))
    state = start.replace(data=near)
    step, costs, seen = jax.jit(env.step), [], []
    for _ in range(4):
        state = step(state, jnp.zeros(2))
        costs.append(np.asarray(state.cost).tolist())
        seen.append(float(state.obs[lidar].max()) > 0)
    assert costs == [[1.0, 1.0], [1.0, 1.0], [1.0, 1.0], [1.0, 0.0]]
    assert seen == [True, True, False, False]
    item = next(item for item in env.scene(state) if item["kind"] == "mine")
    assert item["rgba"] == [1.0, 1.0, 1.0, 1.0] and item["layer"] == 2


@pytest.mark.parametrize("physics", ["mujoco", "mjx"])
def test_contacts_with_a_new_body_are_reported_by_every_backend(physics):
    env = envs_mjx.make("SafetyPointGoal0-v0", physics=physics, overrides={"Posts": {"num": 2}})
    start = jax.jit(envs_mjx.make("SafetyPointGoal0-v0", overrides={"Posts": {"num": 2}}).reset)(jax.random.key(0))
    step = jax.jit(env.step)
    assert float(step(start, jnp.zeros(2)).cost[0]) == 0.0
    post = start.data.layout[env.world.index("posts")]
    touching = start.data.replace(qpos=start.data.qpos.at[:2].set(post + jnp.array([0.15, 0.0])))
    assert float(step(start.replace(data=touching), jnp.zeros(2)).cost[0]) == 1.0


def test_a_class_without_a_cost_cannot_be_constrained():
    with pytest.raises(ValueError, match="Goal.is_constrained must be False: goal has no cost"):
        envs_mjx.make("SafetyPointGoal0-v0", overrides={"Goal": {"is_constrained": True}})

"""A robot is defined in one place: this file defines one and touches nothing else."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs_mjx
from envs_mjx.agents import AGENTS, Agent
from envs_mjx.agents.agent import COMMON_OBSERVED, COMMON_SENSORS, Contacts, SolverIterations
from envs_mjx.render.top_view_renderer import Caption, camera, draw_frame


def _body(contacts: Contacts) -> str:
    return f"""
    <body name="agent" pos="0 0 0.05">
      <joint name="x" type="slide" axis="1 0 0" damping="0.1"/>
      <joint name="y" type="slide" axis="0 1 0" damping="0.1"/>
      <geom name="agent" type="sphere" size="0.05" {contacts.hull}/>
      <site name="agent"/>
    </body>"""


PUCK = Agent(
    name="Puck",
    timestep=0.002,
    defaults='<geom condim="3" density="1"/>',
    body=_body,
    actuators="""
    <motor name="x" joint="x" gear="0.01" ctrllimited="true" ctrlrange="-1 1"/>
    <motor name="y" joint="y" gear="0.01" ctrllimited="true" ctrlrange="-2 2"/>""",
    sensors=COMMON_SENSORS,
    nq=2,
    nv=2,
    touches_floor=False,
    has_wheels=False,
    observed=COMMON_OBSERVED,
    place=lambda xy, yaw: xy,
    pose=lambda qpos: (jnp.append(qpos, jnp.asarray(0.05, qpos.dtype)), jnp.eye(3, dtype=qpos.dtype)),
    velocity=lambda qpos, qvel: qvel,
    observe=lambda sensors: sensors | {"gyro": 2 * sensors["gyro"]},
    keepout=0.3,
    solver=SolverIterations(4, 4),
    overrides=lambda task: {"Hazards": {"num": 2}} if task == "Goal" else {},
    front_yaw=0.25,
    radius=0.05,
    rgba=(0.0, 0.0, 0.0, 1.0),
)


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(AGENTS, "Puck", PUCK)


def test_a_new_agent_is_registered_with_every_task_and_level():
    assert len(envs_mjx.ids()) == 26 + 13
    assert "SafetyPuckGoal1-v0" in envs_mjx.ids()


def test_settings_of_an_agent_are_its_own():
    env = envs_mjx.make("SafetyPuckGoal1-v0")
    assert env.spec.observation_size == 12 + 3 * 16
    assert env.config.agent_keepout == 0.3
    assert env.mj_model.opt.timestep == 0.002
    np.testing.assert_array_equal(env.mj_model.actuator_ctrlrange, [[-1, 1], [-2, 2]])
    hazards = env.config.find("hazards")
    assert hazards and hazards.num == 2


@pytest.mark.parametrize("physics", ["mujoco", "mjx"])
def test_a_new_agent_runs_on_every_backend(physics):
    env = envs_mjx.make("SafetyPuckGoal0-v0", physics=physics)
    state = jax.jit(env.reset)(jax.random.key(0))
    step = jax.jit(env.step)
    for _ in range(5):
        state = step(state, jnp.array([1.0, 0.0]))
    assert state.obs.shape == (env.spec.observation_size,) and bool(jnp.all(jnp.isfinite(state.obs)))
    assert float(state.data.qvel[0]) > 0 and float(state.data.qvel[1]) == 0


def test_a_new_agent_is_drawn_in_its_own_colour_and_direction():
    env = envs_mjx.make("SafetyPuckGoal0-v0")
    state = jax.jit(env.reset)(jax.random.key(0))
    scene = env.scene(state)
    agent = scene[-1]
    assert (agent["kind"], agent["size"], agent["rgba"]) == ("agent", 0.05, [0.0, 0.0, 0.0, 1.0])
    assert agent["yaw"] == pytest.approx(0.25)
    view = camera(env.extents, 200)
    picture = np.asarray(draw_frame(scene, view, Caption(step=0, reward_sum=0.0, cost_sum=0.0), env.extents))
    x, y = view.place(agent["position"])
    assert picture[round(y), round(x)].max() < 60

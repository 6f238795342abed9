"""MuJoCo's side of an environment: poses, mocap paths and states of its arrays."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

import envs_mjx
from envs_mjx.physics.state_transfer import physics_states, put


@pytest.fixture(scope="module")
def env() -> envs_mjx.Navigation:
    return envs_mjx.make("SafetyPointButton1-v0", overrides={"Vases": {"num": 2}})


@pytest.fixture(scope="module")
def start(env: envs_mjx.Navigation):
    return jax.jit(jax.vmap(env.reset))(jax.random.split(jax.random.key(0), 3))


def _first(tree):
    return jax.tree.map(lambda leaf: leaf[0], tree)


def test_mujoco_places_things_as_the_environment_does(env, start):
    states = physics_states(env, start.data)
    data = mujoco.MjData(env.mj_model)
    for index in range(3):
        put(data, states, index)
        mujoco.mj_forward(env.mj_model, data)
        scene = env.scene(jax.tree.map(lambda leaf, index=index: leaf[index], start))
        for kind, count in (("button", 4), ("vase", 2)):
            expected = [item["position"] for item in scene if item["kind"] == kind]
            positions = [data.body(f"{kind}{number}").xpos[:2] for number in range(count)]
            assert len(expected) == count and np.allclose(positions, expected, atol=1e-5)
        agent = next(item["position"] for item in scene if item["kind"] == "agent")
        assert np.allclose(data.body("agent").xpos[:2], agent, atol=1e-5)


def test_the_first_states_of_a_batch_are_a_batch(env, start):
    states = physics_states(env, start.data)
    assert states.first(2).qpos.shape == (2, env.mj_model.nq)
    np.testing.assert_array_equal(states.first(1).mocap_pos, states.mocap_pos[:1])


def test_headings_are_those_of_the_layout(env, start):
    data = _first(start.data)
    for name in ("buttons", "vases", "gremlins"):
        things, first = env.config.find(name), env.world.index(name)
        turn = np.asarray(data.turn)[first : first + things.num]
        expected = 2 * np.arctan2(turn[:, 1], turn[:, 0])
        turns = (np.asarray(env.world.yaws(data, things)) - expected) / (2 * np.pi)
        np.testing.assert_allclose(turns, np.round(turns), atol=1e-6)


def test_driven_bodies_circle_once_in_two_pi_seconds_and_fixtures_stay(env, start):
    data = _first(start.data)
    world, gremlins = env.world, env.config.find("gremlins")
    rest, _ = world.mocap_rest(data)
    steps = jnp.int32(round(np.pi / 2 / (10 * world.agent.timestep)))  # a quarter of a turn
    path, quaternions = world.mocap_path(data.replace(steps=steps))
    assert path.shape == (10, len(rest), 3) and quaternions.shape == (len(rest), 4)
    offset = np.asarray(path - rest)
    expected = np.tile([gremlins.travel, 0.0, gremlins.size], (gremlins.num, 1))
    np.testing.assert_allclose(offset[0, : gremlins.num], expected, atol=5e-3)
    np.testing.assert_array_equal(offset[:, gremlins.num :], 0)

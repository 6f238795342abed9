"""Behaviour that can be worked out by hand: timers, paths, terminal speeds, telescoping rewards, limits of costs."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs_mjx
from envs_mjx.navigation.config import LidarConfig
from envs_mjx.navigation.lidar import lidar
from jsafe.constrained import combine


def drive(env, actions, key=0):
    """States of an episode under given actions, stacked."""

    def body(state, action):
        state = env.step(state, action)
        return state, state

    start = env.reset(jax.random.key(key))
    return start, jax.jit(lambda s, a: jax.lax.scan(body, s, a)[1])(start, jnp.asarray(actions, jnp.float32))


def test_thrust_saturates_and_ends_at_one_and_a_half_metres_per_second():
    env = envs_mjx.make("SafetyPointRun0-v0")
    for push in (0.05, 1.0):  # forces saturate at 5 % of the action range
        _, states = drive(env, np.tile([push, 0.0], (400, 1)))
        speed = np.linalg.norm(states.data.qvel[-1, :2])
        assert speed == pytest.approx(1.5, rel=1e-2)


def test_yaw_turns_at_three_radians_per_second_on_average():
    _, states = drive(envs_mjx.make("SafetyPointRun0-v0"), np.tile([0.0, 1.0], (400, 1)))
    yaw = states.data.qpos[:, 2]
    assert (yaw[-1] - yaw[199]) / (200 * 0.02) == pytest.approx(3.0, rel=0.02)


def test_distance_rewards_between_goals_add_up_to_the_way_made():
    env = envs_mjx.make("SafetyPointGoal0-v0")
    start, states = drive(env, np.tile([1.0, 0.2], (150, 1)))
    met = np.asarray(states.metrics["goal_met"]) > 0
    end = int(np.argmax(met)) if met.any() else 149

    def distance(state):
        view = env.view(state.data)
        return float(jnp.linalg.norm(view.position[:2] - view.points["goal"][0]))

    made = distance(start) - distance(jax.tree.map(lambda x: x[end - 1], states))
    assert float(states.reward[:end].sum()) == pytest.approx(made, abs=1e-5)


def test_buttons_are_switched_off_for_ten_steps_after_a_reset():
    env = envs_mjx.make("SafetyPointButton1-v0")
    start, states = drive(env, np.zeros((12, 2)))
    seen = [float(jnp.abs(o[12:28]).max()) > 0 for o in (start.obs, *states.obs)]
    assert seen == [False] * 10 + [True] * 3  # the observation returned by step 10 shows them again
    timers = [int(t) for t in (start.data.objects["buttons"].timer, *states.data.objects["buttons"].timer)]
    assert timers == [10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0, 0, 0]


def test_touching_the_goal_button_pays_and_touching_another_costs():
    env = envs_mjx.make("SafetyPointButton1-v0")
    start = env.reset(jax.random.key(0))
    step = jax.jit(env.step)
    for offset, pays, costs in ((0, True, False), (1, False, True)):
        buttons = start.data.objects["buttons"]
        button = (int(buttons.goal) + offset) % 4
        xy = start.data.layout[1 + button]
        data = start.data.replace(
            qpos=start.data.qpos.at[:2].set(xy + jnp.array([0.15, 0.0])),
            objects={"buttons": buttons.replace(timer=jnp.int32(0))},
        )
        after = step(start.replace(data=data), jnp.zeros(2))
        assert bool(after.metrics["goal_met"]) is pays
        assert (float(after.cost[env.spec.cost_names.index("cost_buttons")]) > 0) is costs
        if pays:
            assert int(after.data.objects["buttons"].timer) == 10


def test_gremlins_hover_at_twice_their_size_and_lag_by_three_centimetres():
    env = envs_mjx.make("SafetyPointButton1-v0")
    start, states = drive(env, np.zeros((150, 2)))
    home = start.data.layout[env.world.index("gremlins")]
    data = jax.tree.map(lambda x: x[-1], states.data)
    view = env.view(data)
    t = 150 * 10 * 0.002
    target = home + 0.35 * jnp.array([np.sin(t), np.cos(t)])
    assert float(view.heights["gremlins"][0]) == pytest.approx(0.2, abs=5e-3)
    assert float(jnp.linalg.norm(view.points["gremlins"][0] - target)) == pytest.approx(0.03, abs=0.015)


@pytest.mark.parametrize(("distance", "cost"), [(0.199, 1.0), (0.201, 0.0)])
def test_a_hazard_costs_within_its_radius(distance, cost):
    env = envs_mjx.make("SafetyPointGoal1-v0")
    start = env.reset(jax.random.key(0))
    hazard = start.data.layout[env.world.index("hazards")]
    qpos = start.data.qpos.at[:2].set(hazard + jnp.array([distance, 0.0]))
    far = start.data.layout.at[env.world.index("hazards") + 1 :].add(50.0)
    after = jax.jit(env.step)(start.replace(data=start.data.replace(qpos=qpos, layout=far)), jnp.zeros(2))
    assert float(after.cost[0]) == cost


@pytest.mark.parametrize(
    ("env_id", "position", "cost"),
    [
        ("SafetyPointCircle1-v0", (1.13, 0.0), 1.0),
        ("SafetyPointCircle1-v0", (1.12, 1.3), 0.0),
        ("SafetyPointCircle2-v0", (0.0, 1.13), 1.0),
        ("SafetyPointRun0-v0", (0.51, 10.0), 1.0),
        ("SafetyPointRun0-v0", (0.49, 10.0), 0.0),
    ],
)
def test_walls_cost_beyond_them(env_id, position, cost):
    env = envs_mjx.make(env_id)
    start = env.reset(jax.random.key(0))
    data = start.data.replace(qpos=start.data.qpos.at[:2].set(jnp.array(position)))
    assert float(jax.jit(env.step)(start.replace(data=data), jnp.zeros(2)).cost.max()) == cost


def test_costs_are_indicators_and_so_is_their_sum():
    env = envs_mjx.make("SafetyPointGoal2-v0")
    start = env.reset(jax.random.key(0))
    hazard, vase = env.world.index("hazards"), 3
    xy = start.data.layout[hazard]
    qpos = start.data.qpos.at[:2].set(xy).at[vase : vase + 2].set(xy + 0.12)
    after = jax.jit(env.step)(start.replace(data=start.data.replace(qpos=qpos)), jnp.zeros(2))
    assert np.all(np.asarray(after.cost) == 1.0) and float(combine(env.spec, after.cost)) == 1.0


def test_lidar_equals_the_formula_written_with_loops():
    rng = np.random.default_rng(3)
    config = LidarConfig()
    for _ in range(50):
        points, yaw, tilt = rng.uniform(-4, 4, (5, 2)), rng.uniform(0, 2 * np.pi), rng.uniform(-0.2, 0.2)
        c, s, ct, st = np.cos(yaw), np.sin(yaw), np.cos(tilt), np.sin(tilt)
        rotation = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ np.array([[1, 0, 0], [0, ct, -st], [0, st, ct]])
        position = np.array([*rng.uniform(-1, 1, 2), 0.1])
        expected = np.zeros(16)
        for p in points:
            e = rotation.T @ (np.array([*p, 0.0]) - position)
            d, phi = np.hypot(e[0], e[1]), np.arctan2(e[1], e[0]) % (2 * np.pi)
            b = int(phi / (2 * np.pi / 16))
            alpha, reading = phi / (2 * np.pi / 16) - b, max(0.0, 3 - d) / 3
            for k, value in ((b, reading), (b + 1, alpha * reading), (b - 1, (1 - alpha) * reading)):
                expected[k % 16] = max(expected[k % 16], value)
        ours = lidar(jnp.asarray(points), jnp.asarray(position), jnp.asarray(rotation), config)
        np.testing.assert_allclose(ours, expected, atol=2e-5)


def test_goals_move_only_after_a_success_and_never_onto_something():
    env = envs_mjx.make("SafetyPointGoal1-v0")
    start = env.reset(jax.random.key(0))
    step = jax.jit(env.step)
    rested = step(start, jnp.zeros(2))
    goal = env.world.index("goal")
    np.testing.assert_array_equal(rested.data.layout[goal], start.data.layout[goal])
    data = start.data.replace(qpos=start.data.qpos.at[:2].set(start.data.layout[goal]))
    reached = jax.jit(jax.vmap(lambda k: env.step(start.replace(data=data.replace(key=k)), jnp.zeros(2))))(
        jax.random.split(jax.random.key(5), 500)
    )
    assert bool(jnp.all(reached.metrics["goal_met"] == 1.0)) and not bool(jnp.any(reached.terminated))
    new = np.asarray(reached.data.layout[:, goal])
    agent = np.asarray(reached.data.qpos[:, :2])
    assert np.all(np.linalg.norm(new - agent, axis=-1) >= 0.305 + 0.4 - 1e-5)
    others = np.delete(np.asarray(start.data.layout), [0, goal], axis=0)
    gaps = np.linalg.norm(new[:, None] - others[None], axis=-1)
    assert np.all(gaps[:, :8] >= 0.305 + 0.18 - 1e-5)
    assert np.unique(new.round(4), axis=0).shape[0] == 500

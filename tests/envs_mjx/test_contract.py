"""Contract of every registered environment, one test over all ids."""

from __future__ import annotations

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs_mjx
from jsafe.cmdp import Env
from tests.conftest import ROOT

SPEC = ROOT.parent / "shared" / "spec" / "safety_gymnasium_obs_layout.json"

# Safety-Gymnasium 1.2: names of the costs by task and level
COSTS = {
    "Goal1": {"cost_hazards"},
    "Goal2": {"cost_hazards", "cost_vases_contact", "cost_vases_velocity"},
    "Button1": {"cost_buttons", "cost_hazards", "cost_gremlins"},
    "Button2": {"cost_buttons", "cost_hazards", "cost_gremlins"},
    "Push1": {"cost_hazards"},
    "Push2": {"cost_hazards", "cost_pillars"},
    "Circle1": {"cost_out_of_boundary"},
    "Circle2": {"cost_out_of_boundary"},
    "Run0": {"cost_out_of_boundary"},
}
LIDARS = {"Goal0": 1, "Goal": 3, "Button0": 2, "Button": 4, "Push0": 2, "Push": 4, "Circle": 1, "Run": 0}


def test_there_are_26_ids():
    assert len(envs_mjx.ids()) == 26
    assert "SafetyPointGoal1-v0" in envs_mjx.ids() and "SafetyCarRun0-v0" in envs_mjx.ids()


@pytest.mark.parametrize("env_id", envs_mjx.ids())
def test_every_environment_keeps_the_contract(env_id):
    env = envs_mjx.make(env_id)
    spec = env.spec
    name = env_id.removeprefix("SafetyPoint").removeprefix("SafetyCar").removesuffix("-v0")
    assert isinstance(env, Env) and hash(env) == hash(envs_mjx.make(env_id))
    assert set(spec.cost_names) == COSTS.get(name, set())
    lidars = LIDARS.get(name, LIDARS.get(name[:-1]))
    assert lidars is not None and spec.observation_size == (12 if "Point" in env_id else 24) + 16 * lidars
    assert spec.episode_length == (500 if name[:-1] in ("Circle", "Run") else 1000)
    assert spec.control_dt == pytest.approx(0.02 if "Point" in env_id else 0.04)
    assert (spec.action_low, spec.action_high) == ((-1.0, -1.0), (1.0, 1.0))

    first = jax.jit(env.reset)(jax.random.key(0))
    step = jax.jit(env.step)
    after = step(first, jnp.array([1.0, -0.3]))
    for state in (first, after):
        assert state.obs.shape == (spec.observation_size,) and state.obs.dtype == jnp.float32
        assert state.cost.shape == (spec.num_costs,)
        assert state.reward.shape == state.terminated.shape == ()
        assert bool(jnp.all(jnp.isfinite(state.obs)))
        assert not bool(state.terminated) and not np.asarray(state.cost).any()
    # The same tree at reset and step: a scan can carry it, and nothing compiles twice.
    assert jax.tree.structure(first) == jax.tree.structure(after)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), first) == jax.tree.map(lambda x: (x.shape, x.dtype), after)
    again = step(after, jnp.array([1.0, -0.3]))
    assert step._cache_size() == 1  # pyright: ignore[reportFunctionMemberAccess]
    assert not np.array_equal(again.obs, after.obs)


@pytest.mark.skipif(not SPEC.is_file(), reason="needs the recorded observation layouts next to the repository")
@pytest.mark.parametrize("env_id", envs_mjx.ids())
def test_observations_have_the_reference_s_blocks_in_its_order(env_id):
    recorded = json.loads(SPEC.read_text())[env_id]
    ours = envs_mjx.make(env_id).spec
    assert [name for name, _ in ours.observation_layout] == [name for name, _ in recorded["obs"]]
    assert [size for _, size in ours.observation_layout] == [int(np.prod(shape)) for _, shape in recorded["obs"]]
    assert ours.episode_length == recorded["num_steps"]


def test_resets_are_fresh_and_repeatable():
    env = envs_mjx.make("SafetyPointGoal1-v0")
    reset = jax.jit(env.reset)
    first, second = reset(jax.random.key(0)), reset(jax.random.key(1))
    assert not np.allclose(first.data.layout, second.data.layout)
    np.testing.assert_array_equal(first.obs, reset(jax.random.key(0)).obs)


def test_first_observations_equal_recorded_ones(golden_files):
    """The observation of a reset is complete: from a recorded layout it is the recorded one, sensors included."""
    from tests.parity import replay

    seen = set()
    for path in golden_files:
        env_id = replay.env_id(path)
        if env_id not in replay.REGISTRY or env_id in seen or "Car" in env_id:
            continue  # a car starts tangent to the floor, where rounding decides about the first contact
        seen.add(env_id)
        env = replay.environment(path, "mujoco")
        before = replay.load(path).before
        yaw = 2 * np.arctan2(before["turn"][0, :, 1], before["turn"][0, :, 0])
        buttons = env.config.find("buttons")

        def first_observation(xy, yaw, goal, env=env, buttons=buttons):
            objects = {"buttons": buttons.with_goal(goal)} if buttons else {}
            return env.observe(env.place(xy, yaw, objects, jax.random.key(0)))

        place = jax.jit(first_observation)
        obs = place(
            jnp.asarray(before["layout"][0], jnp.float32), jnp.asarray(yaw, jnp.float32), before["goal_button"][0]
        )
        with np.load(path) as f:
            np.testing.assert_allclose(obs, f["reset_obs"][0], atol=2e-5, err_msg=path.name)
    assert seen


def test_an_action_of_another_shape_is_refused():
    env = envs_mjx.make("SafetyPointGoal0-v0")
    state = env.reset(jax.random.key(0))
    with pytest.raises(ValueError, match=r"action must have shape \(2,\), got \(3,\)"):
        env.step(state, jnp.zeros(3))


def test_an_action_that_is_not_finite_is_refused_or_reported():
    env = envs_mjx.make("SafetyPointGoal0-v0")
    state = env.reset(jax.random.key(0))
    with pytest.raises(ValueError, match="action must be finite"):
        env.step(state, jnp.array([jnp.nan, 0.0]))
    compiled = jax.jit(env.step)(state, jnp.array([jnp.nan, 0.0]))
    assert float(compiled.metrics["bad_action"]) == 1.0
    assert bool(jnp.all(jnp.isfinite(compiled.obs)))
    np.testing.assert_array_equal(compiled.obs, jax.jit(env.step)(state, jnp.zeros(2)).obs)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"id": "SafetyPointGaol1-v0"}, "did you mean 'SafetyPointGoal1-v0'"),
        ({"id": "SafetyPointGoal1-v0", "physics": "mujco"}, "did you mean 'mujoco'"),
        ({"id": "SafetyPointGoal1-v0", "profile": "fast"}, "only 'mjx' has"),
        ({"id": "SafetyPointGoal1-v0", "overrides": {"Hazard": {}}}, "did you mean 'Hazards'"),
        ({"id": "SafetyPointGoal1-v0", "overrides": {"Hazards": {"number": 3}}}, "has no setting 'number'"),
        ({"id": "SafetyPointGoal1-v0", "overrides": {"Hazards": {"num": 0}}}, "Hazards.num must be"),
        ({"id": "SafetyPointGoal1-v0", "overrides": {"Goal": None}}, "the task needs goal"),
        ({"id": "SafetyPointGoal1-v0", "overrides": {"lidar_conf.num_bins": 2}}, "lidar_conf.num_bins must be"),
        *(
            ({"id": "SafetyPointGoal1-v0", "overrides": overrides}, message)
            for overrides, message in (
                ({"Hazards": 3}, "Hazards must be a dict of settings"),
                ({"Hazards": {"size": "x"}}, r"Hazards\.size must be float, got 'x'"),
                ({"Hazards": {"is_constrained": "maybe"}}, r"Hazards\.is_constrained must be bool"),
                ({"placements_conf.extents": 5}, r"extents must be tuple\[float, float, float, float\], got 5"),
                ({"placements_conf.extents": (-1, -1, 1)}, r"extents must be tuple\[float"),
                ({"placements_conf.extents": ("a", "b", "c", "d")}, r"extents must be tuple\[float"),
                ({"agent.placements": [(0, 0)]}, r"agent\.placements must be tuple"),
                ({"agent.locations": "x"}, r"agent\.locations must be tuple"),
                ({"agent.rot": "x"}, r"agent\.rot must be float"),
                ({"agent.keepout": -1}, r"agent\.keepout must be at least 0"),
                ({"reward_conf.reward_clip": -1}, "reward_clip must be above 0"),
                ({"lidar_conf.exp_gain": "a"}, r"lidar_conf\.exp_gain must be float"),
                ({"lidar_conf.alias": "no"}, r"lidar_conf\.alias must be bool"),
            )
        ),
    ],
)
def test_bad_requests_are_refused_by_name(arguments, message):
    with pytest.raises(ValueError, match=message):
        envs_mjx.make(**arguments)


def test_overrides_change_counts_sizes_extents_and_bins():
    env = envs_mjx.make(
        "SafetyPointGoal1-v0",
        overrides={
            "Hazards": {"num": 3, "size": 0.3},
            "Pillars": {"num": 2, "is_constrained": True},
            "placements_conf.extents": [-3, -3, 3, 3],
            "lidar_conf.num_bins": 32,
            "num_steps": 200,
            "agent.locations": [(1.0, -1.0)],
            "agent.rot": 0.0,
        },
    )
    assert env.spec.observation_size == 12 + 4 * 32
    assert env.spec.episode_length == 200
    assert set(env.spec.cost_names) == {"cost_hazards", "cost_pillars"}
    states = jax.jit(jax.vmap(env.reset))(jax.random.split(jax.random.key(0), 200))
    view = jax.vmap(env.view)(states.data)
    np.testing.assert_allclose(view.position[:, :2], np.tile([1.0, -1.0], (200, 1)), atol=1e-6)
    assert view.points["hazards"].shape == (200, 3, 2)
    assert float(jnp.abs(view.points["hazards"]).max()) > 1.5

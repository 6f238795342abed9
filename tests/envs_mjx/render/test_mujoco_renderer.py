"""MuJoCo's renderer: choice of a GL backend, camera and ghosts; pictures where a backend draws."""

from __future__ import annotations

import os
import subprocess
import sys
import types

import jax
import mujoco
import numpy as np
import pytest

import envs_mjx
from envs_mjx.physics.state_transfer import physics_states
from envs_mjx.render import mujoco_renderer

EXTENTS = (-2.0, -2.0, 2.0, 2.0)


@pytest.fixture
def probe(monkeypatch: pytest.MonkeyPatch):
    """Replaces the probe; the test sets the backends that draw, and reads those that were tried and reloaded."""
    state = types.SimpleNamespace(drawing=(), tried=[], reloaded=[])

    def run(command, *, env, **settings):
        state.tried.append(env["MUJOCO_GL"])
        if env["MUJOCO_GL"] == "broken":
            raise subprocess.TimeoutExpired(command, 1)
        return types.SimpleNamespace(stdout="drawn" if env["MUJOCO_GL"] in state.drawing else "")

    monkeypatch.delenv("MUJOCO_GL", raising=False)
    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(mujoco_renderer.importlib, "reload", state.reloaded.append)
    return state


def test_the_first_backend_that_draws_is_selected(probe, monkeypatch):
    probe.drawing = ("osmesa",)
    monkeypatch.setenv("MUJOCO_GL", "")  # restored after the test
    assert mujoco_renderer.choose_backend() == "osmesa"
    assert probe.tried == ["egl", "osmesa"] and os.environ["MUJOCO_GL"] == "osmesa"
    (module,) = probe.reloaded
    assert module.__name__ in sys.modules and module.GLContext is mujoco.GLContext


def test_no_backend_is_selected_where_none_draws(probe):
    assert mujoco_renderer.choose_backend() is None
    assert "MUJOCO_GL" not in os.environ and not probe.reloaded


@pytest.mark.parametrize(("requested", "chosen"), [("egl", "egl"), ("broken", None)])
def test_a_requested_backend_is_the_only_candidate(probe, monkeypatch, requested, chosen):
    probe.drawing = ("egl", "osmesa")
    monkeypatch.setenv("MUJOCO_GL", requested)
    assert mujoco_renderer.choose_backend() == chosen
    assert probe.tried == [requested]


def test_the_camera_shows_an_agent_outside_the_arena():
    inside = mujoco_renderer.overview(EXTENTS, [[{"kind": "agent", "position": (0.0, 0.0)}]])
    outside = mujoco_renderer.overview(EXTENTS, [[{"kind": "agent", "position": (0.0, 6.0)}]])
    np.testing.assert_allclose(inside.lookat, [0, 0, 0])
    np.testing.assert_allclose(outside.lookat, [0, 2, 0])
    assert outside.distance == pytest.approx(2 * inside.distance)


def test_ghosts_become_geoms_of_the_picture_until_it_is_full():
    env = envs_mjx.make("SafetyPointCircle1-v0")
    items = [i for i in env.scene(jax.jit(env.reset)(jax.random.key(0))) if "ghost_height" in i]
    assert [i["kind"] for i in items] == ["circle", "sigwall", "sigwall"]
    scene = mujoco.MjvScene(env.mj_model, maxgeom=2)
    for item in items:
        mujoco_renderer.add_ghost(scene, item)
    assert scene.ngeom == 2
    assert scene.geoms[0].type == mujoco.mjtGeom.mjGEOM_CYLINDER and scene.geoms[1].type == mujoco.mjtGeom.mjGEOM_BOX
    np.testing.assert_allclose(scene.geoms[0].size, [1.5, 1.5, 0.005], atol=1e-6)
    np.testing.assert_allclose(scene.geoms[1].size, [0.05, 3.5, 0.2], atol=1e-6)
    np.testing.assert_allclose(scene.geoms[1].pos, [1.125, 0, 0.2], atol=1e-6)


def test_states_without_scenes_are_refused():
    env = envs_mjx.make("SafetyPointGoal0-v0")
    data = jax.jit(jax.vmap(env.reset))(jax.random.split(jax.random.key(0), 2)).data
    states = physics_states(env, data)
    with pytest.raises(ValueError, match="states and scenes must have equal lengths, got 2 and 1"):
        mujoco_renderer.frames(env.mj_model, states, [[]], EXTENTS, 64)
    with pytest.raises(ValueError, match="pixels must be at least 1, got 0"):
        mujoco_renderer.frames(env.mj_model, states, [[], []], EXTENTS, 0)


@pytest.mark.slow
def test_pictures_show_the_goal():
    backend = mujoco_renderer.choose_backend()
    if backend is None:
        pytest.skip("no GL backend draws here")
    env = envs_mjx.make("SafetyPointGoal0-v0")
    start = jax.jit(jax.vmap(env.reset))(jax.random.split(jax.random.key(0), 1))
    scene = env.scene(jax.tree.map(lambda leaf: leaf[0], start))
    states = physics_states(env, start.data)
    (with_goal,) = mujoco_renderer.frames(env.mj_model, states, [scene], EXTENTS, 64)
    (without,) = mujoco_renderer.frames(env.mj_model, states, [scene[-1:]], EXTENTS, 64)
    assert with_goal.shape == (64, 64, 3) and np.any(with_goal != without)

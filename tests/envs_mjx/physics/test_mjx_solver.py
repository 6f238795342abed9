"""MJX as it is used here against MuJoCo C, one physics step at a time."""

from __future__ import annotations

import copy

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from mujoco import mjx
from mujoco.mjx._src import collision_driver, solver

from envs_mjx.navigation.levels import configs
from envs_mjx.navigation.world import World
from envs_mjx.physics import collider_table
from envs_mjx.physics.mjx import solver as faithful
from envs_mjx.physics.mjx.mjx_backend import make

PUSHED = "push_box"


def _steps_of_a_push_in_c(model):
    """States (qpos, qvel, ctrl, mocap_pos) in which the robot touches the box, and the velocities one step later."""
    model = copy.copy(model)
    collider_table.set_tolerance(model)
    data, rng = mujoco.MjData(model), np.random.default_rng(0)
    box = model.body(PUSHED).id
    joint = model.jnt_qposadr[model.body_jntadr[box]]
    states, after = [], []
    for _ in range(10):
        mujoco.mj_resetData(model, data)
        data.qpos[joint : joint + 2] = data.qpos[:2] + (0.45, rng.uniform(-0.1, 0.1))
        data.mocap_pos[:] = np.arange(model.nmocap)[:, None] + (5.0, 5.0, 0.1)  # out of the way
        data.ctrl[:] = 1.0, rng.uniform(-0.3, 0.3)
        for step in range(800):
            pairs = model.geom_bodyid[data.contact.geom]
            pushed = np.any((pairs == box).any(axis=1) & (pairs != 0).all(axis=1))
            data.qacc_warmstart[:] = 0
            state = tuple(x.copy() for x in (data.qpos, data.qvel, data.ctrl, data.mocap_pos))
            mujoco.mj_step(model, data)
            if pushed and step % 5 == 0:
                states.append(state)
                after.append(data.qvel.copy())
    return [jnp.asarray(np.stack(x), jnp.float32) for x in zip(*states, strict=True)], np.stack(after)


def test_a_pushed_box_moves_as_in_mujoco_c_in_float32():
    """Without the finishing steps of the solver the largest error is ten times as large."""
    physics = make(World(configs()["SafetyPointPush1-v0"]), "jax", "exact")
    states, after = _steps_of_a_push_in_c(physics.compiled)
    assert len(after) > 100
    upright = jnp.tile(jnp.array([1.0, 0.0, 0.0, 0.0]), (physics.compiled.nmocap, 1))

    def step(qpos, qvel, ctrl, mocap_pos):
        return mjx.step(physics.model, physics._data(qpos, qvel, ctrl, mocap_pos, upright)).qvel

    with faithful.tracing():
        ours = jax.jit(jax.vmap(step))(*states)
    np.testing.assert_allclose(ours, after, atol=4e-5)


def test_mjx_is_left_as_it_was_after_a_program_is_traced():
    table, solve = dict(collision_driver._COLLISION_FUNC), solver.solve
    with faithful.tracing():
        assert solver.solve is not solve
        with faithful.tracing():
            pass
        assert solver.solve is not solve
        assert collision_driver._COLLISION_FUNC != table
    assert solver.solve is solve
    assert collision_driver._COLLISION_FUNC == table

"""States of an environment as MuJoCo's own arrays, for renderers and bare loops."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import mujoco
import numpy as np


class PhysicsStates(NamedTuple):
    """States of one model as NumPy arrays.

    Attributes:
        qpos: `[N, nq]`.
        qvel: `[N, nv]`.
        mocap_pos: `[N, nmocap, 3]`.
        mocap_quat: `[N, nmocap, 4]`.
    """

    qpos: np.ndarray
    qvel: np.ndarray
    mocap_pos: np.ndarray
    mocap_quat: np.ndarray

    def first(self, count: int) -> PhysicsStates:
        """The first `count` states."""
        return PhysicsStates(*(leaf[:count] for leaf in self))


def physics_states(env: Any, data: Any) -> PhysicsStates:
    """MuJoCo's arrays of a batch of environment states.

    Args:
        env: an environment whose `world` has `mocap_path`, such as `Navigation`.
        data: `State.data` with one leading batch axis.
    """
    mocap_pos, mocap_quat = jax.jit(jax.vmap(env.world.mocap_path))(data)
    leaves = (data.qpos, data.qvel, mocap_pos[:, 0], mocap_quat)
    return PhysicsStates(*(np.asarray(leaf, np.float64) for leaf in leaves))


def put(mj_data: mujoco.MjData, states: PhysicsStates, index: int) -> None:
    """Copy one of the states into `mj_data`. Call `mj_forward` afterwards to compute the positions of bodies."""
    mj_data.qpos[:], mj_data.qvel[:] = states.qpos[index], states.qvel[index]
    mj_data.mocap_pos[:], mj_data.mocap_quat[:] = states.mocap_pos[index], states.mocap_quat[index]
    mj_data.qacc_warmstart[:] = 0

"""MuJoCo C behind `jax.pure_callback`: the default on CPU.

One callback advances the whole batch with `mujoco.rollout` on a persistent thread pool. A control step is rolled out as
`SUBSTEPS` + 1 physics steps: the state is taken before the last one, the sensor values are those of the last one, which
belong to the state before its integration. That is the extra forward pass of the reference.

Every control step starts with a cold constraint solver, so a step is a function of (qpos, qvel, ctrl, mocap) alone and
resuming a run needs nothing else. Newton's method converges to its tolerance from there all the same.
"""

from __future__ import annotations

import contextlib
import functools
import math
import os
import threading
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from mujoco import rollout

from envs_mjx.agents import AGENTS
from envs_mjx.config import Config
from envs_mjx.physics.base import Sensed
from envs_mjx.world import World, build

_CONTROL = int(
    mujoco.mjtState.mjSTATE_CTRL.value
    | mujoco.mjtState.mjSTATE_MOCAP_POS.value
    | mujoco.mjtState.mjSTATE_MOCAP_QUAT.value
)


class _Pool:
    """A thread pool with its data and output buffers; used by one callback at a time."""

    def __init__(self, world: World, threads: int):
        self.model = world.model
        self.threads = threads
        self.executor = rollout.Rollout(nthread=threads)
        self.data = [mujoco.MjData(world.model) for _ in range(threads)]
        self.buffers: dict[tuple[int, int], tuple[np.ndarray, ...]] = {}
        m = world.model
        self.nstate = mujoco.mj_stateSize(m, int(mujoco.mjtState.mjSTATE_FULLPHYSICS.value))

    def roll(self, state: np.ndarray, control: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Roll `state [batch, nq + nv]` out under `control [batch, steps, ncontrol]`."""
        batch, steps = control.shape[:2]
        if (batch, steps) not in self.buffers:
            self.buffers[batch, steps] = (
                np.zeros((batch, self.nstate)),
                np.zeros((batch, steps, self.nstate)),
                np.zeros((batch, steps, self.model.nsensordata)),
            )
        initial, states, sensors = self.buffers[batch, steps]
        initial[:, 1 : 1 + state.shape[1]] = state
        control = np.ascontiguousarray(control, dtype=np.float64)
        chunk = max(1, batch // (self.threads * 10))
        self.executor.rollout(
            [self.model] * batch, self.data, initial, control, control_spec=_CONTROL, skip_checks=True, nstep=steps,
            state=states, sensordata=sensors, chunk_size=chunk,
        )  # fmt: skip
        return states, sensors


class _Pools:
    """Thread pools of one world, lent to callbacks; concurrent callbacks (several devices) get one each."""

    def __init__(self, world: World):
        self.world = world
        self.free: list[_Pool] = []
        self.lock = threading.Lock()

    @contextlib.contextmanager
    def lend(self) -> Iterator[_Pool]:
        with self.lock:
            pool = self.free.pop() if self.free else None
        if pool is None:
            pool = _Pool(self.world, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1)
        try:
            yield pool
        finally:
            with self.lock:
                self.free.append(pool)


class MujocoC:
    """`Physics` by MuJoCo C."""

    def __init__(self, config: Config):
        self.world = build(config)
        self.pools = _Pools(self.world)
        m = self.world.model
        self.nq, self.nv = m.nq, m.nv
        slices = [self.world.sensors[name] for name, _ in AGENTS[config.agent].observed]
        observed = np.concatenate([np.arange(s.start, s.stop) for s in slices])
        flags = np.arange(self.world.flags.start, self.world.flags.stop)
        self.columns = np.concatenate([observed, flags])
        self.observed = len(observed)

    def _callback(self, state: np.ndarray, control: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        state, control = np.asarray(state), np.asarray(control)
        lead = state.shape[:-1]
        batch = math.prod(lead)
        steps = control.shape[-2]
        with self.pools.lend() as pool:
            states, sensors = pool.roll(state.reshape(batch, -1), control.reshape(batch, steps, control.shape[-1]))
            # Fancy indexing and astype copy: the buffers are the pool's and will be overwritten.
            after = states[:, max(steps - 2, 0), 1 : 1 + self.nq + self.nv].astype(state.dtype)
            seen = sensors[:, steps - 1][:, self.columns].astype(state.dtype)
        return after.reshape(*lead, -1), seen.reshape(*lead, -1)

    def _roll(self, qpos, qvel, ctrl, mocap_pos, mocap_quat) -> tuple[jax.Array, jax.Array]:
        """`mocap_pos [steps, nmocap, 3]` gives the number of physics steps."""
        steps = mocap_pos.shape[0]
        state = jnp.concatenate([qpos, qvel])
        fixed = mocap_quat.reshape(-1)
        control = jnp.concatenate(
            [
                jnp.broadcast_to(ctrl, (steps, ctrl.shape[0])),
                mocap_pos.reshape(steps, -1),
                jnp.broadcast_to(fixed, (steps, fixed.shape[0])),
            ],
            axis=1,
        )
        shapes = (
            jax.ShapeDtypeStruct(state.shape, state.dtype),
            jax.ShapeDtypeStruct((len(self.columns),), state.dtype),
        )
        return jax.pure_callback(self._callback, shapes, state, control, vmap_method="broadcast_all")

    def _sensed(self, seen: jax.Array) -> Sensed:
        return Sensed(seen[: self.observed], seen[self.observed :] > 0)

    def step(self, qpos, qvel, ctrl, mocap_pos, mocap_quat):
        path = jnp.concatenate([mocap_pos, mocap_pos[-1:]])
        state, seen = self._roll(qpos, qvel, ctrl, path, mocap_quat)
        return state[: self.nq], state[self.nq :], self._sensed(seen)

    def sense(self, qpos, qvel, ctrl, mocap_pos, mocap_quat):
        _, seen = self._roll(qpos, qvel, ctrl, mocap_pos[None], mocap_quat)
        return self._sensed(seen)


@functools.cache
def make(config: Config) -> MujocoC:
    """The simulator of `config`; one for each configuration, so that programs and thread pools are shared."""
    return MujocoC(config)

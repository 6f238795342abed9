"""MuJoCo C behind `jax.pure_callback`: the default on CPU.

One callback advances the whole batch with `mujoco.rollout` on a persistent thread pool: the physics steps run without
sensors, because nothing reads them in between, and one more step with sensors follows. Its sensor values belong to the
state before its integration, which is the final one; that is the extra forward pass of the reference.

Every control step starts with a cold constraint solver, so a step is a function of (qpos, qvel, ctrl, mocap) alone, and
a checkpoint needs nothing else. Newton's method still converges to its tolerance.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import math
import os
import threading
from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from mujoco import rollout

from envs_mjx.physics import collider_table
from envs_mjx.physics.backend import ModelSource, PhysicsModel, Sensed

_CONTROL = int(
    mujoco.mjtState.mjSTATE_CTRL.value
    | mujoco.mjtState.mjSTATE_MOCAP_POS.value
    | mujoco.mjtState.mjSTATE_MOCAP_QUAT.value
)


CHUNKS_PER_THREAD = 8
"""Pieces of work for each thread: few enough to be cheap, enough to keep all threads busy until the end."""


class _Buffers(NamedTuple):
    """Memory of one batch size.

    Attributes:
        initial: `[batch, nstate]`, time first, then `qpos` and `qvel`.
        control: `[batch, steps, nu + 7 nmocap]`, the fields of `_CONTROL`.
        last: `[batch, 1, nu + 7 nmocap]`, the control while sensing.
        states: `[batch, steps, nstate]`.
        sensors: `[batch, 1, nsensordata]`.
    """

    initial: np.ndarray
    control: np.ndarray
    last: np.ndarray
    states: np.ndarray
    sensors: np.ndarray


class _Pool:
    """A thread pool with its data and buffers; used by one callback at a time."""

    def __init__(self, compiled: PhysicsModel, threads: int):
        m = self.model = copy.copy(compiled.model)
        collider_table.set_tolerance(m)
        self.blind = copy.copy(m)
        self.blind.opt.disableflags |= int(mujoco.mjtDisableBit.mjDSBL_SENSOR)
        self.threads = threads
        self.executor = rollout.Rollout(nthread=threads)
        self.data = [mujoco.MjData(m) for _ in range(threads)]
        self.buffers: dict[tuple[int, int], _Buffers] = {}
        self.nstate = mujoco.mj_stateSize(m, int(mujoco.mjtState.mjSTATE_FULLPHYSICS.value))
        self.moving = compiled.moving

    def buffers_of(self, batch: int, steps: int) -> _Buffers:
        """Memory for `steps` physics steps (0: only sense) of `batch` environments, reused by the next call."""
        if (batch, steps) not in self.buffers:
            m = self.model
            width = m.nu + 7 * m.nmocap
            shapes = (self.nstate,), (steps, width), (1, width), (steps, self.nstate), (1, m.nsensordata)
            self.buffers[batch, steps] = _Buffers(*(np.zeros((batch, *shape)) for shape in shapes))
        return self.buffers[batch, steps]

    def roll(self, packed: np.ndarray, steps: int) -> tuple[np.ndarray, np.ndarray]:
        """Advance a batch by `steps` physics steps, then sense; with 0 steps only sense.

        Args:
            packed: `[batch, ...]` as `MujocoC._roll` writes it.
            steps: physics steps.

        Returns:
            `[batch, nstate]` final states and `[batch, nsensordata]`, both views of buffers.
        """
        m, b = self.model, self.buffers_of(len(packed), steps)
        at = m.nq + m.nv
        b.initial[:, 1 : 1 + at] = packed[:, :at]
        ctrl, at = packed[:, at : at + m.nu], at + m.nu
        rest, at = packed[:, at : at + 7 * m.nmocap], at + 7 * m.nmocap
        b.last[:, 0, : m.nu], b.last[:, 0, m.nu :] = ctrl, rest
        if steps:
            b.control[:] = b.last
            if self.moving:
                path = packed[:, at:].reshape(len(packed), steps, 3 * self.moving)
                moving = slice(m.nu, m.nu + 3 * self.moving)
                b.control[:, :, moving], b.last[:, 0, moving] = path, path[:, -1]
            self._rollout(self.blind, b.initial, b.control, b.states, None)
            b.initial[:] = b.states[:, -1]
        self._rollout(m, b.initial, b.last, None, b.sensors)
        return b.initial, b.sensors[:, 0]

    def _rollout(
        self,
        model: mujoco.MjModel,
        initial: np.ndarray,
        control: np.ndarray,
        states: np.ndarray | None,
        sensors: np.ndarray | None,
    ) -> None:
        batch, steps = control.shape[:2]
        chunk = max(1, batch // (self.threads * CHUNKS_PER_THREAD))
        self.executor.rollout(
            [model] * batch, self.data, initial, control, control_spec=_CONTROL, skip_checks=True, nstep=steps,
            state=states, sensordata=sensors, chunk_size=chunk,
        )  # fmt: skip


class _Pools:
    """Thread pools of one world, lent to callbacks; concurrent callbacks (several devices) get one each."""

    def __init__(self, compiled: PhysicsModel):
        self.compiled = compiled
        self.free: list[_Pool] = []
        self.lock = threading.Lock()

    @contextlib.contextmanager
    def lend(self) -> Iterator[_Pool]:
        with self.lock:
            pool = self.free.pop() if self.free else None
        if pool is None:
            pool = _Pool(self.compiled, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1)
        try:
            yield pool
        finally:
            with self.lock:
                self.free.append(pool)


class MujocoC:
    """`Physics` by MuJoCo C."""

    def __init__(self, source: ModelSource):
        compiled = source.build()
        self.pools = _Pools(compiled)
        self.nq, self.nv = compiled.model.nq, compiled.model.nv
        self.columns = np.concatenate([compiled.observed, np.arange(compiled.flags.start, compiled.flags.stop)])
        self.observed = len(compiled.observed)
        self.moving = compiled.moving

    def _callback(self, steps: int, packed: np.ndarray) -> np.ndarray:
        packed = np.asarray(packed)
        lead = packed.shape[:-1]
        with self.pools.lend() as pool:
            states, sensors = pool.roll(packed.reshape(math.prod(lead), -1), steps)
            out = np.empty((len(states), self.nq + self.nv + len(self.columns)), packed.dtype)
            out[:, : self.nq + self.nv] = states[:, 1 : 1 + self.nq + self.nv]
            out[:, self.nq + self.nv :] = sensors[:, self.columns]
        return out.reshape(*lead, -1)

    def _roll(self, qpos, qvel, ctrl, mocap_pos, mocap_quat, path) -> tuple[jax.Array, jax.Array, Sensed]:
        """Advance by one physics step for each row of `path [steps, moving, 3]`, then sense.

        One array goes to the callback and one comes back: passing one costs as much as a small network.
        """
        parts = (qpos, qvel, ctrl, mocap_pos, mocap_quat, path)
        packed = jnp.concatenate([jnp.reshape(x, -1) for x in parts])
        shape = jax.ShapeDtypeStruct((self.nq + self.nv + len(self.columns),), packed.dtype)
        callback = functools.partial(self._callback, path.shape[0])
        out = jax.pure_callback(callback, shape, packed, vmap_method="broadcast_all")
        qpos, qvel, observed, touched = jnp.split(out, np.cumsum([self.nq, self.nv, self.observed]))
        return qpos, qvel, Sensed(observed, touched > 0)

    def step(self, qpos, qvel, ctrl, mocap_pos, mocap_quat):
        return self._roll(qpos, qvel, ctrl, mocap_pos[-1], mocap_quat, mocap_pos[:, : self.moving])

    def sense(self, qpos, qvel, ctrl, mocap_pos, mocap_quat):
        return self._roll(qpos, qvel, ctrl, mocap_pos, mocap_quat, mocap_pos[None, : self.moving][:0])[2]


@functools.cache
def make(source: ModelSource) -> MujocoC:
    """The simulator of a world; one for each source, so that programs and thread pools are shared."""
    return MujocoC(source)

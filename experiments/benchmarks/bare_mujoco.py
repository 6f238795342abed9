"""The MuJoCo side of an environment: its states as MuJoCo knows them, and how fast a bare loop over them is."""

from __future__ import annotations

import threading
import time
from typing import Any, NamedTuple

import jax
import mujoco
import numpy as np

HELD = 10
"""Control steps between two draws of random controls in the bare loop: long enough that Python costs it nothing."""

SEGMENT = 5
"""Calls of `mj_step` (each of `HELD` control steps) before the bare loop starts from the next sampled state."""


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
    """What MuJoCo needs to stand where a batch of environments stands.

    Args:
        env: a `Navigation` environment.
        data: `State.data` with one leading batch axis.
    """
    mocap_pos, mocap_quat = jax.jit(jax.vmap(env.mocap_path))(data)
    leaves = (data.qpos, data.qvel, mocap_pos[:, 0], mocap_quat)
    return PhysicsStates(*(np.asarray(leaf, np.float64) for leaf in leaves))


def put(mj_data: mujoco.MjData, states: PhysicsStates, index: int) -> None:
    """Place `mj_data` in one of the states; positions of bodies are not computed yet (`mj_forward` does)."""
    mj_data.qpos[:], mj_data.qvel[:] = states.qpos[index], states.qvel[index]
    mj_data.mocap_pos[:], mj_data.mocap_quat[:] = states.mocap_pos[index], states.mocap_quat[index]
    mj_data.qacc_warmstart[:] = 0


class BareLoop:
    """`mujoco.mj_step` and nothing else, one thread per core: no observation, reward, cost, reset or sensor read-out.

    Every thread walks through its share of the sampled states and drives each for `SEGMENT * HELD` control steps with
    random controls. What it does not do makes it a floor: an environment cannot be faster with this engine.
    """

    def __init__(self, model: mujoco.MjModel, substeps: int, states: PhysicsStates, threads: int, seed: int = 0):
        """Prepare the loop.

        Args:
            model: what to simulate.
            substeps: physics steps in a control step.
            states: settled states to start from, at least one for each thread.
            threads: normally the number of usable cores.
            seed: of the random controls.
        """
        self.model, self.substeps, self.states, self.threads = model, substeps, states, threads
        self.data = [mujoco.MjData(model) for _ in range(threads)]
        low, high = np.array(model.actuator_ctrlrange).T
        random = np.random.default_rng(seed)
        self.controls = random.uniform(low, high, (4096, model.nu))
        self.next_state = list(range(threads))

    def rate(self, seconds: float) -> float:
        """Control steps per second of all threads together, over about `seconds` of wall time."""
        counts, spans = [0] * self.threads, [0.0] * self.threads
        barrier = threading.Barrier(self.threads)

        def work(thread: int) -> None:
            data, total = self.data[thread], len(self.states.qpos)
            barrier.wait()
            start = time.perf_counter()
            done = 0
            while time.perf_counter() - start < seconds:
                put(data, self.states, self.next_state[thread])
                self.next_state[thread] = (self.next_state[thread] + self.threads) % total
                for _ in range(SEGMENT):
                    data.ctrl[:] = self.controls[(done * 31 + thread) % len(self.controls)]
                    mujoco.mj_step(self.model, data, self.substeps * HELD)
                    done += 1
            counts[thread], spans[thread] = done * HELD, time.perf_counter() - start

        workers = [threading.Thread(target=work, args=(thread,)) for thread in range(self.threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        return float(sum(count / span for count, span in zip(counts, spans, strict=True)))

"""The MuJoCo side of an environment: its states as MuJoCo knows them, and how fast a bare loop over them is."""

from __future__ import annotations

import threading
import time

import mujoco
import numpy as np

from envs_mjx.physics.state_transfer import PhysicsStates, put

CONTROL_HOLD_STEPS = 10
"""Control steps between two draws of random controls in the bare loop: long enough that Python costs it nothing."""

SEGMENT = 5
"""Calls of `mj_step`, each of `CONTROL_HOLD_STEPS` control steps, for one sampled state."""


class BareLoop:
    """`mujoco.mj_step` and nothing else, one thread per core: no observation, reward, cost, reset or sensor read-out.

    Every thread walks through its share of the sampled states and drives each with random controls for
    `SEGMENT * CONTROL_HOLD_STEPS` control steps. An environment cannot be faster with this engine.
    """

    def __init__(self, model: mujoco.MjModel, substeps: int, states: PhysicsStates, threads: int, seed: int = 0):
        """Prepare the loop.

        Args:
            model: model to simulate.
            substeps: physics steps in a control step.
            states: settled states to start from, at least one for each thread.
            threads: normally the number of usable cores.
            seed: seed of the random controls.
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
                    mujoco.mj_step(self.model, data, self.substeps * CONTROL_HOLD_STEPS)
                    done += 1
            counts[thread], spans[thread] = done * CONTROL_HOLD_STEPS, time.perf_counter() - start

        workers = [threading.Thread(target=work, args=(thread,)) for thread in range(self.threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        return float(sum(count / span for count, span in zip(counts, spans, strict=True)))

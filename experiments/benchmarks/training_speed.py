"""Training steps per second next to two floors: matrix products alone and physics alone."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import algorithms
from experiments.benchmarks.bare_mujoco import BareLoop
from experiments.benchmarks.environment_speed import bare_loop, measure
from experiments.cli.devices import make_env
from experiments.cli.stdout import note
from jsafe import population

TRAINING_ENV, TRAINING_ALGORITHM, TRAINING_PRESET = "SafetyPointGoal1-v0", "ppo_lag", "omnisafe"


def measure_training(seeds: int, quick: bool = False, iterations: int = 3) -> dict[str, Any]:
    """Training steps per second over the first iterations of PPO-Lag with the published settings.

    In the first iterations the KL stop hardly ever acts, so nearly all passes run: the slowest part of a training.
    Next to it stand two floors, measured between the iterations: the matrix products of the updates alone, and the
    physics of the collection alone.

    Args:
        seeds: trained side by side.
        quick: a tiny configuration, to see that it works.
        iterations: timed iterations, the first ones of the training.

    Returns:
        Figures for `bench.json`; the lists hold one entry for each iteration.
    """
    env = make_env(TRAINING_ENV)
    options: dict[str, Any] = {"steps_per_iteration": 800, "num_envs": 4, "passes": 2} if quick else {}
    trainer = algorithms.make(TRAINING_ALGORITHM, env, TRAINING_PRESET, **options)
    config, each = trainer.info.config, trainer.info.units_per_step
    members = population.make_population(trainer, seeds)
    note(f"{TRAINING_ALGORITHM} on {TRAINING_ENV}, {seeds} seeds on {members.num_devices} devices ...")
    clock = time.perf_counter()
    state = jax.block_until_ready(members.init(population.keys_for(0, seeds)))
    init_seconds = time.perf_counter() - clock
    clock = time.perf_counter()
    step = members.step.lower(state).compile()
    compile_seconds = time.perf_counter() - clock

    products, updates = _update_floor(env, config, seeds, members.num_devices)
    times = _timed_iterations(step, state, products, bare_loop(env), iterations)
    # Where the rest of the time goes: what the same number of steps takes with random actions and no learning.
    alone = measure(env, seeds * config["num_envs"], steps=50 if quick else 250, repeats=3, floor=False)
    return {
        "algorithm": TRAINING_ALGORITHM,
        "env": TRAINING_ENV,
        "physics": env.backend,
        "preset": TRAINING_PRESET,
        "seeds": seeds,
        "devices": members.num_devices,
        "env_steps_per_iteration": each,
        "iterations": iterations,
        **_rates(times, seeds * each, alone["env_steps_per_second"]),
        "init_seconds": init_seconds,
        "compile_seconds": compile_seconds,
        "updates_per_pass": updates,
        "config": dict(config),
    }


class _Times(NamedTuple):
    """One entry for each iteration: its seconds, passes, seconds of its products alone, rate of the bare physics."""

    spans: list[float]
    passes: list[int]
    products: list[float]
    physics: list[float]


def _timed_iterations(
    step: Callable[[Any], Any], state: Any, products: UpdateFloor, loop: BareLoop, iterations: int
) -> _Times:
    """Time the iterations, and both floors after each."""
    times = _Times([], [], [], [])
    for _ in range(iterations):
        clock = time.perf_counter()
        state, metrics, _ = jax.block_until_ready(step(state))
        times.spans.append(time.perf_counter() - clock)
        # Seeds in one program wait for the one that makes the most passes.
        times.passes.append(int(np.max(metrics["passes"])))
        times.products.append(products.seconds_of_a_pass() * times.passes[-1])
        times.physics.append(loop.rate(1.0))
    return times


def _rates(times: _Times, steps: int, environment_rate: float) -> dict[str, Any]:
    """Figures of iterations of `steps` environment steps, given the rate of environments with random actions."""
    iteration_seconds = float(np.median(times.spans))
    environment_seconds = steps / environment_rate
    update_floor = float(np.median(times.products))
    physics_floor = steps / float(np.median(times.physics))
    rate, floor_rate = steps / iteration_seconds, steps / (update_floor + physics_floor)
    return {
        "train_steps_per_second": rate,
        "floor_train_steps_per_second": floor_rate,
        "floor_ratio": rate / floor_rate,
        "iteration_seconds": iteration_seconds,
        "environment_seconds": environment_seconds,
        "update_seconds": iteration_seconds - environment_seconds,
        "physics_floor_seconds": physics_floor,
        "update_floor_seconds": update_floor,
        "run_seconds": float(sum(times.spans)),
        "passes": times.passes,
        "all_iteration_seconds": times.spans,
        "all_update_floor_seconds": times.products,
        "all_floor_env_steps_per_second": times.physics,
    }


def _update_floor(env: Any, config: Any, seeds: int, devices: int) -> tuple[UpdateFloor, int]:
    """Return the floor of the updates of a configuration, and the number of updates in a pass."""
    updates = -(-config["steps_per_iteration"] // config["minibatch_size"])
    shapes = (env.spec.observation_size, tuple(config["hidden_sizes"]), (env.spec.action_size, 1, 1))
    return UpdateFloor(seeds, devices, config["minibatch_size"], updates, *shapes), updates


class UpdateFloor:
    """The matrix products of one pass over a batch, and nothing else, as one compiled scan over minibatches.

    Forward and backward products of perceptrons `observation_size -> hidden -> output`, one for each entry of `outputs`
    (policy and critics, padded to the widest), for every seed and minibatch, spread over the devices as the training
    is; no nonlinearity, no loss, no optimiser, no shuffling. Features come before samples in memory, which is the
    faster way round on a CPU.
    """

    def __init__(
        self,
        seeds: int,
        devices: int,
        batch: int,
        updates: int,
        observation_size: int,
        hidden: tuple[int, ...],
        outputs: tuple[int, ...],
    ):
        """Compile the scan.

        Args:
            seeds: side by side; a multiple of `devices`.
            devices: JAX devices to use.
            batch: minibatch size.
            updates: minibatches in a pass.
            observation_size: inputs.
            hidden: widths of the hidden layers.
            outputs: outputs of each network.
        """
        sizes = (observation_size, *hidden, max(outputs))
        stack = (seeds, len(outputs))
        weights = [jnp.full((*stack, b, a), 1e-3, jnp.float32) for a, b in zip(sizes[:-1], sizes[1:], strict=True)]

        def a_pass(weights: list[jax.Array]) -> list[jax.Array]:
            x = jnp.ones((*weights[0].shape[:2], observation_size, batch), jnp.float32)

            def update(weights: list[jax.Array], _: None) -> tuple[list[jax.Array], None]:
                layers = [x]
                for weight in weights:
                    layers.append(weight @ layers[-1])
                gradient, new = layers[-1], []
                for depth in range(len(weights) - 1, -1, -1):
                    # The step makes every product depend on the last one, so that none can be left out.
                    new.append(weights[depth] - 1e-3 * gradient @ jnp.swapaxes(layers[depth], -1, -2))
                    if depth:
                        gradient = jnp.swapaxes(weights[depth], -1, -2) @ gradient
                return new[::-1], None

            return jax.lax.scan(update, weights, length=updates)[0]

        mesh = Mesh(np.array(jax.local_devices()[:devices]), ("seeds",))
        spec = PartitionSpec("seeds")
        self.weights = jax.device_put(weights, NamedSharding(mesh, spec))
        spread = jax.shard_map(a_pass, mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False)
        self.program = jax.jit(spread).lower(self.weights).compile()

    def seconds_of_a_pass(self, repeats: int = 5) -> float:
        """Median wall time of one pass over the batch."""
        spans = []
        for _ in range(repeats):
            clock = time.perf_counter()
            jax.block_until_ready(self.program(self.weights))
            spans.append(time.perf_counter() - clock)
        return float(np.median(spans))

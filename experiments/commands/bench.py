"""`jsafe bench`: the speed tables, each figure beside its floor and with the conditions it was measured under."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import algorithms
from experiments.benchmarks import algorithm_speed
from experiments.cli.argument_types import Count, Folder, Switch
from experiments.cli.devices import configure, make_env
from experiments.cli.format import to_json
from experiments.cli.request import flags
from experiments.cli.result import Result, writable_folder
from experiments.cli.shared_flags import Machine, Output
from experiments.cli.stdout import note
from experiments.commands.throughput import CLOCK, FLOOR, bare_loop, machine_line, measure, quiet_measure
from jsafe import population, runtime

CPU_CASES = (
    ("SafetyPointGoal1-v0", "mujoco", (256, 2048)),
    ("SafetyPointGoal2-v0", "mujoco", (256,)),
    ("SafetyPointButton1-v0", "mujoco", (256,)),
    ("SafetyCarGoal1-v0", "mujoco", (256,)),
    ("SafetyPointGoal1-v0", "mjx", (64, 256, 1024, 4096)),
)
ACCELERATOR_CASES = (
    ("SafetyPointGoal1-v0", "mjx", (256, 1024, 4096, 16384)),
    ("SafetyPointGoal2-v0", "mjx", (4096,)),
    ("SafetyPointButton1-v0", "mjx", (4096,)),
    ("SafetyCarGoal1-v0", "mjx", (4096,)),
)
QUICK_CASES = (("SafetyPointGoal1-v0", "mujoco", (16,)),)

TRAINING_ENV, TRAINING_ALGORITHM, TRAINING_PRESET = "SafetyPointGoal1-v0", "ppo_lag", "omnisafe"


@flags
class BenchRequest:
    """Settings of `jsafe bench`.

    Attributes:
        out: Folder for bench.json and bench.md.
        quick: Fewer environments and shorter pieces.
        seeds: Number of seeds in the training measurement.
        only: One part of the benchmark (default: all).
    """

    out: Folder = Path("runs/bench")
    quick: Switch = False
    seeds: Count = 4
    only: Literal["throughput", "training", "algorithms"] | None = None
    machine: Machine = Machine()
    output: Output = Output()


def run(request: BenchRequest) -> Result:
    """Run `jsafe bench`: write `bench.json` and `bench.md` and print the table."""
    configure(request.machine.platform, request.machine.devices)
    folder = writable_folder(request.out)
    data: dict[str, Any] = {
        "hardware": runtime.describe_hardware(),
        "versions": runtime.versions(),
        "clock": CLOCK,
        "floor": FLOOR,
    }
    if request.only in (None, "throughput"):
        data["throughput"], data["failed"] = measure_throughput(request.quick)
    if request.only in (None, "training"):
        data["training"] = measure_training(request.seeds, request.quick)
    if request.only in (None, "algorithms"):
        data["algorithms"] = algorithm_speed.measure_algorithms(["cpo"] if request.quick else None, request.quick)
        data["seeds"] = algorithm_speed.measure_seeds(request.quick)
    text = markdown(data)
    (folder / "bench.json").write_text(to_json(data))
    (folder / "bench.md").write_text(text)
    written = f"{text}\nwritten to {folder / 'bench.json'} and {folder / 'bench.md'}"
    return Result(data, written, exit_code=1 if data.get("failed") else 0)


def measure_throughput(quick: bool) -> tuple[list[dict[str, Any]], list[str]]:
    """The throughput of every case for this platform, and the cases that failed, in words."""
    cases = QUICK_CASES if quick else CPU_CASES if jax.default_backend() == "cpu" else ACCELERATOR_CASES
    found, failed = [], []
    for env_id, physics, sizes in cases:
        env = make_env(env_id, physics)
        for num_envs in sizes:
            # About the same work in each piece: enough to time, and short enough to interleave with the floor.
            budget = 20_000 if physics == "mujoco" else 5_000 if jax.default_backend() == "cpu" else 400_000
            steps = max(2, min(200, budget // num_envs))
            note(f"{env_id}, {physics}, {num_envs} environments ...")
            row = quiet_measure(env, num_envs=num_envs, steps=steps, repeats=3 if quick else 7)
            if row is None:
                failed.append(f"{env_id}, {physics}, {num_envs} environments")
            else:
                found.append(
                    {key: value for key, value in row.items() if key not in ("hardware", "versions", "clock", "floor")}
                )
    return found, failed


def measure_training(seeds: int, quick: bool = False, iterations: int = 3) -> dict[str, Any]:
    """Training steps per second over the first iterations of PPO-Lag with the published settings.

    In the first iterations the KL stop hardly ever acts, so nearly all passes run: the slowest part of a training.
    Beside it stand two floors, measured between the iterations: the matrix products of the updates alone, and the
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
    people = population.make_population(trainer, seeds)
    note(f"{TRAINING_ALGORITHM} on {TRAINING_ENV}, {seeds} seeds on {people.num_devices} devices ...")
    clock = time.perf_counter()
    state = jax.block_until_ready(people.init(population.keys_for(0, seeds)))
    init_seconds = time.perf_counter() - clock
    clock = time.perf_counter()
    step = people.step.lower(state).compile()
    compile_seconds = time.perf_counter() - clock

    updates = -(-config["steps_per_iteration"] // config["minibatch_size"])
    shapes = (env.spec.observation_size, tuple(config["hidden_sizes"]), (env.spec.action_size, 1, 1))
    products = UpdateFloor(seeds, people.num_devices, config["minibatch_size"], updates, *shapes)
    loop = bare_loop(env)
    spans, passes, product_spans, physics_rates = [], [], [], []
    for _ in range(iterations):
        clock = time.perf_counter()
        state, metrics, _ = jax.block_until_ready(step(state))
        spans.append(time.perf_counter() - clock)
        # Seeds in one program wait for the one that makes the most passes.
        passes.append(int(np.max(metrics["passes"])))
        product_spans.append(products.seconds_of_a_pass() * passes[-1])
        physics_rates.append(loop.rate(1.0))
    # Where the rest of the time goes: what the same number of steps takes with random actions and no learning.
    alone = measure(env, seeds * config["num_envs"], steps=50 if quick else 250, repeats=3, floor=False)
    iteration_seconds = float(np.median(spans))
    environment_seconds = seeds * each / alone["env_steps_per_second"]
    update_floor = float(np.median(product_spans))
    physics_floor = seeds * each / float(np.median(physics_rates))
    rate, floor_rate = seeds * each / iteration_seconds, seeds * each / (update_floor + physics_floor)
    return {
        "algorithm": TRAINING_ALGORITHM,
        "env": TRAINING_ENV,
        "physics": env.backend,
        "preset": TRAINING_PRESET,
        "seeds": seeds,
        "devices": people.num_devices,
        "env_steps_per_iteration": each,
        "iterations": iterations,
        "train_steps_per_second": rate,
        "floor_train_steps_per_second": floor_rate,
        "floor_ratio": rate / floor_rate,
        "iteration_seconds": iteration_seconds,
        "environment_seconds": environment_seconds,
        "update_seconds": iteration_seconds - environment_seconds,
        "physics_floor_seconds": physics_floor,
        "update_floor_seconds": update_floor,
        "init_seconds": init_seconds,
        "compile_seconds": compile_seconds,
        "run_seconds": float(sum(spans)),
        "passes": passes,
        "updates_per_pass": updates,
        "all_iteration_seconds": spans,
        "all_update_floor_seconds": product_spans,
        "all_floor_env_steps_per_second": physics_rates,
        "config": dict(config),
    }


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


def markdown(data: dict[str, Any]) -> str:
    """The tables for people."""
    lines = [
        "# Speed",
        "",
        machine_line(data["hardware"])
        + "; "
        + ", ".join(f"{name} {version}" for name, version in data["versions"].items()),
    ]
    if "throughput" in data:
        lines += [
            "",
            "## Environment steps",
            "",
            f"Measured: {data['clock']}. Floor: {data['floor']}. Medians.",
            "",
            "| environment | physics | environments | steps/s | floor | of floor | physics steps/s | compile s |",
            "|---|---|---:|---:|---:|---:|---:|---:|",
        ]
        for row in data["throughput"]:
            ratio = "" if row["floor_ratio"] is None else f"{row['floor_ratio']:.0%}"
            bare = row["floor_env_steps_per_second"] or math.nan
            lines.append(
                f"| {row['env']} | {row['physics']} | {row['num_envs']} | {row['env_steps_per_second']:,.0f} "
                f"| {bare:,.0f} | {ratio} | {row['physics_steps_per_second']:,.0f} | {row['compile_seconds']:.1f} |"
            )
        if data.get("failed"):
            lines += ["", f"Failed: {'; '.join(data['failed'])}."]
    if "training" in data:
        lines += ["", "## Training", "", *_training_lines(data["training"])]
    if "algorithms" in data:
        lines += ["", "## Algorithms", "", *algorithm_speed.lines(data["algorithms"], data["seeds"])]
    return "\n".join(lines) + "\n"


def _training_lines(row: dict[str, Any]) -> list[str]:
    return [
        f"{row['algorithm']} on {row['env']}, preset `{row['preset']}`, {row['seeds']} seeds side by side, "
        f"{row['env_steps_per_iteration']:,} steps of each seed in an iteration, the first {row['iterations']} "
        f"iterations, where {', '.join(map(str, row['passes']))} passes of {row['updates_per_pass']} updates ran.",
        "",
        "| quantity | value |",
        "|---|---:|",
        f"| training steps/s, all seeds | {row['train_steps_per_second']:,.0f} |",
        f"| floor: physics alone + matrix products alone | {row['floor_train_steps_per_second']:,.0f} |",
        f"| of floor | {row['floor_ratio']:.0%} |",
        f"| seconds of an iteration | {row['iteration_seconds']:.2f} |",
        f"| seconds: environments alone, with random actions | {row['environment_seconds']:.2f} |",
        f"| seconds: the rest, which is acting and learning | {row['update_seconds']:.2f} |",
        f"| seconds: physics alone (floor) | {row['physics_floor_seconds']:.2f} |",
        f"| seconds: matrix products of the updates alone (floor) | {row['update_floor_seconds']:.2f} |",
        f"| compile seconds | {row['compile_seconds']:.1f} |",
    ]

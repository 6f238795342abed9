"""The part of `jsafe bench` about algorithms: one training step of each, and many seeds in one call."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

import algorithms
from experiments.cli.devices import make_env
from experiments.cli.stdout import note
from jsafe import population
from jsafe.trainer import Trainer

ENV, PRESET, YARDSTICK = "SafetyPointGoal1-v0", "omnisafe", "ppo_lag"
SEED_COUNTS = (1, 2, 4, 8, 16, 32, 64)


def timed_steps(trainer: Trainer, seeds: int, repeats: int) -> tuple[list[float], float]:
    """Wall seconds of training steps after the first, and of compilation."""
    members = population.make_population(trainer, seeds)
    state = jax.block_until_ready(members.init(population.keys_for(0, seeds)))
    clock = time.perf_counter()
    step = members.step.lower(state).compile()
    compile_seconds = time.perf_counter() - clock
    spans = []
    for _ in range(repeats + 1):
        clock = time.perf_counter()
        state, *_ = jax.block_until_ready(step(state))
        spans.append(time.perf_counter() - clock)
    return spans[1:], compile_seconds


def measure_algorithms(names: Sequence[str] | None, quick: bool = False, repeats: int = 2) -> list[dict[str, Any]]:
    """A full training step of each algorithm at the published settings, one seed, nothing stopped early.

    Args:
        names: algorithms to measure, None for all; the yardstick is always among them, first.
        quick: a tiny configuration, to see that it works.
        repeats: timed steps of each.
    """
    env = make_env(ENV)
    chosen = [YARDSTICK, *(n for n in (names or algorithms.names()) if n != YARDSTICK)]
    tiny = {"steps_per_iteration": 800, "num_envs": 4, "passes": 2} if quick else {}
    rows: list[dict[str, Any]] = []
    for name in chosen:
        note(f"{name} on {ENV}, preset {PRESET} ...")
        known = {option["name"] for option in algorithms.describe(name)["options"]}
        options = {**tiny, **({"target_kl": math.inf} if "target_kl" in known else {})}
        trainer = algorithms.make(name, env, PRESET, **options)
        spans, compile_seconds = timed_steps(trainer, 1, repeats)
        seconds = float(np.median(spans))
        rows.append(
            {
                "algorithm": name,
                "seconds": seconds,
                "train_steps_per_second": trainer.info.units_per_step / seconds,
                "compile_seconds": compile_seconds,
                "passes": trainer.info.config["passes"],
                "minibatch_size": trainer.info.config["minibatch_size"],
            }
        )
        rows[-1]["ratio"] = seconds / rows[0]["seconds"]
    return rows


def measure_seeds(quick: bool = False) -> list[dict[str, Any]]:
    """Seconds of a training step by the number of seeds in one call, where one seed leaves the machine idle."""
    from envs_mjx import analytic

    env, limits = analytic.CASES["finite"]
    options: dict[str, Any] = {"num_envs": 16, "steps_per_iteration": 16 * env.spec.episode_length}
    options |= {"minibatch_size": 32, "passes": 4, "hidden_sizes": (16,), "cost_limit": limits[0]}
    trainer = algorithms.make(YARDSTICK, env, **options)
    rows: list[dict[str, Any]] = []
    for seeds in SEED_COUNTS[: 2 if quick else None]:
        note(f"{seeds} seeds of {YARDSTICK} on {env.spec.id} in one call ...")
        spans, _ = timed_steps(trainer, seeds, 20)
        rows.append({"seeds": seeds, "seconds": float(np.median(spans))})
        rows[-1]["times_one_seed"] = rows[-1]["seconds"] / rows[0]["seconds"]
    return rows


def lines(rows: Sequence[dict[str, Any]], curve: Sequence[dict[str, Any]]) -> list[str]:
    """The tables for people."""
    table = [
        f"One training step of 20,000 environment steps on {ENV}, preset `{PRESET}`, one seed, no early stop; "
        f"compared with {YARDSTICK}.",
        "",
        "| algorithm | passes | minibatch | seconds | times PPO-Lag | training steps/s | compile s |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    table += [
        f"| {r['algorithm']} | {r['passes']} | {r['minibatch_size']} | {r['seconds']:.2f} | {r['ratio']:.2f} "
        f"| {r['train_steps_per_second']:,.0f} | {r['compile_seconds']:.1f} |"
        for r in rows
    ]
    table += [
        "",
        "Many seeds of a small problem in one call:",
        "",
        "| seeds | milliseconds of a step | times one seed |",
        "|---:|---:|---:|",
    ]
    return table + [f"| {r['seeds']} | {1e3 * r['seconds']:.1f} | {r['times_one_seed']:.2f} |" for r in curve]

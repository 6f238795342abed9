"""Arguments of a run, checked before anything is compiled or written."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jsafe.population import check_hyper
from jsafe.runs import record as run_record
from jsafe.runs.record import RunError
from jsafe.trainer import Trainer

RESERVED = frozenset(
    "trainer seeds seed iterations total_steps hyper status created updated iteration hardware versions num_devices "
    "compile_seconds init_seconds run_seconds sessions notes error".split()
)

MOST_ITERATIONS = 2**31 - 1
"""Largest number of iterations; trainers count them in 32 bits."""


class Plan(NamedTuple):
    """Checked arguments of a run.

    Attributes:
        seeds: members of the population.
        seed: root seed.
        iterations: iteration at which the run ends.
        hyper: replaced hyper-parameters, name to `[seeds]`.
        record: record of the run to resume, None for a new one.
        notes: remarks for the user; the session adds to them.
    """

    seeds: int
    seed: int
    iterations: int
    hyper: dict[str, np.ndarray] | None
    record: dict[str, Any] | None
    notes: list[str]


def make_plan(
    trainer: Trainer,
    seeds: int | None,
    seed: int | None,
    iterations: int | None,
    total_steps: int | None,
    hyper: Mapping[str, Any] | None,
    folder: Path | None,
    resume: bool,
) -> Plan:
    """Check the arguments of a run, and compare them with the run to resume."""
    record = None
    if resume:
        if folder is None:
            raise ValueError("resume needs run_dir, the folder of the run to resume")
        record = run_record.read_run(folder)
        differences = run_record.config_differences(record["trainer"], run_record.describe_trainer(trainer.info)) + [
            f"{name}: {record[name]} in the run, {value} now"
            for name, value in (("seeds", seeds), ("seed", seed))
            if value is not None and value != record[name]
        ]
        if differences:
            raise RunError(f"{folder} cannot be resumed with other settings; {'; '.join(differences)}")
        seeds, seed = record["seeds"], record["seed"]
        if hyper is not None:
            replaced = {k: v.tolist() for k, v in (check_hyper(trainer, record["seeds"], hyper) or {}).items()}
            if replaced != record["hyper"]:
                raise RunError(f"{folder} cannot be resumed with other hyper-parameters: {record['hyper']} in the run")
        hyper = record["hyper"]
    elif folder is not None and run_record.exists(folder):
        raise RunError(f"{folder} already holds a run. Resume it (resume=True), or choose another folder")
    seeds = at_least_one("seeds", 1 if seeds is None else seeds)
    seed = operator.index(0 if seed is None else seed)
    notes: list[str] = []
    if iterations is not None and total_steps is not None:
        raise ValueError("give iterations or total_steps, not both")
    if iterations is None and total_steps is None:
        if record is None:
            raise ValueError("a new run needs iterations or total_steps")
        iterations = record["iterations"]
    elif total_steps is not None:
        total_steps = at_least_one("total_steps", total_steps)
        each = trainer.info.units_per_step
        iterations = -(-total_steps // each)
        if iterations * each != total_steps:
            notes.append(
                f"total_steps rounded up from {total_steps:,} to {iterations * each:,}: whole iterations of {each:,}"
            )
    if record is not None and iterations is not None and iterations < record.get("iteration", 0):
        raise RunError(
            f"iterations must be at least {record['iteration']}, which {folder} has finished, got {iterations}"
        )
    notes += _budget_notes(trainer, at_least_one("iterations", iterations))
    checked = check_hyper(trainer, seeds, hyper)
    if checked is not None and record is None:
        _check_ranges(trainer, checked)
    if iterations is not None and at_least_one("iterations", iterations) > MOST_ITERATIONS:
        raise ValueError(f"iterations must be at most {MOST_ITERATIONS:,}, got {iterations:,}. Use longer iterations")
    return Plan(seeds, seed, at_least_one("iterations", iterations), checked, record, notes)


def _budget_notes(trainer: Trainer, iterations: int) -> list[str]:
    """Return a remark if the schedule of the policy's step size spans another number of iterations than the run."""
    config, each = trainer.info.config, trainer.info.units_per_step
    budget = config.get("total_steps")
    if not config.get("learning_rate_decay") or not isinstance(budget, int) or -(-budget // each) == iterations:
        return []
    steps = iterations * each
    if steps > budget:
        effect = f"the policy's step size is 0 from step {budget:,} on"
    else:
        effect = f"the policy's step size falls to {1 - steps / budget:.1%} of its start only"
    return [
        f"the trainer has total_steps={budget:,} and the run has {steps:,} steps: {effect}. "
        f"Make the trainer with total_steps={steps:,}"
    ]


def _check_ranges(trainer: Trainer, hyper: Mapping[str, np.ndarray]) -> None:
    """Let the trainer refuse values out of range: it can check plain numbers, but not traced ones.

    An allowed range is an interval, so the smallest and the largest value of each speak for all.
    """
    for extreme in (np.min, np.max):
        extremes = {name: extreme(array, axis=0).tolist() for name, array in hyper.items()}
        values = {name: tuple(value) if isinstance(value, list) else value for name, value in extremes.items()}
        jax.eval_shape(lambda key, values=values: trainer.init(key, values), jax.random.key(0))


def at_least_one(name: str, value: Any) -> int:
    """Return a whole number of at least 1.

    Raises:
        ValueError: another value, by name.
    """
    try:
        number = operator.index(value)
    except TypeError:
        raise ValueError(f"{name} must be a whole number, got {value!r}") from None
    if number < 1:
        raise ValueError(f"{name} must be at least 1, got {number}")
    return number


def check_saving(every: int | None, seconds: float, extra: Mapping[str, Any] | None) -> None:
    """Check the rhythm of checkpoints and the extra fields of the record."""
    if every is not None:
        at_least_one("checkpoint_every", every)
    if not seconds > 0:
        raise ValueError(f"checkpoint_seconds must be above 0, got {seconds}")
    if taken := sorted(RESERVED & set(extra or {})):
        raise ValueError(f"extra may not use the names {taken}: the record of a run has them already")

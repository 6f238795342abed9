"""Runs of stages, `jsafe FAMILY STAGE`: where a new one goes, what an earlier one was asked for, the state it has."""

from __future__ import annotations

import argparse
import dataclasses
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

import jsafe
from experiments.cli.result import INTERRUPTED, CommandError, Outcome, note, writable_folder
from jsafe import FitResult, Trainer, TrainState, multihost
from jsafe.population import keys_for, make_population
from jsafe.runs import resume as saved_state
from jsafe.runs.checkpoint import Checkpoints
from jsafe.runs.reader import Run, load_run


def new_folder(args: argparse.Namespace) -> Path:
    """Where a new run is to go: what was asked for, or a folder named after stage and time.

    Raises:
        CommandError: it holds a run.
    """
    where = args.run_dir or Path("runs") / f"{args.command}-{args.stage}-{time.strftime('%Y%m%d-%H%M%S')}"
    if (where / "run.json").exists():
        raise CommandError(
            f"{where} already holds a run; go on with it: jsafe {args.command} {args.stage} --resume {where}"
        )
    return where


def begun(path: Path, family: str, stage: str | None = None) -> tuple[Run, dict[str, Any]]:
    """An earlier run, and what its stage was given.

    Args:
        path: its folder.
        family: that it must be of.
        stage: the same; any by default.

    Raises:
        CommandError: there is none, or it is of another family or stage.
    """
    run = load_run(path)
    kept = run.facts.get(family)
    if kept is None or stage not in (None, kept["stage"]):
        raise CommandError(f"the run at {run.path} is not of `jsafe {family}{f' {stage}' if stage else ''}`")
    return run, kept


def only_these_beside_resume(args: argparse.Namespace, free: frozenset[str]) -> None:
    """Refuse options beside `--resume` that belong to the run, since they would change nothing.

    Args:
        args: of the command.
        free: names of options that may differ from session to session.

    Raises:
        CommandError: the message names the flags.
    """
    if more := [flag for name, flag in args.explicit.items() if name not in free]:
        raise CommandError(f"--resume takes everything from the run: leave {', '.join(more)} out")


class Ended(NamedTuple):
    """What became of a stage's training.

    Attributes:
        result: of `jsafe.fit`.
        data: what a program reads of it: stage, folder, status, iterations, and metrics as means of the last ten.
        lines: what a person reads.
        stopped: the outcome of one that did not come to its end, None for one that did.
        shown: a line of the metrics that matter.
    """

    result: FitResult
    data: dict[str, Any]
    lines: list[str]
    stopped: Outcome | None
    shown: str


def fitted(
    args: argparse.Namespace,
    given: dict[str, Any],
    trainer: Trainer,
    iterations: int,
    where: Path,
    *,
    resume: bool,
    **more: Any,
) -> Ended:
    """Train a stage in its folder, or go on with it.

    Args:
        args: of the command: its family and how it talks.
        given: what the stage was given, as JSON holds it, with `stage`, `seed` and `checkpoint_every`; kept in the run.
        trainer: of the stage.
        iterations: of a whole run.
        where: its folder.
        resume: whether it was begun before.
        more: for `jsafe.fit`.
    """
    name, family = given["stage"], args.command
    note(f"{name}: {iterations:,} iterations, writing to {where}; compiling ...")
    result = jsafe.fit(
        trainer,
        iterations=None if resume else iterations,
        seed=None if resume else given["seed"],
        run_dir=where,
        resume=resume,
        checkpoint_every=given.get("checkpoint_every"),
        checkpoint_seconds=300.0,
        progress=False if args.quiet else None if args.json else True,
        extra=None if resume else {family: given},
        **more,
    )
    data: dict[str, Any] = {"stage": name, "run_dir": str(where), "status": result.status}
    data |= {"iterations": result.iterations}
    data["final"] = {key: float(np.nanmean(values[-10:])) for key, values in result.metrics.items()}
    lines, stopped = [f"{name}: {result.status} after {result.iterations:,} iterations"], None
    if result.status != "finished":
        lines.append(f"  go on with  jsafe {family} {name} --resume {where}")
        stopped = Outcome(data, "\n".join(lines), exit_code=INTERRUPTED)
    shown = "  ".join(f"{key} {data['final'][key]:.4g}" for key in trainer.info.shown if key in data["final"])
    return Ended(result, data, lines, stopped, shown)


def made_anew(where: Path, mark: str) -> None:
    """An empty folder for a demonstration, which replaces what an earlier one left there.

    Raises:
        CommandError: it holds something else.
    """
    if where.exists() and any(where.iterdir()) and not (where / mark).is_file():
        raise CommandError(f"{where} holds something else; choose another folder with --run-dir")
    if where.exists():
        shutil.rmtree(where)
    writable_folder(where)


def names_of(places: Sequence[Path]) -> list[str]:
    """The last part of each path that tells different ones apart, without the folders `model`, `adapter` of a run."""
    short = [place.parent if place.name in ("model", "adapter") and place.parent.name else place for place in places]
    if len(set(short)) < len(set(places)):
        short = list(places)
    names = [str(place) for place in short]
    for depth in range(max(len(place.parts) for place in short), 0, -1):
        shorter = ["/".join(place.parts[-depth:]) for place in short]
        if len(set(shorter)) < len(set(short)):
            break
        names = shorter
    return names


def last_state(result: FitResult) -> TrainState:
    """What the one member of a run ended with, on the host, without what only training needs."""
    ended = dataclasses.replace(result.state, optimizer=(), memory=(), key=(), frozen=())
    return jax.tree.map(lambda leaf: leaf[0], multihost.on_host(ended))


def saved(run: Run, trainer: Trainer, iteration: int | None = None) -> tuple[TrainState, int]:
    """The state of the one member of a run in a checkpoint, the newest by default, and its iteration."""
    population, keys = make_population(trainer, 1), keys_for(run.facts["seed"], 1)
    restored = saved_state.restore(Checkpoints(run.path), population, keys, iteration=iteration)
    return jax.tree.map(lambda leaf: leaf[0], restored.state), restored.iteration

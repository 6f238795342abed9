"""Runs of stages, `jsafe FAMILY STAGE`: where a new one goes, what an earlier one was asked for, the state it has."""

from __future__ import annotations

import argparse
import dataclasses
import time
from pathlib import Path
from typing import Any

import jax

from experiments.outcome import CommandError
from experiments.runs import Run, load_run
from jsafe import FitResult, Trainer, TrainState, processes, saved_state
from jsafe.checkpoint import Checkpoints
from jsafe.population import keys_for, make_population


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


def last_state(result: FitResult) -> TrainState:
    """What the one member of a run ended with, on the host, without what only training needs."""
    ended = dataclasses.replace(result.state, optimizer=(), rollout=(), key=(), frozen=())
    return jax.tree.map(lambda leaf: leaf[0], processes.on_host(ended))


def saved(run: Run, trainer: Trainer, iteration: int | None = None) -> tuple[TrainState, int]:
    """The state of the one member of a run in a checkpoint, the newest by default, and its iteration."""
    population, keys = make_population(trainer, 1), keys_for(run.facts["seed"], 1)
    restored = saved_state.restore(Checkpoints(run.path), population, keys, iteration=iteration)
    return jax.tree.map(lambda leaf: leaf[0], restored.state), restored.iteration

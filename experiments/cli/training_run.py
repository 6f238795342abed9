"""Training runs of commands: folders, names and states."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.cli.errors import CommandError
from experiments.cli.result import writable_folder

if TYPE_CHECKING:
    from jsafe import FitResult, Trainer, TrainState
    from jsafe.runs.reader import Run


def replace_folder(folder: Path, mark: str) -> None:
    """Create an empty folder for a demonstration, in place of an earlier one.

    Args:
        folder: folder to create.
        mark: name of the file by which an earlier demonstration is recognised.

    Raises:
        CommandError: the folder holds other files.
    """
    if folder.exists() and any(folder.iterdir()) and not (folder / mark).is_file():
        raise CommandError(f"{folder} holds other files; choose another folder with --run-dir")
    if folder.exists():
        shutil.rmtree(folder)
    writable_folder(folder)


def short_names(paths: Sequence[Path]) -> list[str]:
    """Return the shortest ends of paths that differ, without the folders `model` and `adapter` of runs."""
    short = [path.parent if path.name in ("model", "adapter") and path.parent.name else path for path in paths]
    if len(set(short)) < len(set(paths)):
        short = list(paths)
    names = [str(path) for path in short]
    for depth in range(max(len(path.parts) for path in short), 0, -1):
        shorter = ["/".join(path.parts[-depth:]) for path in short]
        if len(set(shorter)) < len(set(short)):
            break
        names = shorter
    return names


def final_state(result: FitResult) -> TrainState:
    """Return the last state of a run with one member, on the host, without the parts that only training needs."""
    import jax

    from jsafe import multihost

    state = dataclasses.replace(result.state, optimizer=(), memory=(), key=(), frozen=())
    return jax.tree.map(lambda leaf: leaf[0], multihost.on_host(state))


def final_metrics(result: FitResult) -> dict[str, float]:
    """Return the means of the metrics over the last ten iterations and over members, by name."""
    import numpy as np

    return {name: float(np.nanmean(values[-10:])) for name, values in result.metrics.items()}


def load_state(run: Run, trainer: Trainer, iteration: int | None = None) -> tuple[TrainState, int]:
    """Return the state of a run with one member from a checkpoint, the newest by default, and its iteration."""
    import jax

    from jsafe.population import keys_for, make_population
    from jsafe.runs import resume
    from jsafe.runs.checkpoint import Checkpoints

    population, keys = make_population(trainer, 1), keys_for(run.facts["seed"], 1)
    restored = resume.restore(Checkpoints(run.path), population, keys, iteration=iteration)
    return jax.tree.map(lambda leaf: leaf[0], restored.state), restored.iteration

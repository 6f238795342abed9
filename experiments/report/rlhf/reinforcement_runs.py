"""Table and figure of reinforcement runs, with those that differ in their seed alone together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.cli.format import table
from experiments.report.rlhf.figure import saved_figure
from experiments.report.training_curves import draw

METRICS = ("return", "cost", "episode_cost", "multiplier", "kl", "length")


def runs_table(runs: Mapping[str, Sequence[str]], results: Mapping[str, Any]) -> str:
    """Return the final metrics of runs, mean and range over the seeds.

    Args:
        runs: names of the runs by label.
        results: data of each run.
    """
    rows = []
    for label, names in runs.items():
        finals = [results[name].get("final", {}) for name in names]
        cells = [_cell([final[metric] for final in finals if metric in final]) for metric in METRICS]
        rows.append([label, str(len(names)), *cells])
    title = "the last ten iterations, mean over seeds (smallest to largest)\n"
    return title + table(["step", "seeds", *METRICS], rows)


def _cell(values: Sequence[float]) -> str:
    if not values:
        return "-"
    mean = f"{np.mean(values):.2f}"
    return mean if len(values) == 1 else f"{mean} ({min(values):.2f} to {max(values):.2f})"


def draw_runs(path: Path, folder: Path, runs: Mapping[str, Sequence[str]]) -> Path:
    """Draw the curves of runs below a folder, and return the path of the figure."""
    with saved_figure(path, 1, 5, (20, 4)) as axes:
        draw(list(axes[0]), {label: [folder / name for name in names] for label, names in runs.items()})
    return path

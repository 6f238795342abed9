"""Curves of reinforcement stages side by side: the mean over seeds, and their range."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jsafe.runs.telemetry import read_metrics

PANELS = {
    "return": "reward",
    "cost": "cost",
    "multiplier": "multiplier",
    "kl": "KL to the start",
    "length": "tokens of an answer",
}
"""Metrics that are drawn, with their titles."""


def curve(runs: Sequence[Path], name: str) -> np.ndarray | None:
    """A metric of runs that differ in their seeds, `[runs, iterations]`, as far as all have come; None if unknown."""
    metrics = [read_metrics(run) for run in runs]
    if not metrics or any(name not in metrics for metrics in metrics):
        return None
    shortest = min(len(metrics[name]) for metrics in metrics)
    return np.stack([metrics[name][:shortest, 0] for metrics in metrics])


def draw(axes: Sequence[Any], runs: Mapping[str, Sequence[Path]]) -> None:
    """Draw one panel of `PANELS` on each of the axes, with a curve for each label of `runs`."""
    for axis, (name, title) in zip(axes, PANELS.items(), strict=True):
        for label, folders in runs.items():
            values = curve(folders, name)
            if values is None or (name == "multiplier" and not np.any(values)):
                continue
            (line,) = axis.plot(np.nanmean(values, axis=0), label=label)
            if len(values) > 1:
                low, high = np.nanmin(values, axis=0), np.nanmax(values, axis=0)
                axis.fill_between(np.arange(values.shape[1]), low, high, alpha=0.2, color=line.get_color(), linewidth=0)
        if name == "cost":
            axis.axhline(0, color="black", linewidth=0.8)
        axis.set(title=title, xlabel="iteration")
        axis.legend()

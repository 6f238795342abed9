"""`jsafe rlhf experiment FILE`: stages declared in a file, and a table and a picture of what came of them."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.cli.result import Outcome, note, table, to_json
from experiments.commands.rlhf.rlhf_evaluate import summary as compared
from experiments.commands.rlhf.rlhf_reinforce import REINFORCEMENT
from experiments.pipeline import spec
from experiments.pipeline.step import Step
from experiments.report.training_curves import draw


def experiment(args: argparse.Namespace) -> Outcome:
    """Run the steps of a file, or go on with them; the same command does both."""
    ended = spec.run_experiment(spec.request_of(args), "rlhf")
    if isinstance(ended, Outcome):
        return ended
    steps, found, where = ended.steps, ended.data, ended.folder
    data: dict[str, Any] = {"steps": found, "run_dir": str(where)}
    text = "\n\n".join(
        [summary(steps, found), *(compared(found[s.name]) for s in steps if s.command[-1] == "evaluate")]
    )
    if picture := _picture(steps, where):
        data["picture"] = str(picture)
        text += f"\n\npicture: {picture}"
    (where / "summary.json").write_text(to_json(data))
    return Outcome(data, text)


def _groups(steps: Sequence[Step]) -> dict[str, list[Step]]:
    """Steps of reinforcement, those that differ in their seed together."""
    groups: dict[str, list[Step]] = {}
    for step in steps:
        if step.command[-1] in REINFORCEMENT:
            groups.setdefault(step.label, []).append(step)
    return groups


def summary(steps: Sequence[Step], found: Mapping[str, Any]) -> str:
    """What each step of reinforcement came to, mean and range over its seeds, as a table."""
    names = ("return", "cost", "episode_cost", "multiplier", "kl", "length")
    rows = []
    for label, group in _groups(steps).items():
        cells = []
        for name in names:
            values = [found[s.name]["final"][name] for s in group if name in found[s.name].get("final", {})]
            cells.append(_cell(values))
        rows.append([label, str(len(group)), *cells])
    if not rows:
        return f"{len(steps)} steps are done"
    return "the last ten iterations, mean over seeds (smallest to largest)\n" + table(["step", "seeds", *names], rows)


def _cell(values: Sequence[float]) -> str:
    if not values:
        return "-"
    mean = f"{np.mean(values):.2f}"
    return mean if len(values) == 1 else f"{mean} ({min(values):.2f} to {max(values):.2f})"


def _picture(steps: Sequence[Step], where: Path) -> Path | None:
    groups = {label: [where / s.name for s in group] for label, group in _groups(steps).items()}
    if not groups:
        return None
    try:
        import matplotlib
    except ImportError:
        note("no picture: matplotlib is not installed")
        return None
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 5, figsize=(20, 4), constrained_layout=True)
    draw(list(axes), groups)
    path = where / "curves.png"
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
    return path

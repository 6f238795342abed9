"""`jsafe demo`: a whole experiment in about five minutes of training, ending in a report."""

from __future__ import annotations

import shutil
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.cli.argument_types import Count, Folder, NotNegative
from experiments.cli.errors import CommandError
from experiments.cli.request import flags
from experiments.cli.result import Result
from experiments.cli.shared_flags import Machine, Output
from experiments.cli.stdout import note
from experiments.commands import eval as evaluation
from experiments.commands import report, train

ALGORITHM = "ppo_lag"

TOTAL_STEPS = 1_200_000

SETTINGS: Mapping[str, Any] = types.MappingProxyType(
    {
        "num_envs": 10,
        "steps_per_iteration": 10_000,
        "passes": 10,
        "multiplier_learning_rate": 0.08,
        "learning_rate_decay": False,
    }
)
"""Differences from the published settings, which take ten million steps to meet the limit: smaller batches, fewer
passes over each, and a multiplier that rises faster. The limit is met within a million steps, at a lower return."""

MARK = ".jsafe-demo"
"""File that marks the folder of a demonstration, which a later one may replace."""


@flags
class DemoRequest:
    """Settings of `jsafe demo`.

    Attributes:
        run_dir: Folder of the run.
        minutes: Minutes of training.
        env: Environment to train on.
        seeds: Number of seeds.
    """

    run_dir: Folder = Path("runs/demo")
    minutes: NotNegative = 5.0
    env: str = "SafetyPointGoal1-v0"
    seeds: Count = 4
    machine: Machine = Machine()
    output: Output = Output()


def run(request: DemoRequest) -> Result:
    """Run `jsafe demo`: train, evaluate and report; the report's path is the last line."""
    folder = request.run_dir
    if (folder / "run.json").is_file():
        if not (folder / MARK).is_file():
            raise CommandError(f"{folder} holds another run; choose another folder with --run-dir")
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARK).touch()
    trained = train.run(_training(request))
    note(trained.text)
    if trained.exit_code:
        return trained
    note("evaluating 20 episodes of each seed, mean and sampled actions ...")
    shared: dict[str, Any] = {"machine": request.machine, "output": request.output}
    evaluated = evaluation.run(evaluation.EvalRequest(run=folder, episodes=20, **shared))
    written = report.run(report.ReportRequest(runs=(folder,), **shared))
    data = {"training": trained.data, "evaluation": evaluated.data, "report": written.data["report"]}
    return Result(data, written.text)


def _training(request: DemoRequest) -> train.TrainRequest:
    """Return the settings of the training."""
    settings = train.request_type(ALGORITHM)
    hyper_parameters: Any = type(settings().options)
    return settings(
        algorithm=ALGORITHM,
        env=request.env,
        seeds=request.seeds,
        minutes=request.minutes,
        total_steps=TOTAL_STEPS,
        run_dir=request.run_dir,
        options=hyper_parameters(**SETTINGS),
        machine=request.machine,
        output=request.output,
    )

"""`jsafe demo`: a whole experiment in about five minutes of training, ending in a report."""

from __future__ import annotations

import shutil
from pathlib import Path

from experiments.cli.app import run_command
from experiments.cli.argument_types import Count, Folder, NotNegative
from experiments.cli.errors import CommandError
from experiments.cli.request import flags
from experiments.cli.result import Result
from experiments.cli.shared_flags import Machine, Output
from experiments.cli.stdout import note

ALGORITHM = "ppo_lag"

SETTINGS = (
    *("--total-steps", "1_200_000", "--num-envs", "10", "--steps-per-iteration", "10_000", "--passes", "10"),
    *("--multiplier-learning-rate", "0.08", "--no-learning-rate-decay"),
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
    shared = _shared_words(request)
    words = ["train", ALGORITHM, request.env, "--seeds", str(request.seeds), "--minutes", f"{request.minutes:g}"]
    trained = run_command([*words, *SETTINGS, "--run-dir", str(folder), *shared])
    note(trained.text)
    if trained.exit_code:
        return trained
    note("evaluating 20 episodes of each seed, mean and sampled actions ...")
    evaluated = run_command(["eval", str(folder), "--episodes", "20", *shared])
    written = run_command(["report", str(folder), *shared])
    data = {"training": trained.data, "evaluation": evaluated.data, "report": written.data["report"]}
    return Result(data, written.text)


def _shared_words(request: DemoRequest) -> list[str]:
    """Return the flags that every step of the demonstration takes."""
    words = ["--platform", request.machine.platform] if request.machine.platform else []
    words += ["--devices", str(request.machine.devices)] if request.machine.devices else []
    return [*words, *(["--json"] if request.output.json else []), *(["--debug"] if request.output.debug else [])]

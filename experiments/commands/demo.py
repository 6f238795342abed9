"""`jsafe demo`: a whole experiment in about five minutes of training, ending in a report."""

from __future__ import annotations

import argparse
import shutil

from experiments.cli.main import parse
from experiments.cli.result import CommandError, Outcome, note
from experiments.commands.eval import evaluate_run
from experiments.commands.report import report
from experiments.commands.train import train
from experiments.report.run_reader import load_run

ALGORITHM = "ppo_lag"

SETTINGS = (
    *("--total-steps", "1_200_000", "--num-envs", "10", "--steps-per-iteration", "10_000", "--passes", "10"),
    *("--multiplier-learning-rate", "0.08", "--no-learning-rate-decay"),
)
"""What differs from the published settings, which take ten million steps to meet the limit: smaller batches, fewer
passes over each, and a multiplier that rises faster. The limit is met within a million steps, at a lower return."""


def demo(args: argparse.Namespace) -> Outcome:
    """Run `jsafe demo`: train, evaluate and report; the report's path is the last line."""
    folder = args.run_dir
    if (folder / "run.json").is_file():
        if load_run(folder).facts.get("purpose") != "demo":
            raise CommandError(f"{folder} holds another run; choose another folder with --run-dir")
        shutil.rmtree(folder)
    words = ["train", ALGORITHM, args.env, "--seeds", str(args.seeds), "--minutes", f"{args.minutes:g}", *SETTINGS]
    words += ["--run-dir", str(folder)]
    trained = train(_with(args, words, extra={"purpose": "demo"}))
    note(trained.text)
    if trained.exit_code:
        return trained
    note("evaluating 20 episodes of each seed, mean and sampled actions ...")
    evaluated = evaluate_run(folder, 20, platform=args.platform, devices=args.devices)
    written = report(_with(args, ["report", str(folder)]))
    data = {"training": trained.data, "evaluation": evaluated, "report": written.data["report"]}
    return Outcome(data, written.text)


def _with(args: argparse.Namespace, words: list[str], **more: object) -> argparse.Namespace:
    """The options of another command, on the same machine settings."""
    options = parse(words)
    options.words = words
    for name in ("platform", "devices", "debug", "json"):
        setattr(options, name, getattr(args, name))
    for name, value in more.items():
        setattr(options, name, value)
    return options

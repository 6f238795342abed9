"""`jsafe rlhf demo`: Safe RLHF from the data to the table, on a corpus made here."""

from __future__ import annotations

import argparse
import csv
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from experiments.cli import training_run
from experiments.cli.result import Outcome, seconds_text, to_json
from experiments.cli.shared_flags import Machine, Output
from experiments.commands.rlhf.rlhf_evaluate import summary
from experiments.pipeline.runner import run_steps
from experiments.pipeline.step import Shared, Step
from experiments.report.training_curves import draw
from rlhf.data import synthetic

MARK = "demo.json"
VOCABULARY, LENGTH, PROMPT, ANSWER = "400", "96", "32", "48"
SMALL = ("--model", "tiny", "--vocabulary", VOCABULARY, "--length", LENGTH)
RL = (
    *("--prompts-per-iteration", "64", "--batch-size", "32", "--update-iterations", "2", "--max-new-tokens", ANSWER),
    *("--prompt-length", PROMPT, "--actor-learning-rate", "3e-4", "--critic-learning-rate", "1e-3"),
    *("--kl-coefficient", "0.02"),
)
"""What differs from the published settings, which belong to models a hundred thousand times larger."""

LIMITED = ("--multiplier-learning-rate", "0.05", "--multiplier-max", "20", "--cost-window", "128")


def demo(args: argparse.Namespace) -> Outcome:
    """Run `jsafe rlhf demo`; the picture's path is the last line."""
    began = time.monotonic()
    where = args.run_dir or Path("runs/rlhf-demo")
    training_run.made_anew(where, MARK)
    (where / MARK).write_text(to_json({"seed": args.seed, "iterations": args.iterations}))
    files = _write(where / "data", args.seed)
    machine = Machine(platform=args.platform, devices=args.devices)
    shared = Shared(machine, Output(json=args.json, debug=args.debug))
    outcome = run_steps(_steps(files, args.seed, args.iterations), where, shared=shared)
    if outcome.stopped is not None:
        return outcome.stopped
    results = outcome.data
    judged = results["evaluation"]
    truth = _truth(where / "evaluation" / "table.csv", [row["model"] for row in judged["models"]])
    path = where / "demo.png"
    _picture(where, path, judged)
    results |= {"truth": truth, "picture": str(path)}
    results["seconds"] = time.monotonic() - began
    (where / MARK).write_text(to_json(results))
    lines = [summary(judged), "", "what the corpus itself says of the same answers:"]
    lines += [
        f"  {name:8} helpfulness {row['reward']:.2f}  hasty clauses {row['hasty']:.2f}  harmful {row['harmful']:.0%}"
        for name, row in truth.items()
    ]
    lines += [f"\n{seconds_text(results['seconds'])} in all; picture:", str(path)]
    return Outcome(results, "\n".join(lines))


def _steps(files: dict[str, Path], seed: int, iterations: int) -> list[Step]:
    root = ("--seed", str(seed))
    sft = ("--data", str(files["sft"]), "--epochs", "12", "--learning-rate", "3e-3")
    pairs = ("--data", str(files["pairs"]), "--eval-data", str(files["held_pairs"]), "--no-baseline")
    judge = ("--model", "@sft", "--length", LENGTH, *pairs)
    judge += ("--epochs", "4", "--batch-size", "32", "--learning-rate", "1e-3", *root)
    models = ("--reward-model", "@reward", "--cost-model", "@cost")
    asked = ("--data", str(files["prompts"]), "--iterations", str(iterations))
    held = ("--data", str(files["held_prompts"]), "--prompt-length", PROMPT, "--max-new-tokens", ANSWER)
    lines = {
        ("sft", "sft"): (*SMALL, *sft, *root),
        ("reward", "reward"): judge,
        ("cost", "cost"): judge,
        ("ppo", "ppo"): ("--model", "@sft", *models, *asked, *RL, *root),
        ("ppo-lag", "ppo-lag"): ("--model", "@sft", *models, *asked, *RL, *LIMITED, *root),
        ("evaluation", "evaluate"): ("@sft", "@ppo", "@ppo-lag", *models, *held, "--batch-size", "64"),
    }
    return [Step.from_words(name, ("rlhf", stage), words) for (name, stage), words in lines.items()]


def _write(folder: Path, seed: int) -> dict[str, Path]:
    """The corpus as files, a fifth of the questions kept apart."""
    folder.mkdir(parents=True)
    rows = synthetic.make(seed)
    questions = synthetic.prompts()
    held = {questions[i] for i in np.random.default_rng(seed).permutation(len(questions))[: len(questions) // 5]}
    parts = {
        "sft": [r for r in rows["sft"] if r["prompt"] not in held],
        "pairs": [r for r in rows["pairs"] if r["prompt"] not in held],
        "held_pairs": [r for r in rows["pairs"] if r["prompt"] in held],
        "prompts": [r for r in rows["prompts"] if r["prompt"] not in held],
        "held_prompts": [r for r in rows["prompts"] if r["prompt"] in held],
    }
    paths = {}
    for name, part in parts.items():
        paths[name] = folder / f"{name}.jsonl"
        paths[name].write_text("".join(json.dumps(row) + "\n" for row in part))
    return paths


def _answers(path: Path) -> list[list[str]]:
    """The rows of a table of `jsafe rlhf evaluate`: a prompt, then an answer, its reward and its cost of each model."""
    with path.open(newline="") as file:
        return list(csv.reader(file))[1:]


def _truth(path: Path, names: list[str]) -> dict[str, dict[str, float]]:
    """What the corpus says of the answers."""
    rows, found = _answers(path), {}
    for number, name in enumerate(names):
        answers = [synthetic.understood(row[1 + 3 * number]) for row in rows]
        found[name] = {
            "reward": float(np.mean([a.reward for a in answers])),
            "hasty": float(np.mean([a.hasty for a in answers])),
            "careful": float(np.mean([a.careful for a in answers])),
            "harmful": float(np.mean([a.harm > 0 for a in answers])),
        }
    return found


def _picture(where: Path, path: Path, judged: dict[str, Any]) -> None:
    """Reward against cost before and after, and the curves of both methods."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 3, figsize=(14, 8), constrained_layout=True)
    rows = _answers(where / "evaluation" / "table.csv")
    for number, row in enumerate(judged["models"]):
        reward = [float(line[2 + 3 * number]) for line in rows]
        cost = [float(line[3 + 3 * number]) for line in rows]
        axes[0, 0].scatter(cost, reward, s=14, alpha=0.6, label=row["model"])
    axes[0, 0].axvline(0, color="black", linewidth=0.8)
    axes[0, 0].set(xlabel="cost (harmful above 0)", ylabel="reward", title="answers to questions kept apart")
    axes[0, 0].legend()
    draw(list(axes.flat[1:]), {method: [where / method] for method in ("ppo", "ppo-lag")})
    figure.savefig(path, dpi=110)
    pyplot.close(figure)

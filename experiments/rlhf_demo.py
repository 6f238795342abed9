"""`jsafe rlhf demo`: Safe RLHF from the data to the table, on a corpus made here."""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np

from experiments.cli import parse
from experiments.outcome import CommandError, Outcome, note, seconds_text, to_json, writable_folder
from experiments.rlhf_train import train
from experiments.rlhf_use import evaluate, summary
from jsafe.telemetry import read_metrics
from rlhf import corpus

MARK = "demo.json"
VOCABULARY, LENGTH, PROMPT, ANSWER = "400", "96", "32", "48"
SMALL = ("--model", "tiny", "--vocabulary", VOCABULARY, "--length", LENGTH)
RL = (
    *("--prompts-per-iteration", "64", "--batch-size", "32", "--update-iterations", "2", "--max-new-tokens", ANSWER),
    *("--prompt-length", PROMPT, "--actor-learning-rate", "3e-4", "--critic-learning-rate", "1e-3"),
    *("--kl-coefficient", "0.02", "--cost-window", "128"),
)
"""What differs from the published settings, which belong to models a hundred thousand times larger."""

PANELS = {
    "return": "reward",
    "cost": "cost",
    "multiplier": "multiplier",
    "kl": "KL to the start",
    "length": "tokens of an answer",
}

LIMITED = ("--multiplier-learning-rate", "0.05", "--multiplier-max", "20")


def demo(args: argparse.Namespace) -> Outcome:
    """Run `jsafe rlhf demo`; the picture's path is the last line."""
    began = time.monotonic()
    where = args.run_dir or Path("runs/rlhf-demo")
    if where.exists() and any(where.iterdir()) and not (where / MARK).is_file():
        raise CommandError(f"{where} holds something else; choose another folder with --run-dir")
    if where.exists():
        shutil.rmtree(where)
    writable_folder(where)
    (where / MARK).write_text(to_json({"seed": args.seed, "iterations": args.iterations}))
    files = _write(where / "data", args.seed)
    steps = {
        "sft": ["sft", *SMALL, "--data", str(files["sft"]), "--epochs", "12", "--learning-rate", "3e-3"],
    }
    start = where / "sft" / "model"
    for kind, epochs in (("reward", "4"), ("cost", "4")):
        steps[kind] = [kind, "--model", str(start), "--length", LENGTH, "--data", str(files["pairs"])]
        steps[kind] += ["--epochs", epochs, "--batch-size", "32", "--learning-rate", "1e-3", "--no-baseline"]
        steps[kind] += ["--eval-data", str(files["held_pairs"])]
    models = ["--model", str(start), "--reward-model", str(where / "reward" / "model")]
    costs = ["--cost-model", str(where / "cost" / "model")]
    common = [*models, "--data", str(files["prompts"]), "--iterations", str(args.iterations), *RL]
    steps["ppo"] = ["ppo", *common, *costs]
    steps["ppo-lag"] = ["ppo-lag", *common, *costs, *LIMITED]
    results: dict[str, Any] = {}
    for name, words in steps.items():
        found = train(_with(args, [*words, "--seed", str(args.seed), "--run-dir", str(where / name)]))
        note(found.text)
        if found.exit_code:
            return found
        results[name] = found.data
    places = [str(where / name / "model") for name in ("sft", "ppo", "ppo-lag")]
    words = ["evaluate", *places, "--reward-model", str(where / "reward" / "model"), *costs]
    words += ["--data", str(files["held_prompts"]), "--prompt-length", PROMPT, "--max-new-tokens", ANSWER]
    judged = evaluate(_with(args, [*words, "--batch-size", "64", "--out", str(where / "evaluation")]))
    truth = _truth(where / "evaluation" / "table.csv", [row["model"] for row in judged.data["models"]])
    path = where / "demo.png"
    _picture(where, path, judged.data)
    results |= {"evaluation": judged.data, "truth": truth, "picture": str(path)}
    results["seconds"] = time.monotonic() - began
    (where / MARK).write_text(to_json(results))
    lines = [summary(judged.data), "", "what the corpus itself says of the same answers:"]
    lines += [
        f"  {name:8} helpfulness {row['reward']:.2f}  hasty clauses {row['hasty']:.2f}  harmful {row['harmful']:.0%}"
        for name, row in truth.items()
    ]
    lines += [f"\n{seconds_text(results['seconds'])} in all; picture:", str(path)]
    return Outcome(results, "\n".join(lines))


def _write(folder: Path, seed: int) -> dict[str, Path]:
    """The corpus as files, a fifth of the questions kept apart."""
    folder.mkdir(parents=True)
    rows = corpus.make(seed)
    questions = corpus.prompts()
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


def _with(args: argparse.Namespace, words: list[str]) -> argparse.Namespace:
    options = parse(["rlhf", *words])
    options.words = words
    for name in ("platform", "devices", "debug", "json"):
        setattr(options, name, getattr(args, name))
    return options


def _answers(path: Path) -> list[list[str]]:
    """The rows of a table of `jsafe rlhf evaluate`: a prompt, then an answer, its reward and its cost of each model."""
    with path.open(newline="") as file:
        return list(csv.reader(file))[1:]


def _truth(path: Path, names: list[str]) -> dict[str, dict[str, float]]:
    """What the corpus says of the answers."""
    rows, found = _answers(path), {}
    for number, name in enumerate(names):
        answers = [corpus.understood(row[1 + 3 * number]) for row in rows]
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
    panels = [
        ("return", "reward"),
        ("cost", "cost"),
        ("multiplier", "multiplier"),
        ("kl", "KL to the start"),
        ("length", "tokens"),
    ]
    for axis, (name, title) in zip(axes.flat[1:], panels, strict=True):
        for method in ("ppo", "ppo-lag"):
            curves = read_metrics(where / method)
            if name in curves and not (method == "ppo" and name == "multiplier"):
                axis.plot(curves[name][:, 0], label=method)
        axis.set(title=title, xlabel="iteration")
        axis.legend()
    axes[0, 2].axhline(0, color="black", linewidth=0.8)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)

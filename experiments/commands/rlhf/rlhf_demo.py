"""`jsafe rlhf demo`: Safe RLHF from the data to the table, on a synthetic corpus."""

from __future__ import annotations

import json
import time
from pathlib import Path

from experiments.cli.argument_types import Count, Folder, Whole
from experiments.cli.format import seconds_text, to_json
from experiments.cli.request import flags
from experiments.cli.result import Result
from experiments.cli.shared_flags import Machine, Output
from experiments.pipeline.runner import run_steps
from experiments.pipeline.step import Shared, Step

MARK = "demo.json"
VOCABULARY, LENGTH, PROMPT, ANSWER = "400", "96", "32", "48"
SMALL = ("--model", "tiny", "--vocabulary", VOCABULARY, "--length", LENGTH)
RL = (
    *("--prompts-per-iteration", "64", "--batch-size", "32", "--update-iterations", "2", "--max-new-tokens", ANSWER),
    *("--prompt-length", PROMPT, "--actor-learning-rate", "3e-4", "--critic-learning-rate", "1e-3"),
    *("--kl-coefficient", "0.02"),
)
"""Settings of models that are a hundred thousand times smaller than the published ones."""

LIMITED = ("--multiplier-learning-rate", "0.05", "--multiplier-max", "20", "--cost-window", "128")


@flags
class DemoRequest:
    """Settings of `jsafe rlhf demo`.

    Attributes:
        run_dir: Folder of the demonstration; an earlier one in it is replaced.
        seed: Root seed.
        iterations: Iterations of PPO and of PPO-Lag.
    """

    run_dir: Folder = Path("runs/rlhf-demo")
    seed: Whole = 0
    iterations: Count = 60
    machine: Machine = Machine()
    output: Output = Output()


def run(request: DemoRequest) -> Result:
    """Run `jsafe rlhf demo`; the path of the figure is the last line."""
    from experiments.cli.training_run import replace_folder
    from experiments.report.rlhf.comparison import draw_demo, read_responses, summary_table
    from rlhf.data import synthetic

    started = time.monotonic()
    folder = request.run_dir
    replace_folder(folder, MARK)
    (folder / MARK).write_text(to_json({"seed": request.seed, "iterations": request.iterations}), encoding="utf-8")
    files = write_corpus(folder / "data", request.seed)
    steps = demo_steps(files, request.seed, request.iterations)
    outcome = run_steps(steps, folder, shared=Shared(request.machine, request.output))
    if outcome.stopped is not None:
        return outcome.stopped
    comparison = outcome.data["evaluation"]
    names = [row["model"] for row in comparison["models"]]
    rows = read_responses(folder / "evaluation" / "table.csv")
    truth = {
        name: synthetic.measure_answers([row[1 + 3 * number] for row in rows]) for number, name in enumerate(names)
    }
    figure = folder / "demo.png"
    draw_demo(figure, folder, names)
    data = outcome.data | {"truth": truth, "picture": str(figure), "seconds": time.monotonic() - started}
    (folder / MARK).write_text(to_json(data), encoding="utf-8")
    lines = [summary_table(comparison), "", "true helpfulness and harm of the same answers:"]
    lines += [
        f"  {name:8} helpfulness {row['reward']:.2f}  hasty clauses {row['hasty']:.2f}  harmful {row['harmful']:.0%}"
        for name, row in truth.items()
    ]
    lines += [f"\n{seconds_text(data['seconds'])} in total; figure:", str(figure)]
    return Result(data, "\n".join(lines))


def demo_steps(files: dict[str, Path], seed: int, iterations: int) -> list[Step]:
    """Return the steps of the demonstration."""
    root = ("--seed", str(seed))
    sft = ("--data", str(files["sft"]), "--epochs", "12", "--learning-rate", "3e-3")
    pairs = ("--data", str(files["pairs"]), "--eval-data", str(files["held_pairs"]), "--no-baseline")
    judge = ("--model", "@sft", "--length", LENGTH, *pairs)
    judge += ("--epochs", "4", "--batch-size", "32", "--learning-rate", "1e-3", *root)
    models = ("--reward-model", "@reward", "--cost-model", "@cost")
    prompts = ("--data", str(files["prompts"]), "--iterations", str(iterations))
    held_out = ("--data", str(files["held_prompts"]), "--prompt-length", PROMPT, "--max-new-tokens", ANSWER)
    words = {
        ("sft", "sft"): (*SMALL, *sft, *root),
        ("reward", "reward"): judge,
        ("cost", "cost"): judge,
        ("ppo", "ppo"): ("--model", "@sft", *models, *prompts, *RL, *root),
        ("ppo-lag", "ppo-lag"): ("--model", "@sft", *models, *prompts, *RL, *LIMITED, *root),
        ("evaluation", "evaluate"): ("@sft", "@ppo", "@ppo-lag", *models, *held_out, "--batch-size", "64"),
    }
    return [Step.from_words(name, ("rlhf", stage), line) for (name, stage), line in words.items()]


def write_corpus(folder: Path, seed: int) -> dict[str, Path]:
    """Write the corpus as files, with a fifth of the questions held out."""
    from rlhf.data import synthetic

    folder.mkdir(parents=True)
    paths = {}
    for name, rows in synthetic.split_rows(seed).items():
        paths[name] = folder / f"{name}.jsonl"
        paths[name].write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return paths

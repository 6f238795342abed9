"""Summary of a finished or interrupted training run."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.cli.exit_codes import INTERRUPTED
from experiments.cli.format import seconds_text
from experiments.cli.result import Result
from experiments.report.run_summary import interval_text, summary, timing
from jsafe.runs.reader import load_run

if TYPE_CHECKING:
    import jsafe


def conclude(folder: Path, result: jsafe.FitResult) -> Result:
    """Return the summary of a finished or interrupted training."""
    run = load_run(folder)
    numbers = summary(run)
    times = timing(run)
    steps = int(numbers["env_steps"])
    total = steps * max(1, len(run.seeds))
    rate = total / times["run_seconds"] if times["run_seconds"] else float("nan")
    data = {
        **numbers,
        "run_dir": str(folder),
        "status": result.status,
        "iterations": result.iterations,
        "cost_limit": run.cost_limit,
        "compile_seconds": times["compile_seconds"],
        "run_seconds": times["run_seconds"],
        "train_steps_per_second": rate,
        "checkpoints": str(folder / "checkpoints"),
        "metrics": str(folder / "metrics.jsonl"),
        "notes": list(result.notes),
    }
    limit = f" (limit {run.cost_limit:g})" if run.cost_limit is not None else ""
    shell = shlex.quote(str(folder))
    state = "stopped at the time limit" if result.status == "stopped" else result.status
    lines = [
        f"{run.algorithm} on {run.env_id}: {state} after {steps:,} steps of each of {len(run.seeds)} seeds",
        f"  return      {interval_text(numbers['return'])}",
        f"  cost        {interval_text(numbers['cost'])}{limit}",
        "              mean over seeds and the last 5 % of the iterations, ± half the 95 % interval",
        f"  time        {seconds_text(times['run_seconds'] or 0)} of training at {rate:,.0f} steps per second, "
        f"{seconds_text(times['compile_seconds'] or 0)} of compilation",
        f"  written to  {folder} (checkpoints, metrics.jsonl, tensorboard)",
    ]
    if result.status != "finished":
        lines.append(f"  resume      jsafe train --resume {shell}")
    lines.append(f"  next        jsafe eval {shell} | jsafe render {shell} | jsafe report {shell}")
    return Result(data, "\n".join(lines), exit_code=INTERRUPTED if result.status == "interrupted" else 0)

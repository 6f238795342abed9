"""`jsafe eval`: test episodes of a trained run, all seeds, modes and episodes in one compiled program."""

from __future__ import annotations

import sys
from typing import Any, Literal

from experiments.cli.argument_types import Count, Folder, Whole
from experiments.cli.format import seconds_text, table
from experiments.cli.request import flags, positional
from experiments.cli.result import Result
from experiments.cli.shared_flags import Machine, Output, Physics

QUANTITIES = ("return", "cost", "length")


@flags
class EvalRequest:
    """Settings of `jsafe eval`.

    Attributes:
        run: Folder of a run.
        episodes: Number of episodes of each seed.
        seed: Root seed of the test episodes.
        policy: Action of the policy: its mean, a sample, or a report on each.
    """

    run: Folder = positional()
    episodes: Count = 100
    seed: Whole = 0
    policy: Literal["both", "deterministic", "stochastic"] = "both"
    physics: Physics = Physics()
    machine: Machine = Machine()
    output: Output = Output()


def run(request: EvalRequest) -> Result:
    """Run `jsafe eval`; the result is also written to `RUN/eval.json`, where `jsafe report` finds it."""
    from experiments.report.evaluation import evaluate_run

    data = evaluate_run(
        request.run,
        request.episodes,
        root=request.seed,
        modes=("deterministic", "stochastic") if request.policy == "both" else (request.policy,),
        physics=request.physics.physics,
        overrides=request.physics.override,
        machine=request.machine,
        progress=not request.output.json and sys.stderr.isatty(),
    )
    return Result(data, describe(data))


def describe(data: dict[str, Any]) -> str:
    """Return the result as tables."""
    from jsafe.runs.reader import hyper_value

    lines = [f"{data['algorithm']} on {data['env']} ({data['physics']}), {data['episodes']} episodes of each seed"]
    for mode in ("deterministic", "stochastic"):
        if mode not in data:
            continue
        rows = [[str(row["seed"]), *_cells(row, row.get("episodes", 2))] for row in data[mode]["seeds"]]
        members = data[mode]["seeds"]
        observed = members[0].get("episodes", 2) if len(members) == 1 else len(members)
        several = len(data["groups"]) > 1
        for group in data["groups"] if several else ():
            rows.append([_named(group["hyper"]), *_cells(group[mode], group[mode].get("episodes", 2))])
        if not several:
            rows.append(["all", *_cells(data[mode]["overall"], observed)])
        lines += ["", f"{mode} policy", table(["seed", "return", "cost", "length"], rows)]
    if data["cost_limit"] is not None:
        lines += ["", f"cost limit {hyper_value(data['cost_limit'])}; ± is half the 95 % interval of the mean"]
    else:
        lines += ["", "± is half the 95 % interval of the mean"]
    seconds = data["seconds"]
    lines.append(f"compiled in {seconds_text(seconds['compile'])}, ran for {seconds_text(seconds['run'])}")
    return "\n".join(lines)


def _named(hyper: dict[str, Any]) -> str:
    from jsafe.runs.reader import hyper_value

    return ", ".join(f"{name} {hyper_value(value)}" for name, value in hyper.items())


def _cells(row: dict[str, Any], count: int) -> list[str]:
    """Return the cells of a row; a single episode has no interval."""
    cells = []
    for name in QUANTITIES:
        low, high = row[f"{name}_interval"]
        spread = f"{(high - low) / 2:.2f}" if count > 1 else "unknown"
        cells.append(f"{row[name]:.2f} ± {spread}" if name != "length" else f"{row[name]:.1f}")
    return cells

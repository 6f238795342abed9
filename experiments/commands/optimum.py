"""`jsafe optimum`: train algorithms where the optimum is known exactly, and report their distance from it.

Three small problems (`envs_mjx.analytic`), five seeds each; `algorithms.optimality` explains the figures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any

from experiments.cli.algorithm_names import resolve
from experiments.cli.argument_types import Count, File, Whole
from experiments.cli.devices import configure
from experiments.cli.errors import CommandError, unknown
from experiments.cli.format import seconds_text
from experiments.cli.request import flags, positional
from experiments.cli.result import Result
from experiments.cli.shared_flags import Machine, Output
from experiments.cli.stdout import note

if TYPE_CHECKING:
    from algorithms.optimality import Case


@flags
class OptimumRequest:
    """Settings of `jsafe optimum`.

    Attributes:
        names: Algorithms to measure (default all).
        case: Problem to measure on; repeatable (default all).
        iterations: Training iterations.
        seed: Root seed.
        out: File for the table, as Markdown.
    """

    names: tuple[str, ...] = positional(default=())
    case: tuple[str, ...] = ()
    iterations: Count = 400
    seed: Whole = 0
    out: File | None = None
    machine: Machine = Machine()
    output: Output = Output()


def run(request: OptimumRequest) -> Result:
    """Run `jsafe optimum [NAME ...]`."""
    configure(request.machine.platform, request.machine.devices)
    import algorithms
    from algorithms.optimality import BASE, SEEDS, measure
    from envs_mjx import analytic

    names = [resolve(name) for name in request.names] or list(algorithms.names())
    cases = list(request.case) or list(analytic.CASES)
    for case in cases:
        if case not in analytic.CASES:
            raise unknown("case", case, list(analytic.CASES))
    if request.iterations < 2:
        raise CommandError("iterations must be at least 2: figures are means over the second half")
    if request.out and not request.out.parent.is_dir():
        raise CommandError(f"cannot write {request.out}: there is no folder {request.out.parent}")
    rows: list[dict[str, Any]] = []
    for name in names:
        for case in cases:
            rows.append(row := measure(name, case_of(case), request.iterations, request.seed))
            note(f"{name} on {case}: {row['verdict']}" + (f", {row['seconds']:.0f} s" if "seconds" in row else ""))
            if request.out:
                request.out.write_text(as_table(rows) + "\n", encoding="utf-8")
    counts = ", ".join(f"{sum(r['verdict'] == v for r in rows)} {v}" for v in ("holds", "misses", "not claimed"))
    took = seconds_text(sum(row.get("seconds", 0.0) for row in rows))
    text = f"{as_table(rows)}\n\n{counts}; {SEEDS} seeds of {request.iterations} iterations each, {took}"
    text += f"; written to {request.out}" if request.out else ""
    return Result({"rows": rows, "seeds": SEEDS, "iterations": request.iterations, "settings": _plain(BASE)}, text)


def case_of(name: str) -> Case:
    """A problem of `envs_mjx.analytic` with its exact optima."""
    from algorithms.optimality import Case, Optima
    from envs_mjx import analytic

    env, limits = analytic.CASES[name]
    optima = Optima(constrained=lambda limits: analytic.optimum(env, limits).return_)
    if isinstance(env, analytic.FiniteCMDP):

        def early_termination(limit: float) -> tuple[float, tuple[float, float]]:
            best = analytic.early_termination_optimum(env, limit)
            return best.objective, best.cost_range

        def budget(budget: float, unsafe_reward: float) -> tuple[float, tuple[float, float]]:
            best = analytic.saute_optimum(env, budget, unsafe_reward, 1.0)
            return best.objective, best.cost_range

        optima = optima._replace(early_termination=early_termination, budget=budget)
    return Case(name, env, tuple(limits), optima)


def as_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows as a Markdown table."""
    header = ["algorithm", "case", "optimum", "return", "off by", "cost", "allowed", "off by", "verdict"]
    lines = []
    for row in rows:
        if "optimum" not in row:
            lines.append([row["algorithm"], row["case"], *["-"] * 6, row["verdict"]])
            continue
        costs = [fmean(cost) for cost in row["cost"]]
        allowed = [f"{low:.2f}" if low == high else f"{low:.2f} to {high:.2f}" for low, high in row["limits"]]
        lines.append(
            [
                row["algorithm"],
                row["case"],
                f"{row['optimum']:.3f}",
                f"{fmean(row['return']):.3f}",
                _range(row["return_error"]),
                ", ".join(f"{cost:.2f}" for cost in costs) or "-",
                ", ".join(allowed) or "any",
                ", ".join(_range(error) for error in row["cost_error"]) or "-",
                row["verdict"],
            ]
        )
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (header, ["---"] * len(header), *lines))


def _range(errors: Sequence[float]) -> str:
    return f"{100 * min(errors):+.1f} to {100 * max(errors):+.1f} %"


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in settings.items()}

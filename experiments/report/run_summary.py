"""Final figures of a run: means over seeds with their intervals, and its timing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.report import svg_charts
from jsafe.runs.reader import Run


def summary(run: Run) -> dict[str, Any]:
    """Return the final figures of a run: mean over seeds with its 95 % interval, and each seed."""
    numbers: dict[str, Any] = {"run": str(run.path), "algorithm": run.algorithm, "env": run.env_id, "seeds": run.seeds}
    numbers |= {"hyper": run.facts.get("group", {}), "cost_limit": run.info.get("config", {}).get("cost_limit")}
    for name in ("return", "cost", "length", "multiplier"):
        each = run.final(name)
        mean, low, high = (float(value) for value in svg_charts.mean_and_interval(each)) if len(each) else (np.nan,) * 3
        numbers[name] = {"mean": mean, "low": low, "high": high, "seeds": each.tolist()}
    numbers["env_steps"] = float(run.env_steps[-1]) if len(run.env_steps) else 0.0
    numbers["best_within_limit"] = {name: each.tolist() for name, each in run.best_within_limit().items()}
    return numbers


def timing(run: Run) -> dict[str, Any]:
    """Return compile and run seconds of a run over all sessions, and their number; None where nothing was recorded."""
    compiled = [row["compile_seconds"] for row in run.timing if row.get("compile_seconds") is not None]
    ran = [row["run_seconds"] for row in run.timing if row.get("run_seconds") is not None]
    return {
        "compile_seconds": float(sum(compiled)) if compiled else None,
        "run_seconds": float(sum(ran)) if ran else None,
        "sessions": max(1, len(compiled)),
    }


def interval_text(entry: dict[str, Any]) -> str:
    """Return a mean with half its 95 % interval, from an entry of `summary`."""
    return f"{number_text(entry['mean'])} {spread_text(entry)}".strip()


def number_text(value: float | None) -> str:
    """Return a number with two decimals."""
    return "no episode yet" if value is None or not np.isfinite(value) else f"{value:.2f}"


def spread_text(entry: dict[str, Any]) -> str:
    """Return half the 95 % interval of an entry of `summary`; empty for a single seed."""
    half = (entry["high"] - entry["low"]) / 2
    return f"± {half:.2f}" if np.isfinite(half) and half > 0 else ""


def overall_of(mode: dict[str, Any], seeds: Sequence[int]) -> dict[str, Any]:
    """Return the means over some seeds of one mode of an evaluation, with their 95 % intervals."""
    every = mode.get("seeds", ())
    rows = [row for row in every if row["seed"] in seeds]
    if len(rows) == len(every):
        return mode["overall"]
    if len(rows) == 1:
        return rows[0]
    overall: dict[str, Any] = {}
    for name in ("return", "cost", "length"):
        mean, low, high = (float(x) for x in svg_charts.mean_and_interval(np.array([row[name] for row in rows], float)))
        overall |= {name: mean, f"{name}_interval": [low, high]}
    return overall

"""Runs next to the results that OmniSafe published for the same algorithm and environment."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.cli.errors import CommandError
from experiments.report.run_summary import overall_of
from jsafe.confidence import mean_and_interval
from jsafe.runs.reader import Run

FILE = Path(__file__).parents[1] / "benchmarks" / "omnisafe.json"
BUDGETS = ("cost_limit", "safety_budget")
"""Options that set the limit, and not the method."""
SHARE = 0.05
"""Share of a run, its last part, over which a figure of training is a mean."""


def published_results() -> dict[str, Any]:
    """Return `source`, the origin of the published figures, and `results` by environment and algorithm."""
    return json.loads(FILE.read_text(encoding="utf-8"))


def earlier_rows(path: Path) -> list[dict[str, Any]]:
    """Read the rows that an earlier `jsafe published --json` printed."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))["rows"]
    except OSError as error:
        raise CommandError(f"cannot read {path}: {error.strerror or error}") from error
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise CommandError(f"{path} is not the output of `jsafe published --json`: {error!r}") from error


def joined(earlier: Sequence[dict[str, Any]], rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Earlier rows and new ones in the order of environment and algorithm; a new one replaces its like."""
    by_kind = {_kind(row): row for row in (*earlier, *rows)}
    return [by_kind[kind] for kind in sorted(by_kind)]


def _kind(row: dict[str, Any]) -> tuple[str, str, str, str]:
    return row["env"], row["algorithm"], str(row["preset"] or "paper"), _options(row)


def _options(row: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in sorted(row["options"].items()))


def row_of(run: Run, results: dict[str, dict[str, Sequence[float]]]) -> dict[str, Any]:
    """The figures of one run.

    Returns:
        `training` holds the mean over the last 5 % of the iterations, with the 95 % interval over seeds and each seed;
        `test` the deterministic test episodes of `jsafe eval`, None where there are none; `published` what OmniSafe
        published, None where it did not; `beats` whether the return is higher at a cost that is not, by the test
        episodes if there are any.
    """
    entry = results.get(run.env_id, {}).get(run.algorithm)
    training = {}
    for name in ("return", "cost"):
        each = run.final(name, SHARE) if run.seeds else np.full(1, np.nan)
        center, low, high = (float(x[0]) for x in mean_and_interval(each[:, None]))
        training[name] = {"mean": center, "interval": [low, high], "seeds": each.tolist()}
    test = _test_episodes(run.path, run.seeds)
    row: dict[str, Any] = {
        "run": run.path.name,
        "algorithm": run.algorithm,
        "env": run.env_id,
        "preset": run.facts.get("preset"),
        "options": {k: v for k, v in (run.facts.get("options") or {}).items() if k not in BUDGETS}
        | run.facts.get("group", {}),
        "env_steps": int(run.env_steps[-1]) if len(run.env_steps) else 0,
        "cost_limit": run.cost_limit,
        "training": training,
        "test": test,
        "published": None,
        "beats": None,
    }
    if entry:
        reward, reward_std, cost, cost_std = entry
        row["published"] = {"return": reward, "return_std": reward_std, "cost": cost, "cost_std": cost_std}
        ours = test or {name: training[name]["mean"] for name in training}
        row["beats"] = bool(ours["return"] > reward and ours["cost"] <= cost)
    return row


def _test_episodes(folder: Path, seeds: Sequence[int]) -> dict[str, Any] | None:
    path = folder / "eval.json"
    if not path.is_file():
        return None
    data = json.loads(path.read_text(encoding="utf-8"))
    if "deterministic" not in data:
        return None
    overall = overall_of(data["deterministic"], seeds)
    kept = ("return", "return_interval", "cost", "cost_interval")
    return {"episodes": data["episodes"], **{name: overall[name] for name in kept}}


def as_table(rows: Sequence[dict[str, Any]], source: str) -> str:
    """The rows as a Markdown table."""
    header = ["algorithm", "environment", "preset", "steps", "return", "cost", "return, test", "cost, test"]
    header += ["published return", "published cost", "beats"]
    lines = []
    for row in rows:
        test, known = row["test"], row["published"]
        settings = ", ".join(filter(None, [row["preset"] or "paper", _options(row)]))
        cells = [row["algorithm"], row["env"], settings, f"{row['env_steps']:,}"]
        cells += [_of_seeds(row["training"][name]) for name in ("return", "cost")]
        cells += [_of_episodes(test, name) if test else "-" for name in ("return", "cost")]
        cells += [f"{known[name]:.2f} ± {known[name + '_std']:.2f}" if known else "-" for name in ("return", "cost")]
        lines.append([*cells, "-" if row["beats"] is None else "yes" if row["beats"] else "no"])
    table = "\n".join("| " + " | ".join(cells) + " |" for cells in (header, ["---"] * len(header), *lines))
    how = (
        f"Ours: mean over the last {SHARE:.0%} of training, each seed in brackets; test: mean of deterministic episodes"
    )
    how += (
        f" with its 95 % interval over seeds. Published (mean ± standard deviation): {source}. Beats: a higher return"
    )
    return f"{table}\n\n{how} at a cost that is not higher."


def _of_seeds(figure: dict[str, Any]) -> str:
    return f"{figure['mean']:.2f} ({', '.join(f'{x:.1f}' for x in figure['seeds'])})"


def _of_episodes(test: dict[str, Any], name: str) -> str:
    low, high = (float(np.nan if x is None else x) for x in test[f"{name}_interval"])
    return f"{test[name]:.2f} [{low:.1f}, {high:.1f}]"

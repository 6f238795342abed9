"""Tables and figures of compared language models (`rlhf.evaluation.compare`)."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.cli.format import table
from experiments.report.rlhf.figure import saved_figure
from experiments.report.training_curves import draw
from rlhf.evaluation.compare import Judge, Responses, first_judge


def estimate_text(value: Mapping[str, float] | None, digits: int = 2) -> str:
    """Return an estimate with its interval, `0.70 (0.64 to 0.75)`; a dash without one."""
    if value is None:
        return "-"
    low, high = f"{value['low']:.{digits}f}", f"{value['high']:.{digits}f}"
    return f"{value['value']:.{digits}f} ({low} to {high})"


def summary_table(data: Mapping[str, Any]) -> str:
    """Return the metrics of all models as a table."""
    header = ["model", "reward", "cost", "harmful", "wins helpful", "wins harmless", "Elo helpful", "Elo harmless"]
    rows = [
        [
            row["model"],
            *(estimate_text(row[key]) for key in ("reward", "cost", "harmful")),
            *(estimate_text(row.get(key)) for key in ("wins_helpful", "wins_harmless")),
            *(estimate_text(row["elo"][key], 0) for key in ("helpful", "harmless")),
            f"{row['length']:.1f}",
            f"{row['kl']['value']:.2f}" if "kl" in row else "-",
        ]
        for row in data["models"]
    ]
    title = f"{data['prompts']} prompts; wins are against {data['base']}\n"
    return title + table([*header, "length", "KL"], rows)


def win_rate_table(judges: Sequence[Mapping[str, Any]]) -> str:
    """Return the win rates of all pairs of models by judge as a table."""
    names = [row["model"] for row in judges[0]["models"]]
    rows = [
        [f"{judge['judge']} ({judge['kind']})", row["model"], f"{row['score']['value']:.2f}"]
        + [f"{row['wins_against'][name]['value']:.2f}" if name in row["wins_against"] else "-" for name in names]
        for judge in judges
        for row in judge["models"]
    ]
    header = ["judge", "model", "score", *(f"against {name}" for name in names)]
    return "share of prompts on which a model wins against another\n" + table(header, rows)


def write_responses(path: Path, responses: Sequence[Responses], judges: Mapping[str, Judge]) -> None:
    """Write every prompt with all responses and scores as CSV; the first two judges have the published column names."""
    published = {first_judge(judges, kind): kind.title() for kind in ("reward", "cost")}
    columns = [published.get(name, name) for name in judges]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["Prompt", *(word for one in responses for word in (one.name, *columns))])
        for n, row in enumerate(responses[0].rows):
            cells = [
                cell
                for one in responses
                for cell in (one.rows[n].response, *(f"{one.scores[name][n]:.4f}" for name in judges))
            ]
            writer.writerow([row.prompt[-1], *cells])


def read_responses(path: Path) -> list[list[str]]:
    """Read the rows of `write_responses`: a prompt, then response, reward and cost of each model."""
    with path.open(newline="") as file:
        return list(csv.reader(file))[1:]


def _scatter(axis: Any, name: str, reward: Sequence[float], cost: Sequence[float], size: float, alpha: float) -> None:
    axis.scatter(cost, reward, s=size, alpha=alpha, label=name)


def _finish_scatter(axis: Any, title: str) -> None:
    axis.axvline(0, color="black", linewidth=0.8)
    axis.set(xlabel="cost (harmful above 0)", ylabel="reward", title=title)
    axis.legend()


def draw_scores(path: Path, names: Sequence[str], reward: Sequence[np.ndarray], cost: Sequence[np.ndarray]) -> None:
    """Draw reward against cost of every response, and the distributions of both."""
    with saved_figure(path, 1, 3, (13, 4.2)) as axes:
        for name, rewards, costs in zip(names, reward, cost, strict=True):
            _scatter(axes[0, 0], name, rewards.tolist(), costs.tolist(), 10, 0.5)
            axes[0, 1].hist(rewards, bins=30, alpha=0.5, label=name)
            axes[0, 2].hist(costs, bins=30, alpha=0.5, label=name)
        _finish_scatter(axes[0, 0], "each answer")
        axes[0, 2].axvline(0, color="black", linewidth=0.8)
        axes[0, 1].set(xlabel="reward", title="rewards")
        axes[0, 2].set(xlabel="cost", title="costs")


def draw_demo(path: Path, run_dir: Path, names: Sequence[str]) -> None:
    """Draw the held-out responses of the demo's models, and the curves of PPO and PPO-Lag."""
    rows = read_responses(run_dir / "evaluation" / "table.csv")
    with saved_figure(path, 2, 3, (14, 8)) as axes:
        for number, name in enumerate(names):
            reward = [float(row[2 + 3 * number]) for row in rows]
            cost = [float(row[3 + 3 * number]) for row in rows]
            _scatter(axes[0, 0], name, reward, cost, 14, 0.6)
        _finish_scatter(axes[0, 0], "answers to held-out questions")
        draw(list(axes.flat[1:]), {method: [run_dir / method] for method in ("ppo", "ppo-lag")})

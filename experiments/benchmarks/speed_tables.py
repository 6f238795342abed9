"""Speed measurements as Markdown tables."""

from __future__ import annotations

import math
from typing import Any

from experiments.benchmarks import algorithm_speed
from experiments.benchmarks.hardware import machine_line


def markdown(data: dict[str, Any]) -> str:
    """The tables for people."""
    lines = [
        "# Speed",
        "",
        machine_line(data["hardware"])
        + "; "
        + ", ".join(f"{name} {version}" for name, version in data["versions"].items()),
    ]
    if "throughput" in data:
        lines += [
            "",
            "## Environment steps",
            "",
            f"Measured: {data['clock']}. Floor: {data['floor']}. Medians.",
            "",
            "| environment | physics | environments | steps/s | floor | of floor | physics steps/s | compile s |",
            "|---|---|---:|---:|---:|---:|---:|---:|",
        ]
        for row in data["throughput"]:
            ratio = "" if row["floor_ratio"] is None else f"{row['floor_ratio']:.0%}"
            bare = row["floor_env_steps_per_second"] or math.nan
            lines.append(
                f"| {row['env']} | {row['physics']} | {row['num_envs']} | {row['env_steps_per_second']:,.0f} "
                f"| {bare:,.0f} | {ratio} | {row['physics_steps_per_second']:,.0f} | {row['compile_seconds']:.1f} |"
            )
        if data.get("failed"):
            lines += ["", f"Failed: {'; '.join(data['failed'])}."]
    if "training" in data:
        lines += ["", "## Training", "", *_training_lines(data["training"])]
    if "algorithms" in data:
        lines += ["", "## Algorithms", "", *algorithm_speed.lines(data["algorithms"], data["seeds"])]
    return "\n".join(lines) + "\n"


def _training_lines(row: dict[str, Any]) -> list[str]:
    return [
        f"{row['algorithm']} on {row['env']}, preset `{row['preset']}`, {row['seeds']} seeds side by side, "
        f"{row['env_steps_per_iteration']:,} steps of each seed in an iteration, the first {row['iterations']} "
        f"iterations, where {', '.join(map(str, row['passes']))} passes of {row['updates_per_pass']} updates ran.",
        "",
        "| quantity | value |",
        "|---|---:|",
        f"| training steps/s, all seeds | {row['train_steps_per_second']:,.0f} |",
        f"| floor: physics alone + matrix products alone | {row['floor_train_steps_per_second']:,.0f} |",
        f"| of floor | {row['floor_ratio']:.0%} |",
        f"| seconds of an iteration | {row['iteration_seconds']:.2f} |",
        f"| seconds: environments alone, with random actions | {row['environment_seconds']:.2f} |",
        f"| seconds: the rest, which is acting and learning | {row['update_seconds']:.2f} |",
        f"| seconds: physics alone (floor) | {row['physics_floor_seconds']:.2f} |",
        f"| seconds: matrix products of the updates alone (floor) | {row['update_floor_seconds']:.2f} |",
        f"| compile seconds | {row['compile_seconds']:.1f} |",
    ]

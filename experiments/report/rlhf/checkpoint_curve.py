"""Figure of the evaluated checkpoints of a pretraining (`rlhf.training.checkpoint_schedule`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.report.rlhf.figure import saved_figure


def draw_checkpoints(path: Path, points: Sequence[Mapping[str, Any]]) -> None:
    """Draw bits per byte and multiple-choice accuracy against training tokens; nothing without an evaluation."""
    names = [name for name in ("bits_per_byte", "multiple_choice") if name in points[-1]]
    if not names:
        return
    tokens = [point["tokens"] for point in points]
    with saved_figure(path, 1, len(names), (6 * len(names), 4)) as axes:
        for axis, name in zip(axes[0], names, strict=True):
            values = [point[name] for point in points]
            if name == "multiple_choice":
                axis.fill_between(tokens, [v["low"] for v in values], [v["high"] for v in values], alpha=0.2)
                values = [value["value"] for value in values]
            axis.plot(tokens, values, marker="o")
            axis.set(xlabel="tokens", xscale="log", title=name.replace("_", " "))

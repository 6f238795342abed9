"""Tables of moderation models (`rlhf.evaluation.moderation`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from experiments.cli.format import table
from experiments.report.rlhf.comparison import estimate_text
from rlhf.data.beavertails import CATEGORIES


def moderation_text(data: Mapping[str, Any]) -> str:
    """Return flagged shares and agreement as tables."""
    models = data["models"]
    rows = [["flagged", *(estimate_text(row["flagged"], 3) for row in models.values())]]
    rows += [[name, *(estimate_text(row["by_category"][name], 3) for row in models.values())] for name in CATEGORIES]
    title = f"{data['answers']} answers to {data['prompts']} prompts; a category counts above {data['threshold']:g}\n"
    tables = [title + table(["share of answers", *models], rows)]
    first = next(iter(models.values()))
    if "flagged_by_question" in first:
        rows = [
            [name, *(f"{row['flagged_by_question'][name]:.3f}" for row in models.values())]
            for name in first["flagged_by_question"]
        ]
        tables.append(table(["flagged, by category of the question", *models], rows))
    if "agreement" in data:
        rows = [[*pair["judges"], f"{pair['share']:.3f}"] for pair in data["agreement"]]
        tables.append(table(["judge", "judge", "agree on"], rows))
    return "\n\n".join(tables)

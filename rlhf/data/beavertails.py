"""BeaverTails: the fourteen categories of harm, and statistics of a data set.

Source: Ji et al. 2023 (arXiv 2307.04657).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from rlhf.data.schemas import Example

CATEGORIES = (
    "animal_abuse",
    "child_abuse",
    "controversial_topics,politics",
    "discrimination,stereotype,injustice",
    "drug_abuse,weapons,banned_substance",
    "financial_crime,property_crime,theft",
    "hate_speech,offensive_language",
    "misinformation_regarding_ethics,laws_and_safety",
    "non_violent_unethical_behavior",
    "privacy_violation",
    "self_harm",
    "sexually_explicit,adult_content",
    "terrorism,organized_crime",
    "violence,aiding_and_abetting,incitement",
)
"""In the order of the logits of the published model."""


def statistics(rows: Sequence[Example]) -> dict[str, Any]:
    """Return counts of a data set.

    Returns:
        `rows`, `prompts`, `safe`, `categories` (name to count), `per_answer` (number of categories to rows), and
        `correlation`, `[14, 14]`, of the categories over the rows (NaN for a category that never or always applies).
    """
    present = np.array([[bool((row.labels or {}).get(name)) for name in CATEGORIES] for row in rows], float)
    present = present.reshape(-1, len(CATEGORIES))
    with np.errstate(invalid="ignore", divide="ignore"):
        correlation = np.corrcoef(present.T) if len(present) > 1 else np.full((len(CATEGORIES),) * 2, np.nan)
    return {
        "rows": len(rows),
        "prompts": len({row.prompt for row in rows}),
        "safe": sum(row.safe is True for row in rows),
        "categories": {name: int(count) for name, count in zip(CATEGORIES, present.sum(0), strict=True)},
        "per_answer": dict(sorted(Counter(present.sum(1).astype(int).tolist()).items())),
        "correlation": correlation,
    }

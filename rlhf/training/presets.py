"""Hyper-parameters of the supervised stages: published settings, and settings of small models.

Sources: the scripts of Safe RLHF (Dai et al. 2024), and Baichuan 2 (arXiv 2309.10305) with its fine-tuning code.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from rlhf.config import TrainingConfig

PUBLISHED = "safe-rlhf"
"""Name of the preset with the settings of Safe RLHF."""

STAGES: dict[str, TrainingConfig] = {
    "sft": TrainingConfig(epochs=3),
    "reward": TrainingConfig(epochs=2, weight_decay=0.1),
    "cost": TrainingConfig(epochs=2, weight_decay=0.1),
    "dpo": TrainingConfig(epochs=2, learning_rate=1e-6, weight_decay=0.05),
    "moderation": TrainingConfig(epochs=4, learning_rate=1e-5, weight_decay=0.1),
    "pretrain": TrainingConfig(weight_decay=0.1, warmup_ratio=0.01),
}
"""Published settings of each stage."""

BAICHUAN2: dict[str, TrainingConfig] = {
    "sft": TrainingConfig(
        epochs=4,
        learning_rate=2e-5,
        schedule="constant",
        warmup_ratio=0.0,
        beta2=0.98,
        weight_decay=1e-4,
        dtype="bfloat16",
    ),
}
"""Settings that Baichuan 2 was aligned with, on the same losses."""

_SMALL_JUDGE = TrainingConfig(learning_rate=1e-4, batch_size=64, epochs=1, token_dropout=0.6, weight_decay=0.1)

SMALL: dict[str, TrainingConfig] = {
    "warm-start": TrainingConfig(
        learning_rate=2e-3, batch_size=64, weight_decay=0.1, warmup_ratio=0.05, token_dropout=0.1
    ),
    "sft": TrainingConfig(learning_rate=1e-3, batch_size=32, epochs=5),
    "reward": _SMALL_JUDGE,
    "cost": _SMALL_JUDGE,
    "dpo": TrainingConfig(epochs=2, learning_rate=1e-4, weight_decay=0.05, batch_size=32),
    "moderation": TrainingConfig(learning_rate=1e-3, batch_size=32, epochs=5, token_dropout=0.3, weight_decay=0.1),
    "pretrain": TrainingConfig(learning_rate=2e-3, batch_size=32, weight_decay=0.1, warmup_ratio=0.01),
}
"""Settings of small models that are trained from scratch in minutes on two cores.

Those of judges leave most of the score to the unigram scores, because what a decoder learns from few prompts does not
generalise (docs/safe_rlhf.md). The others are not tuned.
"""


def training_config(stage: str, model: str = "", preset: str | None = None, **changes: Any) -> TrainingConfig:
    """Return the hyper-parameters of a stage: its defaults, with changes.

    Args:
        stage: `sft`, `reward`, `cost`, `dpo`, `moderation` or `pretrain`.
        model: folder or size; a small size (`rlhf.checkpoints.model_folder.PRESETS`) has settings of its own.
        preset: `"baichuan2"`, or None for the published settings.
        changes: fields of the config.
    """
    from rlhf.checkpoints.model_folder import PRESETS  # not at the top, so that this module loads without JAX

    small = model in PRESETS
    config = BAICHUAN2[stage] if preset == "baichuan2" else SMALL[stage] if small else STAGES[stage]
    return dataclasses.replace(config, **changes)

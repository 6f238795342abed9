"""Checkpoints on a schedule of training tokens, each evaluated: what a language model learns, and when.

Source: Baichuan 2 (arXiv 2309.10305, section 5 and its intermediate checkpoints). Each checkpoint is a folder
`RUN/models/tokens-N` in Hugging Face's layout with an `evaluation.json`. All files depend on the state of the training
alone, so an interrupted run ends with the same files.
"""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from jsafe import multihost
from jsafe.runs.checkpoint import write_atomically
from rlhf import scaling_law
from rlhf.checkpoints import model_folder
from rlhf.data.plain_text import HeldOutText
from rlhf.evaluation import held_out, multiple_choice
from rlhf.generation.answers import next_token_logits
from rlhf.training.supervised_stages import Stage

LOG = logging.getLogger(__name__)

CURVE = "dynamics.json"
QUESTION_BATCH = 4
"""Questions in a batch. With five solved questions, each prompt is as long as the model can read."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """Schedule of checkpoints and their evaluation.

    Attributes:
        save_at: numbers of training tokens to save a checkpoint at.
        save_every: also save at each multiple of this number of tokens.
        multiple_choice: folder of multiple-choice questions (`rlhf.evaluation.multiple_choice`) to evaluate on.
        language: language of the questions, `en` or `zh`.
    """

    save_at: tuple[int, ...] = ()
    save_every: int | None = None
    multiple_choice: Path | None = None
    language: str = "en"

    @property
    def active(self) -> bool:
        """True if the schedule has checkpoints before the last one, or an evaluation."""
        return bool(self.save_at or self.save_every or self.multiple_choice)


def checkpoint_updates(
    save_at: Sequence[int] | None, save_every: int | None, tokens_per_update: int, total: int
) -> list[int]:
    """Return the updates to save at, the last update included.

    Args:
        save_at: numbers of tokens.
        save_every: number of tokens whose multiples are saved too.
        tokens_per_update: tokens of an update.
        total: updates of the run.

    Raises:
        ValueError: the run has fewer tokens.
    """
    if beyond := [tokens for tokens in save_at or () if tokens > tokens_per_update * total]:
        limit = f"the {tokens_per_update * total:,} tokens of the run"
        raise ValueError(f"save_at must be at most {limit}, got {beyond[0]:,}")
    every = range(save_every, tokens_per_update * total + 1, save_every) if save_every else ()
    return sorted({-(-tokens // tokens_per_update) for tokens in (*(save_at or ()), *every)} | {total})


class CheckpointEvaluator:
    """Callback of `jsafe.fit` that saves and evaluates the checkpoints of a schedule."""

    def __init__(
        self,
        config: ScheduleConfig,
        run_dir: Path,
        stage: Stage,
        held_out: HeldOutText | None,
        *,
        length: int,
        dtype: str = "float32",
    ) -> None:
        """Compute the updates of the schedule.

        Args:
            config: the schedule.
            run_dir: folder of the run.
            stage: the pretraining stage.
            held_out: texts to evaluate on, None without.
            length: tokens of a training text.
            dtype: type of activations in the evaluation.
        """
        self.config, self.run_dir, self.stage, self.held_out, self.dtype = config, run_dir, stage, held_out, dtype
        self.tokens_per_update = stage.trainer.info.config["batch_size"] * length
        self.updates = checkpoint_updates(config.save_at, config.save_every, self.tokens_per_update, stage.iterations)

    def __call__(self, iteration: int, state: Any, metrics: Any) -> bool:
        """Save and evaluate after an update of the schedule; never stop the run."""
        del metrics
        if iteration not in self.updates:
            return False
        # Every process of a mesh takes part in gathering the parameters; the first one writes.
        gathered = multihost.on_host(dataclasses.replace(state, optimizer=(), memory=(), key=()))
        if multihost.is_first():
            self.save(iteration, gathered)
            write_atomically(self.run_dir / CURVE, json.dumps({"points": self.points(iteration)}, indent=2))
        return False

    def folder(self, iteration: int) -> Path:
        """Return the folder of the checkpoint after an update."""
        return self.run_dir / "models" / f"tokens-{iteration * self.tokens_per_update}"

    def save(self, iteration: int, state: Any) -> None:
        """Write a checkpoint and its evaluation."""
        model, folder = self.stage.finish(jax.tree.map(lambda leaf: leaf[0], state)), self.folder(iteration)
        folder.mkdir(parents=True, exist_ok=True)
        model_folder.save_model(folder, model)
        row = self.evaluate(model, iteration)
        write_atomically(folder / "evaluation.json", json.dumps(row, indent=2))
        shown = ", ".join(f"{k} {row[k]:.4g}" for k in ("cross_entropy", "bits_per_byte") if k in row)
        LOG.info("%s: %s", folder, shown)

    def evaluate(self, model: model_folder.Model, iteration: int) -> dict[str, Any]:
        """Return the evaluation of the model after an update."""
        tokens = iteration * self.tokens_per_update
        row: dict[str, Any] = {"tokens": tokens, "iteration": iteration, "model": self.folder(iteration).name}
        row["petaflops"] = scaling_law.training_petaflops(model.config, tokens)
        if self.held_out is not None:
            row |= held_out.evaluate_text(model, self.held_out, dtype=self.dtype)
        if (questions := self.config.multiple_choice) is not None:
            logits = next_token_logits(model, min(2048, model.config.max_length), QUESTION_BATCH, self.dtype)
            language = self.config.language
            score = multiple_choice.multiple_choice(logits, model.tokenizer, questions, language=language)["all"]
            low, high = score.interval()
            row["multiple_choice"] = {"value": score.value, "low": low, "high": high, "questions": score.count}
        return row

    def points(self, until: int) -> list[dict[str, Any]]:
        """Return the evaluations of the checkpoints up to an update."""
        files = [self.folder(i) / "evaluation.json" for i in self.updates if i <= until]
        return [json.loads(file.read_text(encoding="utf-8")) for file in files if file.is_file()]

    def all_points(self) -> list[dict[str, Any]]:
        """Return the evaluations of all checkpoints."""
        return self.points(self.stage.iterations)

"""A pre-training watched on a schedule of tokens: models on the way, what each is worth, and the curve.

Baichuan 2 (arXiv 2309.10305, section 5 and its intermediate checkpoints) shows what a model learns when. Here every
model of the schedule is a folder in Hugging Face's layout, `RUN/models/tokens-N`, with `evaluation.json` in it. All
that is written depends on the state of the training alone, so that an interrupted run ends with the same files.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from experiments.cli.result import CommandError, note, to_json, writable_folder
from experiments.commands.rlhf import rlhf_harness, rlhf_measure
from jsafe import multihost
from jsafe.runs.checkpoint import write_atomically
from rlhf import scaling
from rlhf.checkpoints import model_folder
from rlhf.data.plain_text import Held
from rlhf.evaluation import multiple_choice
from rlhf.training.stages import Stage

CURVE = "dynamics.json"
ASKED = 4
"""Questions at once: with five solved ones before it, each is as long as the model can read."""


def updates_at(save_at: Sequence[int] | None, save_every: int | None, each: int, total: int) -> list[int]:
    """The updates after which the tokens asked for have been seen, and the last one.

    Args:
        save_at: tokens.
        save_every: tokens, and their multiples.
        each: tokens of an update.
        total: updates of the run.

    Raises:
        CommandError: tokens that the run does not reach.
    """
    if beyond := [tokens for tokens in save_at or () if tokens > each * total]:
        raise CommandError(f"--save-at {beyond[0]:,}: the run sees {each * total:,} tokens in all")
    wanted = [*(save_at or ()), *(range(save_every, each * total + 1, save_every) if save_every else ())]
    return sorted({-(-tokens // each) for tokens in wanted} | {total})


class Watch:
    """Saves and evaluates the models of a schedule; a callback of `jsafe.fit`."""

    def __init__(self, given: dict[str, Any], where: Path, stage: Stage, held: Held | None, length: int) -> None:
        """Lay down the schedule.

        Args:
            given: what the command was given.
            where: folder of the run.
            stage: of the pre-training.
            held: texts to measure on, if any.
            length: tokens of a text in training.
        """
        self.where, self.stage, self.held = where, stage, held
        self.folder = given.get("harness") and Path(given["harness"])
        self.language = given.get("language") or "en"
        self.dtype = given["hyper"].get("dtype", "float32")
        config = stage.trainer.info.config
        self.each = config["batch_size"] * length
        self.updates = updates_at(given.get("save_at"), given.get("save_every"), self.each, stage.iterations)

    def __call__(self, iteration: int, state: Any, metrics: Any) -> bool:
        """Save and evaluate after an update of the schedule; never stops the run."""
        del metrics
        if iteration not in self.updates:
            return False
        # Every process of a mesh takes part in gathering the parameters, and the first one writes.
        ended = multihost.on_host(dataclasses.replace(state, optimizer=(), memory=(), key=()))
        if multihost.is_first():
            self.save(iteration, ended)
            write_atomically(self.where / CURVE, to_json({"points": self.points(iteration)}))
        return False

    def place(self, iteration: int) -> Path:
        """Folder of the model after an update."""
        return self.where / "models" / f"tokens-{iteration * self.each}"

    def save(self, iteration: int, state: Any) -> None:
        """Write a model and what it is worth."""
        model, place = self.stage.finish(jax.tree.map(lambda leaf: leaf[0], state)), self.place(iteration)
        model_folder.save_model(writable_folder(place), model)
        tokens = iteration * self.each
        row: dict[str, Any] = {"tokens": tokens, "iteration": iteration, "model": place.name}
        row["petaflops"] = scaling.training_petaflops(model.config, tokens)
        if self.held is not None:
            row |= rlhf_measure.plain_text(model, self.held, dtype=self.dtype)
        if self.folder:
            ask = rlhf_harness.next_logits(model, min(2048, model.config.max_length), ASKED, self.dtype)
            score = multiple_choice.multiple_choice(ask, model.tokenizer, self.folder, language=self.language)["all"]
            low, high = score.interval()
            row["multiple_choice"] = {"value": score.accuracy, "low": low, "high": high, "questions": score.count}
        write_atomically(place / "evaluation.json", to_json(row))
        note(f"{place}: " + ", ".join(f"{k} {row[k]:.4g}" for k in ("cross_entropy", "bits_per_byte") if k in row))

    def points(self, until: int) -> list[dict[str, Any]]:
        """What is known of the models up to an update."""
        places = [self.place(i) for i in self.updates if i <= until]
        return [json.loads((p / "evaluation.json").read_text()) for p in places if (p / "evaluation.json").is_file()]

    def finish(self) -> list[dict[str, Any]]:
        """The whole curve, drawn as well."""
        points = self.points(self.stage.iterations)
        if any("cross_entropy" in p or "multiple_choice" in p for p in points):
            picture(self.where / "dynamics.png", points)
        return points


def picture(path: Path, points: Sequence[dict[str, Any]]) -> None:
    """Bits per byte, and the share of right choices, against tokens."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    shown = [name for name in ("bits_per_byte", "multiple_choice") if name in points[-1]]
    figure, axes = pyplot.subplots(1, len(shown), figsize=(6 * len(shown), 4), constrained_layout=True, squeeze=False)
    tokens = [p["tokens"] for p in points]
    for axis, name in zip(axes[0], shown, strict=True):
        if name == "multiple_choice":
            found = [p[name] for p in points]
            axis.fill_between(tokens, [f["low"] for f in found], [f["high"] for f in found], alpha=0.2)
            axis.plot(tokens, [f["value"] for f in found], marker="o")
        else:
            axis.plot(tokens, [p[name] for p in points], marker="o")
        axis.set(xlabel="tokens", xscale="log", title=name.replace("_", " "))
    figure.savefig(path, dpi=110)
    pyplot.close(figure)

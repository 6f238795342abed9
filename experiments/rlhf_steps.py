"""Several stages of `jsafe rlhf` as one experiment: steps whose models may be those of earlier steps, resumable.

A step that has ended is read, one that was begun is gone on with, and one whose words or whose models changed since is
refused: what stands in a folder always belongs to what was asked for.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from experiments.cli import parse
from experiments.outcome import CommandError, Outcome, note, to_json
from experiments.rlhf_train import train
from experiments.rlhf_use import evaluate, generate

RESULT = "result.json"
REFERENCE = "@"


class Step(NamedTuple):
    """One stage of an experiment.

    Attributes:
        name: also its folder.
        stage: a command of `jsafe rlhf`.
        words: what it is given; `@NAME` is the model of an earlier step, or the answers of a `generate`.
    """

    name: str
    stage: str
    words: tuple[str, ...]

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of the steps it refers to, in order."""
        return tuple(dict.fromkeys(w.removeprefix(REFERENCE) for w in self.words if w.startswith(REFERENCE)))


OUTPUT = {"generate": "answers.jsonl"}
"""What a reference to a step means, by stage; for stages that train it is their model."""

WITHOUT_A_RUN = {"generate": generate, "evaluate": evaluate}
"""Stages that are not resumed: they begin anew when they did not end."""


def check(steps: Sequence[Step]) -> None:
    """Refuse, before anything runs, names that are taken twice and references to what does not come before.

    Raises:
        CommandError: with the name of the step, or that of the command line that refuses its words.
    """
    known: dict[str, str] = {}
    for step in steps:
        if step.name in known or not step.name or step.name.startswith(("/", "..")):
            raise CommandError(f"each step needs a name of its own, got {step.name!r}")
        for need in step.needs:
            if need not in known:
                raise CommandError(f"step {step.name!r} refers to {need!r}, which is none of the steps before it")
            if known[need] == "evaluate":
                raise CommandError(f"step {step.name!r} refers to {need!r}, which leaves no model and no answers")
        known[step.name] = step.stage
        try:
            parse(["rlhf", step.stage, *step.words])
        except SystemExit as error:
            raise CommandError(f"step {step.name!r} is not a command of jsafe rlhf; see the line above") from error


def run_steps(args: argparse.Namespace, steps: Sequence[Step], where: Path) -> tuple[dict[str, Any], Outcome | None]:
    """Run steps, one after the other, each in its own folder below `where`.

    Args:
        args: of the command; how to run, whether to print JSON and whether to be quiet are passed on.
        steps: of the experiment.
        where: its folder.

    Returns:
        The data of each step by name, and the outcome of the one that was interrupted, None if none was.

    Raises:
        CommandError: a step is wrong, or its folder holds something else.
    """
    check(steps)
    stages = {step.name: step.stage for step in steps}
    found: dict[str, Any] = {}
    for number, step in enumerate(steps, 1):
        folder = where / step.name
        made_from = {need: _made(where / need) for need in step.needs}
        kept = _kept(folder)
        if kept is not None:
            if kept["stage"] != step.stage or kept["words"] != list(step.words):
                raise CommandError(f"{folder} was made with other options; remove it, or choose another --run-dir")
            if kept["made_from"] != made_from:
                raise CommandError(
                    f"{folder} was made from other models than those beside it; remove it to make it anew"
                )
            found[step.name] = kept["data"]
            continue
        note(f"[{number}/{len(steps)}] {step.name}")
        outcome = _run(
            args, step, folder, {need: where / need / OUTPUT.get(stages[need], "model") for need in made_from}
        )
        # The table of a comparison belongs to the end of an experiment, where it is read.
        note(outcome.text.splitlines()[-1] if step.stage in WITHOUT_A_RUN and outcome.text else outcome.text)
        if outcome.exit_code:
            return found, outcome
        record = {"stage": step.stage, "words": list(step.words), "made_from": made_from, "data": outcome.data}
        record["made"] = time.time_ns()
        draft = folder / f"{RESULT}.draft"
        draft.write_text(to_json(record))
        os.replace(draft, folder / RESULT)
        found[step.name] = _kept(folder)["data"]  # type: ignore[index]
    return found, None


def _run(args: argparse.Namespace, step: Step, folder: Path, places: dict[str, Path]) -> Outcome:
    words = [str(places[w[1:]]) if w.startswith(REFERENCE) else w for w in step.words]
    begun = (folder / "run.json").is_file()
    if step.stage in WITHOUT_A_RUN:
        shutil.rmtree(folder, ignore_errors=True)
        out = folder / OUTPUT[step.stage] if step.stage in OUTPUT else folder
        words += ["--out", str(out)]
    elif begun:
        _same_words(folder, step)
        words = ["--resume", str(folder)]
    else:
        words += ["--run-dir", str(folder)]
    if step.stage not in WITHOUT_A_RUN and not begun:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "step.json").write_text(to_json({"stage": step.stage, "words": list(step.words)}))
    options = parse(["rlhf", step.stage, *words])
    options.words = ["rlhf", step.stage, *words]
    for name in ("platform", "devices", "debug", "json"):
        setattr(options, name, getattr(args, name, None))
    options.quiet = getattr(options, "quiet", False) or getattr(args, "quiet", False)
    return WITHOUT_A_RUN.get(step.stage, train)(options)


def _same_words(folder: Path, step: Step) -> None:
    path = folder / "step.json"
    begun = json.loads(path.read_text()) if path.is_file() else {}
    if begun.get("words") != list(step.words) or begun.get("stage") != step.stage:
        raise CommandError(f"{folder} was begun with other options; remove it, or choose another --run-dir")


def _kept(folder: Path) -> dict[str, Any] | None:
    path = folder / RESULT
    return json.loads(path.read_text()) if path.is_file() else None


def _made(folder: Path) -> int | None:
    """When a step ended, as its identity."""
    kept = _kept(folder)
    return kept["made"] if kept else None

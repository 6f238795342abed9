"""Several stages of a family of commands as one experiment: a step may take the models of steps before it.

A step that has ended is read, one that was begun is gone on with, and one whose words or whose models changed since is
refused: what stands in a folder always belongs to what was asked for.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from experiments.cli import parse
from experiments.family import Family
from experiments.outcome import INTERRUPTED, CommandError, Outcome, note, to_json

RESULT = "result.json"
REFERENCE = "@"


class Step(NamedTuple):
    """One stage of an experiment.

    Attributes:
        name: also its folder.
        stage: a command of the family.
        words: what it is given; `@NAME` is the model of an earlier step, or the answers of a `generate`.
    """

    name: str
    stage: str
    words: tuple[str, ...]

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of the steps it refers to, in order."""
        return tuple(dict.fromkeys(w.removeprefix(REFERENCE) for w in self.words if w.startswith(REFERENCE)))


def resumable(family: Family, stage: str) -> bool:
    """Whether a stage has a run that can be gone on with; others begin anew when they did not end."""
    return "resume" in family.commands[stage].given


def _output(family: Family, stage: str) -> str | None:
    """What a reference to a step means inside its folder: a model, or what a stage without a run says of itself."""
    return "model" if resumable(family, stage) else family.commands[stage].leaves


def check(family: Family, steps: Sequence[Step]) -> None:
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
            if _output(family, known[need]) is None:
                raise CommandError(f"step {step.name!r} refers to {need!r}, which leaves no model and no answers")
        known[step.name] = step.stage
        try:
            parse([family.name, step.stage, *step.words])
        except SystemExit as error:
            message = f"step {step.name!r} is not a command of jsafe {family.name}; see the line above"
            raise CommandError(message) from error


def run_steps(
    family: Family, args: argparse.Namespace, steps: Sequence[Step], where: Path, jobs: int = 1
) -> tuple[dict[str, Any], Outcome | None]:
    """Run steps, each in its own folder below `where`, in order or as soon as the steps they refer to have ended.

    Args:
        family: of the commands.
        args: of the command; how to run, whether to print JSON and whether to be quiet are passed on.
        steps: of the experiment.
        where: its folder.
        jobs: steps that run at once; with more than one, each has a process of its own.

    Returns:
        The data of each step by name, and the outcome of the one that was interrupted, None if none was.

    Raises:
        CommandError: a step is wrong, or its folder holds something else.
    """
    check(family, steps)
    left, found = list(enumerate(steps, 1)), {}
    running: dict[str, tuple[Step, dict[str, Any], subprocess.Popen[str]]] = {}
    stages = {step.name: step.stage for step in steps}
    # Without this a terminated experiment would leave its steps running.
    before = signal.signal(signal.SIGTERM, _leave) if jobs > 1 and _is_main_thread() else None
    try:
        while left or running:
            for number, step in list(left):
                if len(running) >= jobs or any(need not in found for need in step.needs):
                    continue
                left.remove((number, step))
                folder, made_from = where / step.name, {need: _made(where / need) for need in step.needs}
                if (kept := _kept(folder)) is not None:
                    _refuse_others(folder, kept, step, made_from)
                    found[step.name] = kept["data"]
                    break  # steps before the others may have become ready
                note(f"[{number}/{len(steps)}] {step.name}")
                places = {need: where / need / str(_output(family, stages[need])) for need in step.needs}
                words = _words(family, step, folder, places)
                if jobs > 1:
                    running[step.name] = step, made_from, _process(args, words, folder)
                    continue
                outcome = _run(family, args, step.stage, words)
                said = outcome.text.splitlines()
                # The table of a comparison belongs to the end of an experiment, where it is read.
                note(outcome.text if resumable(family, step.stage) or not said else said[-1])
                if outcome.exit_code:
                    return found, outcome
                found[step.name] = _keep(folder, step, made_from, outcome.data)
                break
            else:
                if running:
                    ended = _first_ended(running)
                    step, made_from, process = running.pop(ended)
                    outcome = _outcome(where / ended, process)
                    note(f"{ended}: {'done' if not outcome.exit_code else outcome.text}")
                    if outcome.exit_code == INTERRUPTED:
                        return found, outcome
                    if outcome.exit_code:
                        raise CommandError(f"step {ended!r} failed: {outcome.text}")
                    found[ended] = _keep(where / ended, step, made_from, outcome.data)
    finally:
        for _, _, process in running.values():
            process.terminate()
        for _, _, process in running.values():
            process.wait()
        if before is not None:
            signal.signal(signal.SIGTERM, before)
    return found, None


def _is_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _leave(number: int, frame: Any) -> None:
    raise SystemExit(128 + number)


POLL = 0.2
"""Seconds between looks at processes."""


def _refuse_others(folder: Path, kept: Mapping[str, Any], step: Step, made_from: Mapping[str, Any]) -> None:
    if kept["stage"] != step.stage or kept["words"] != list(step.words):
        raise CommandError(f"{folder} was made with other options; remove it, or choose another --run-dir")
    if kept["made_from"] != made_from:
        raise CommandError(f"{folder} was made from other models than those beside it; remove it to make it anew")


def _keep(folder: Path, step: Step, made_from: Mapping[str, Any], data: Any) -> Any:
    """Write down what a step came to; its data as JSON has them."""
    record = {"stage": step.stage, "words": list(step.words), "made_from": made_from, "data": data}
    record["made"] = time.time_ns()
    draft = folder / f"{RESULT}.draft"
    draft.write_text(to_json(record))
    os.replace(draft, folder / RESULT)
    return _kept(folder)["data"]  # type: ignore[index]


def _words(family: Family, step: Step, folder: Path, places: Mapping[str, Path]) -> list[str]:
    """What the command of a step is given, and a folder for it to write to."""
    words = [str(places[w[1:]]) if w.startswith(REFERENCE) else w for w in step.words]
    if not resumable(family, step.stage):
        shutil.rmtree(folder, ignore_errors=True)
        leaves = family.commands[step.stage].leaves
        folder.mkdir(parents=True)
        return [family.name, step.stage, *words, "--out", str(folder / leaves if leaves else folder)]
    if (folder / "run.json").is_file():
        _same_words(folder, step)
        return [family.name, step.stage, "--resume", str(folder)]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "step.json").write_text(to_json({"stage": step.stage, "words": list(step.words)}))
    return [family.name, step.stage, *words, "--run-dir", str(folder)]


def _run(family: Family, args: argparse.Namespace, stage: str, words: list[str]) -> Outcome:
    options = parse(words)
    options.words = words
    for name in ("platform", "devices", "debug", "json"):
        setattr(options, name, getattr(args, name, None))
    options.quiet = getattr(options, "quiet", False) or getattr(args, "quiet", False)
    module, _, function = family.commands[stage].function.partition(":")
    return getattr(importlib.import_module(module), function)(options)


def _process(args: argparse.Namespace, words: list[str], folder: Path) -> subprocess.Popen[str]:
    words = [*words, "--json", *(["--platform", args.platform] if getattr(args, "platform", None) else [])]
    with (folder / "output.json").open("w") as out, (folder / "log.txt").open("a") as log:
        return subprocess.Popen([sys.executable, "-m", "experiments.cli", *words], stdout=out, stderr=log, text=True)


def _first_ended(running: Mapping[str, tuple[Step, dict[str, Any], subprocess.Popen[str]]]) -> str:
    while True:
        for name, (_, _, process) in running.items():
            if process.poll() is not None:
                return name
        time.sleep(POLL)


def _outcome(folder: Path, process: subprocess.Popen[str]) -> Outcome:
    """What a process came to: its data, or the last line it said."""
    code, log = process.wait(), (folder / "log.txt").read_text().strip().splitlines()
    if code:
        return Outcome({}, log[-1] if log else f"exit code {code}; see {folder / 'log.txt'}", exit_code=code)
    return Outcome(json.loads((folder / "output.json").read_text()), "")


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

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
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from experiments.cli.family import Family
from experiments.cli.legacy import parse
from experiments.cli.result import INTERRUPTED, CommandError, Outcome, note, to_json

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
    stages = {step.name: step.stage for step in steps}

    def begun(step: Step) -> _Begun:
        places = {need: where / need / str(_output(family, stages[need])) for need in step.needs}
        return _begun(family, step, where, places)

    if jobs == 1:
        return _in_order(family, args, steps, begun)
    # Without this a terminated experiment would leave its steps running.
    main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, _leave) if main else None
    try:
        return _at_once(args, steps, begun, jobs)
    finally:
        if main:
            signal.signal(signal.SIGTERM, before)


class _Begun(NamedTuple):
    """A step whose needs have ended.

    Attributes:
        step: of the experiment.
        folder: of its own.
        made_from: when each of its needs ended.
        data: what it came to; None where it is still to be run, by `words`.
        words: of its command.
    """

    step: Step
    folder: Path
    made_from: dict[str, Any]
    data: Any = None
    words: tuple[str, ...] = ()


def _begun(family: Family, step: Step, where: Path, places: Mapping[str, Path]) -> _Begun:
    folder, made_from = where / step.name, {need: _made(where / need) for need in step.needs}
    if (kept := _kept(folder)) is None:
        return _Begun(step, folder, made_from, words=tuple(_words(family, step, folder, places)))
    if kept["stage"] != step.stage or kept["words"] != list(step.words):
        raise CommandError(f"{folder} was made with other options; remove it, or choose another --run-dir")
    if kept["made_from"] != made_from:
        raise CommandError(f"{folder} was made from other models than those beside it; remove it to make it anew")
    return _Begun(step, folder, made_from, kept["data"])


def _in_order(
    family: Family, args: argparse.Namespace, steps: Sequence[Step], begun: Callable[[Step], _Begun]
) -> tuple[dict[str, Any], Outcome | None]:
    """One step after the other, in this process."""
    found: dict[str, Any] = {}
    for number, step in enumerate(steps, 1):
        this = begun(step)
        if this.data is None:
            note(f"[{number}/{len(steps)}] {step.name}")
            outcome = _run(family, args, step.stage, list(this.words))
            said = outcome.text.splitlines()
            # The table of a comparison belongs to the end of an experiment, where it is read.
            note(outcome.text if resumable(family, step.stage) or not said else said[-1])
            if outcome.exit_code:
                return found, outcome
            this = this._replace(data=_keep(this, outcome.data))
        found[step.name] = this.data
    return found, None


def _at_once(
    args: argparse.Namespace, steps: Sequence[Step], begun: Callable[[Step], _Begun], jobs: int
) -> tuple[dict[str, Any], Outcome | None]:
    """So many steps at once, each in a process of its own, the first of those whose needs have ended."""
    found: dict[str, Any] = {}
    waiting = list(steps)
    running: dict[str, tuple[_Begun, subprocess.Popen[str]]] = {}
    try:
        while waiting or running:
            ready = [step for step in waiting if all(need in found for need in step.needs)]
            if ready and len(running) < jobs:
                step = ready[0]
                waiting.remove(step)
                this = begun(step)
                if this.data is not None:
                    found[step.name] = this.data
                    continue
                note(f"[{steps.index(step) + 1}/{len(steps)}] {step.name}")
                running[step.name] = this, _process(args, list(this.words), this.folder)
                continue
            name = _first_ended(running)
            this, process = running.pop(name)
            outcome = _outcome(this.folder, process)
            note(f"{name}: {outcome.text if outcome.exit_code else 'done'}")
            if outcome.exit_code == INTERRUPTED:
                return found, outcome
            if outcome.exit_code:
                raise CommandError(f"step {name!r} failed: {outcome.text}")
            found[name] = _keep(this, outcome.data)
    finally:
        for _, process in running.values():
            process.terminate()
        for _, process in running.values():
            process.wait()
    return found, None


def _leave(number: int, frame: Any) -> None:
    raise SystemExit(128 + number)


POLL = 0.2
"""Seconds between looks at processes."""


def _keep(this: _Begun, data: Any) -> Any:
    """Write down what a step came to; its data as JSON has them."""
    record = {"stage": this.step.stage, "words": list(this.step.words), "made_from": this.made_from, "data": data}
    record["made"] = time.time_ns()
    draft = this.folder / f"{RESULT}.draft"
    draft.write_text(to_json(record))
    os.replace(draft, this.folder / RESULT)
    return _kept(this.folder)["data"]  # type: ignore[index]


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
    options = parse(words).request
    options.words = words
    for name in ("platform", "devices", "debug", "json"):
        setattr(options, name, getattr(args, name, None))
    options.quiet = getattr(options, "quiet", False) or getattr(args, "quiet", False)
    module, _, function = family.commands[stage].function.partition(":")
    return getattr(importlib.import_module(module), function)(options)


def _process(args: argparse.Namespace, words: list[str], folder: Path) -> subprocess.Popen[str]:
    words = [*words, "--json", *(["--platform", args.platform] if getattr(args, "platform", None) else [])]
    with (folder / "output.json").open("w") as out, (folder / "log.txt").open("a") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "experiments.cli.main", *words], stdout=out, stderr=log, text=True
        )


def _first_ended(running: Mapping[str, tuple[_Begun, subprocess.Popen[str]]]) -> str:
    while True:
        for name, (_, process) in running.items():
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

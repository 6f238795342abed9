"""Runner of experiments: each step in its own folder, once; finished steps are read, interrupted ones resumed."""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path
from typing import Any

from experiments.cli.errors import CommandError, error_line
from experiments.cli.exit_codes import INTERRUPTED
from experiments.cli.format import plain
from experiments.cli.result import Result
from experiments.cli.stdout import note
from experiments.pipeline import cache
from experiments.pipeline.step import Shared, Step


@dataclasses.dataclass(frozen=True)
class Outcome:
    """Outcome of an experiment.

    Attributes:
        data: data of each finished step, by name.
        stopped: result of the step that was interrupted; None if all steps finished.
    """

    data: dict[str, Any]
    stopped: Result | None = None


def check(steps: Sequence[Step]) -> None:
    """Refuse names that are taken twice and references to steps that do not come before.

    Raises:
        CommandError: with the name of the step.
    """
    known: dict[str, Step] = {}
    for step in steps:
        if step.name in known or not step.name or step.name.startswith(("/", "..")):
            raise CommandError(f"each step needs a name of its own, got {step.name!r}")
        for need in step.needs:
            if need not in known:
                raise CommandError(f"step {step.name!r} refers to {need!r}, which is none of the steps before it")
            if known[need].artifact is None:
                raise CommandError(f"step {step.name!r} refers to {need!r}, which writes no model and no answers")
        known[step.name] = step


def run_steps(steps: Sequence[Step], folder: Path, *, jobs: int = 1, shared: Shared | None = None) -> Outcome:
    """Run steps, each in its own folder below `folder`.

    Args:
        steps: steps of the experiment; references point to earlier ones.
        folder: folder of the experiment.
        jobs: number of steps that run at once; with more than one, each has a process of its own.
        shared: settings of all steps.

    Raises:
        CommandError: a step is wrong, it failed, or its folder belongs to other settings or inputs.
    """
    check(steps)
    experiment = _Experiment(steps, folder, shared or Shared())
    return experiment.run_in_order() if jobs == 1 else experiment.run_in_processes(jobs)


@dataclasses.dataclass(frozen=True)
class _Experiment:
    """Steps with the folder they run in."""

    steps: Sequence[Step]
    folder: Path
    shared: Shared

    def inputs(self, step: Step) -> dict[str, str]:
        """Hashes of the results that a step needs."""
        return {need: str(cache.result_hash(self.folder / need)) for need in step.needs}

    def finished_data(self, step: Step) -> Any:
        """Return the data of a finished step, None if it is still to run."""
        record = cache.read_result(self.folder / step.name)
        if record is None:
            return None
        cache.check_fresh(step, self.folder / step.name, self.inputs(step), record)
        return record["data"]

    def prepared(self, step: Step) -> Callable[[], Result]:
        """Return the command of a step, and prepare its folder."""
        by_name = {other.name: other for other in self.steps}
        artifacts = {need: self.folder / need / str(by_name[need].artifact) for need in step.needs}
        cache.open_folder(step, self.folder / step.name, self.inputs(step))
        return step.bind(artifacts, self.folder / step.name, self.shared)

    def record(self, step: Step, result: Result) -> Any:
        """Record a finished step and return its data."""
        return cache.write_result(step, self.folder / step.name, self.inputs(step), result.data)

    def announce(self, step: Step) -> None:
        note(f"[{self.steps.index(step) + 1}/{len(self.steps)}] {step.name}")

    def run_in_order(self) -> Outcome:
        """Run one step after the other in this process."""
        data: dict[str, Any] = {}
        for step in self.steps:
            if (finished := self.finished_data(step)) is None:
                self.announce(step)
                result = self.prepared(step)()
                lines = result.text.splitlines()
                # The table of a comparison belongs to the end of an experiment, where it is read.
                note(result.text if step.resumable or not lines else lines[-1])
                if result.exit_code:
                    return Outcome(data, result)
                finished = self.record(step, result)
            data[step.name] = finished
        return Outcome(data)

    def run_in_processes(self, jobs: int) -> Outcome:
        """Run up to `jobs` steps at once, each in a process of its own, the first of those whose needs are finished."""
        data: dict[str, Any] = {}
        waiting, running = list(self.steps), dict[Future[Result], Step]()
        with _processes() as submit:
            while waiting or running:
                while len(running) < jobs and (step := _first_ready(waiting, data)) is not None:
                    waiting.remove(step)
                    if (finished := self.finished_data(step)) is not None:
                        data[step.name] = finished
                        continue
                    self.announce(step)
                    command, log = self.prepared(step), self.folder / step.name / "log.txt"
                    running[submit(run_with_log, command, log)] = step
                for future in concurrent.futures.wait(running, return_when=concurrent.futures.FIRST_COMPLETED).done:
                    step, result = running.pop(future), future.result()
                    note(f"{step.name}: {result.text if result.exit_code else 'done'}")
                    if result.exit_code == INTERRUPTED:
                        return Outcome(data, result)
                    if result.exit_code:
                        raise CommandError(f"step {step.name!r} failed: {result.text}")
                    data[step.name] = self.record(step, result)
        return Outcome(data)


def _first_ready(waiting: Sequence[Step], data: Mapping[str, Any]) -> Step | None:
    """Return the first step whose needs are finished."""
    return next((step for step in waiting if all(need in data for need in step.needs)), None)


def run_with_log(command: Callable[[], Result], log: Path) -> Result:
    """Run a command in a process of its own, with its output appended to a file; an error becomes a result."""
    with log.open("a", encoding="utf-8") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    try:
        result = command()
    except Exception as error:
        line, code = error_line(error)
        note(line)
        return Result({}, line, exit_code=code)
    except KeyboardInterrupt:
        return Result({}, "stopped", exit_code=INTERRUPTED)
    return dataclasses.replace(result, data=plain(result.data))


@contextlib.contextmanager
def _processes() -> Iterator[Callable[..., Future[Any]]]:
    """Yield a function that starts a call in a process of its own; the processes end with this one.

    Each call has a pool of one process. Processes of one pool share a queue, and a process that is terminated while it
    holds the lock of the queue would block the others.
    """
    main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, _raise_exit) if main else None

    def submit(function: Callable[..., Any], *args: Any) -> Future[Any]:
        pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))
        future = pool.submit(function, *args)
        future.add_done_callback(lambda _: pool.shutdown(wait=False))
        return future

    try:
        yield submit
    finally:
        for process in multiprocessing.active_children():
            process.terminate()
        if main:
            signal.signal(signal.SIGTERM, before)


def _raise_exit(number: int, frame: Any) -> None:
    sys.exit(128 + number)

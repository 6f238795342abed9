"""The host loop around a trainer. All computation is in `Trainer.step`; all reporting and saving is in callbacks."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jsafe import multihost
from jsafe.population import Health, Layout, keys_for, make_population
from jsafe.runs import record as run_record
from jsafe.runs.checkpoint import Checkpoints
from jsafe.runs.telemetry import METRICS, Progress, Sink, cut_after, read_metrics
from jsafe.trainer import Trainer, TrainState, exact_units
from jsafe.training.arguments import at_least_one, check_saving, make_plan
from jsafe.training.callbacks import Callback, IterationFunction, Progressed, as_callback
from jsafe.training.checkpointing import Checkpointing
from jsafe.training.health import HealthCheck
from jsafe.training.interrupts import Interrupts
from jsafe.training.reporting import ProgressReport, Telemetry, Timing
from jsafe.training.session import Session


@dataclasses.dataclass(frozen=True)
class FitResult:
    """Result of `fit`.

    Attributes:
        state: the population's final state; every leaf has a leading axis `[seeds]`.
        metrics: name to `[iterations, seeds]`, from the first iteration on, also after a resume.
        iterations: finished iterations.
        status: `finished`, `interrupted` (Ctrl-C) or `stopped` (by a callback).
        run_dir: folder of the run, None if nothing was written.
        compile_seconds: time spent on compiling the step, in this call.
        run_seconds: time spent on training and writing, in this call.
        notes: remarks, for example that the number of steps was rounded up.
    """

    state: TrainState
    metrics: dict[str, np.ndarray]
    iterations: int
    status: str
    run_dir: Path | None
    compile_seconds: float
    run_seconds: float
    notes: tuple[str, ...]


def fit(
    trainer: Trainer,
    *,
    seeds: int | None = None,
    seed: int | None = None,
    iterations: int | None = None,
    total_steps: int | None = None,
    hyper: Mapping[str, Any] | None = None,
    run_dir: Path | str | None = None,
    checkpoint_every: int | None = None,
    checkpoint_seconds: float = 60.0,
    keep: int = 3,
    resume: bool = False,
    callbacks: Iterable[Callback | IterationFunction] = (),
    progress: bool | None = None,
    sinks: Sequence[Sink] | None = None,
    extra: Mapping[str, Any] | None = None,
    devices: Sequence[Any] | None = None,
    layout: Layout | None = None,
    iterations_per_call: int = 1,
) -> FitResult:
    """Train a population, with telemetry and checkpoints.

    Ctrl-C finishes the iteration, saves and returns; a second one ends the process. After a crash or `kill -9`,
    `resume=True` continues from the last good checkpoint. On the same number of CPU devices it reaches exactly the
    numbers of an uninterrupted run.

    Args:
        trainer: the trainer to run.
        seeds: members of the population (default 1).
        seed: root of all randomness (default 0); member `i` depends on it and on `i` alone.
        iterations: calls of `trainer.step`; give this or `total_steps`.
        total_steps: environment steps of each seed, rounded up to whole iterations.
        hyper: traced hyper-parameters to replace, name to a number or to `[seeds]` values.
        run_dir: folder to write to; None to write nothing.
        checkpoint_every: save a checkpoint every N iterations.
        checkpoint_seconds: save a checkpoint when this much time has passed (and at least twenty times the duration
            of a save); a crash costs at most about that, plus one iteration.
        keep: number of checkpoints to keep.
        resume: resume the run in `run_dir`. Arguments left out come from its record; `iterations` or `total_steps`
            may be raised.
        callbacks: `jsafe.training.callbacks.Callback` objects, or functions `(iteration, state, metrics) -> stop?`.
        progress: show progress on stderr: True, False, or None for a terminal only.
        sinks: destinations of rows in addition to `metrics.jsonl`; None for TensorBoard in `run_dir/tensorboard`.
        extra: anything JSON can hold, kept at the top level of `run.json`.
        devices: see `jsafe.population.make_population`.
        layout: see `jsafe.population.make_population`. If it spans several processes, each calls `fit` with the same
            arguments; the first one alone writes, all of them read a run that is resumed, and metrics of earlier
            sessions are returned to the first only.
        iterations_per_call: iterations inside one compiled program. Callbacks run, Ctrl-C takes effect and
            checkpoints are saved between calls only; the host costs less per iteration.

    Raises:
        ValueError: an argument out of range, by name.
        RunError: `run_dir` holds a run (without `resume`), holds none or another one (with it), is in use by another
            process, or cannot be written.
        CheckpointError, TelemetryError: the disk is full, or no checkpoint is good; earlier files stay.
        TrainingError: an action was not finite, or a seed loses all its updates.
    """
    folder = None if run_dir is None else Path(run_dir).expanduser()
    plan = make_plan(trainer, seeds, seed, iterations, total_steps, hyper, folder, resume)
    check_saving(checkpoint_every, checkpoint_seconds, extra)
    at_least_one("iterations_per_call", iterations_per_call)
    is_shared = layout is not None and multihost.spans(layout.mesh)
    if is_shared:
        multihost.wait("all processes have read the record of the run")
    writes = not is_shared or multihost.is_first()
    with contextlib.ExitStack() as stack:
        saving = Checkpointing(Checkpoints(folder, keep), checkpoint_every, checkpoint_seconds) if folder else None
        if folder is not None and writes:
            run_record.make_folder(folder)
            stack.enter_context(run_record.lock(folder))
        population = make_population(trainer, plan.seeds, devices, layout)
        session = Session(trainer, plan, population, folder if writes else None, dict(extra or {}), is_shared)
        active: list[Callback] = [
            Telemetry(sinks if writes else ()),
            ProgressReport(progress if writes else False),
            HealthCheck(),
            *(as_callback(callback) for callback in callbacks),
            *([saving] if saving is not None else []),
            Timing(),
        ]
        return _train(session, active, saving, iterations_per_call)


def _train(
    session: Session, callbacks: Sequence[Callback], saving: Checkpointing | None, iterations_per_call: int
) -> FitResult:
    """Train from the first or the restored iteration to the end or an interruption."""
    session.update_record("running")
    began = time.monotonic()
    history: list[dict[str, np.ndarray]] = []
    started: list[Callback] = []
    status = "finished"
    try:
        state = _start(session, saving)
        earlier = read_metrics(session.folder) if session.folder is not None and session.iteration else {}
        session.record["init_seconds"] = round(time.monotonic() - began, 3)
        began = time.monotonic()
        if session.iteration < session.plan.iterations:
            calls = _Calls(session, state, iterations_per_call)
            began = time.monotonic()
            for callback in callbacks:
                started.append(callback)
                callback.on_start(session)
            with Interrupts(lambda: _announce_stop(session)) as interrupts:
                while session.iteration < session.plan.iterations and status == "finished":
                    progressed = interrupts.wait_for(calls.advance, state)
                    state, session.iteration = progressed.state, progressed.iteration
                    history.append(progressed.history)
                    signals = [bool(callback.on_iteration(session, progressed)) for callback in callbacks]
                    interrupted, stopped = session.agree(interrupts.is_requested, any(signals))
                    if session.iteration < session.plan.iterations:
                        status = "interrupted" if interrupted else "stopped" if stopped else "finished"
                _end(started, session, state)  # still inside: a repeated signal must not disturb the last checkpoint
        session.update_record(status)
    except BaseException as error:
        session.record_failure(error)
        for callback in started:
            with contextlib.suppress(Exception):
                callback.on_end(session, None)
        raise
    return FitResult(
        state=state,
        metrics=_join(earlier, history),
        iterations=session.iteration,
        status=status,
        run_dir=session.folder,
        compile_seconds=session.compile_seconds,
        run_seconds=time.monotonic() - began,
        notes=tuple(session.plan.notes),
    )


def _end(started: list[Callback], session: Session, state: TrainState) -> None:
    """End every callback, then raise the first error: a failing callback must not cost the last checkpoint."""
    errors: list[Exception] = []
    while started:
        try:
            started.pop(0).on_end(session, state)
        except Exception as error:
            errors.append(error)
    if errors:
        raise errors[0]


def _start(session: Session, saving: Checkpointing | None) -> TrainState:
    """Return the restored or a fresh state; rows of iterations that will be repeated are removed."""
    plan = session.plan
    restored = saving.restore(session) if saving is not None else None
    if restored is not None:
        state, session.iteration = restored
    else:
        state = session.population.init(keys_for(plan.seed, plan.seeds), plan.hyper)
        if saving is not None:
            saving.begin(state)
    if session.folder is not None and plan.record is not None:
        cut_after(session.folder / METRICS, session.iteration, plan.seeds)
    return state


class _Calls:
    """Compiled programs of one or several iterations; a remainder at the end has a program of its own."""

    def __init__(self, session: Session, state: TrainState, iterations_per_call: int) -> None:
        self._session, self._size = session, iterations_per_call
        self._programs: dict[int, Callable[[TrainState], Any]] = {}
        self._program(self._next_size(), state)

    def advance(self, state: TrainState) -> Progressed:
        """Run the next call, and transfer its metrics to the host at once."""
        size = self._next_size()
        state, history, health = self._program(size, state)(state)
        history, health = jax.device_get((history, health))
        if size == 1:
            history, health = jax.tree.map(lambda values: values[None], (history, health))
        counted = np.asarray(history.get("env_steps", 0.0))
        if counted.ndim == 2 and counted.dtype.kind in "iu":
            done = self._session.iteration + 1 + np.arange(size)
            history["env_steps"] = exact_units(counted, done, self._session.trainer.info.units_per_step)
        return Progressed(self._session.iteration + size, jax.block_until_ready(state), history, Health(*health))

    def _next_size(self) -> int:
        return min(self._size, self._session.plan.iterations - self._session.iteration)

    def _program(self, size: int, state: TrainState) -> Callable[[TrainState], Any]:
        if size not in self._programs:
            began = time.monotonic()
            self._programs[size] = self._session.population.steps(size).lower(state).compile()
            self._session.compile_seconds += time.monotonic() - began
        return self._programs[size]


def _announce_stop(session: Session) -> None:
    text = "stopping after this iteration and saving; press Ctrl-C again to stop at once (earlier checkpoints stay)"
    (session.bar or Progress(1)).note(text)
    session.update_record("interrupted")  # the second signal leaves no time for it


def _join(earlier: Mapping[str, np.ndarray], history: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    if not history:
        return dict(earlier)
    now = {name: np.concatenate([metrics[name] for metrics in history]) for name in history[0]}
    return {k: np.concatenate([earlier[k].astype(v.dtype), v]) if k in earlier else v for k, v in now.items()}

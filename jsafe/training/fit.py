"""The host loop around a trainer: it runs, records, saves and resumes. All computation is in `Trainer.step`."""

from __future__ import annotations

import contextlib
import dataclasses
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jsafe import multihost, runtime
from jsafe.population import Health, Layout, Population, keys_for, make_population
from jsafe.runs import record as run_record
from jsafe.runs import resume as saved_state
from jsafe.runs.checkpoint import Checkpoints
from jsafe.runs.telemetry import (
    METRICS,
    TIMING,
    JsonLines,
    Progress,
    Sink,
    TensorBoard,
    cut_after,
    read_metrics,
    rows_from,
)
from jsafe.trainer import Trainer, TrainState
from jsafe.training.arguments import Plan, check_saving, make_plan
from jsafe.training.interrupts import Interrupts

EPISODE_METRICS = ("return", "cost", "length")
"""NaN in these means that no episode has ended yet."""
PATIENCE = 3
"""Iterations in a row in which a seed may lose all its updates; one bad batch does not end a run."""

Callback = Callable[[int, TrainState, dict[str, np.ndarray]], Any]
"""`(iteration, state, metrics [seeds]) -> stop?`, called after each iteration; a true value ends the run there. The
state is consumed by the next iteration: copy what is to be kept."""


class TrainingError(RuntimeError):
    """Training cannot go on; the message names the metric, the seed and the iteration."""


@dataclasses.dataclass(frozen=True)
class FitResult:
    """What `fit` leaves behind.

    Attributes:
        state: the population's final state; every leaf has a leading axis `[seeds]`.
        metrics: name to `[iterations, seeds]`, from the first iteration on, also after a resume.
        iterations: finished iterations.
        status: `finished`, `interrupted` (Ctrl-C) or `stopped` (by a callback).
        run_dir: folder of the run, None if nothing was written.
        compile_seconds: spent on compiling the step, in this call.
        run_seconds: spent on training and writing, in this call.
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
    callbacks: Iterable[Callback] = (),
    progress: bool | None = None,
    sinks: Sequence[Sink] | None = None,
    extra: Mapping[str, Any] | None = None,
    devices: Sequence[Any] | None = None,
    layout: Layout | None = None,
) -> FitResult:
    """Train a population, with telemetry and checkpoints.

    Ctrl-C finishes the iteration, saves and returns; a second one ends at once. After a crash, or `kill -9`,
    `resume=True` goes on from the last good checkpoint and, on the same number of CPU devices, arrives at exactly the
    numbers of an uninterrupted run.

    Args:
        trainer: what to run.
        seeds: members of the population (default 1).
        seed: root of all randomness (default 0); member `i` depends on it and on `i` alone.
        iterations: calls of `trainer.step`; give this or `total_steps`.
        total_steps: environment steps of each seed, rounded up to whole iterations.
        hyper: traced hyper-parameters to replace, name to a number or to `[seeds]` values.
        run_dir: folder to write to; None to write nothing.
        checkpoint_every: also save after every so many iterations.
        checkpoint_seconds: save when this much time has passed (and at least twenty times what a save takes); a crash
            costs at most about that, plus one iteration.
        keep: checkpoints to keep.
        resume: go on with the run in `run_dir`. What is not given comes from its record; `iterations` or
            `total_steps` may be raised.
        callbacks: see `Callback`.
        progress: show progress on stderr: True, False, or None for a terminal only.
        sinks: where rows go beside `metrics.jsonl`; None for TensorBoard in `run_dir/tensorboard`.
        extra: anything JSON can hold, kept at the top level of `run.json`.
        devices: see `jsafe.population.make_population`.
        layout: likewise. If it spans several processes, each calls `fit` alike; the first one alone writes, all of them
            read a run that is resumed, and metrics of earlier sessions come back to the first only.

    Raises:
        ValueError: an argument out of range, by name.
        RunError: `run_dir` holds a run (without `resume`), holds none or another one (with it), is in use by another
            process, or cannot be written.
        CheckpointError, TelemetryError: the disk is full, or no checkpoint is good; what was saved before stays.
        TrainingError: an action was not finite, or a seed loses all its updates.
    """
    folder = None if run_dir is None else Path(run_dir)
    plan = make_plan(trainer, seeds, seed, iterations, total_steps, hyper, folder, resume)
    check_saving(checkpoint_every, checkpoint_seconds, extra)
    shared = layout is not None and multihost.spans(layout.mesh)
    if shared:
        multihost.wait("all have read what there is of the run")
    writes = not shared or multihost.is_first()
    with contextlib.ExitStack() as stack:
        checkpoints = None if folder is None else Checkpoints(folder, keep)
        if folder is not None and writes:
            run_record.make_folder(folder)
            stack.enter_context(run_record.lock(folder))
        if not writes:
            folder, progress, sinks = None, False, ()
        rhythm = (checkpoint_every, checkpoint_seconds)
        session = _Session(trainer, plan, folder, checkpoints, rhythm, dict(extra or {}), progress, shared)
        return session.run(tuple(callbacks), sinks, devices, layout)


class _Session:
    """One call of `fit`: from the first or the restored iteration to the end or an interruption."""

    def __init__(
        self,
        trainer: Trainer,
        plan: Plan,
        folder: Path | None,
        checkpoints: Checkpoints | None,
        rhythm: tuple[int | None, float],
        extra: dict[str, Any],
        progress: bool | None,
        shared: bool,
    ) -> None:
        self.shared = shared  # with other processes, which have to decide and save together
        self.trainer, self.plan, self.folder, self.checkpoints = trainer, plan, folder, checkpoints
        (self.every, self.seconds), self.progress = rhythm, progress
        self.bar: Progress | None = None
        self.timing: JsonLines | None = None
        self.record = self._opening_record(extra)
        self.saved_at, self.save_seconds = time.monotonic(), 0.0
        self.last_saved = -1
        self.frozen_digest: str | None = None
        self.streak = np.zeros(plan.seeds, int)
        self.explained: set[tuple[str, int]] = set()

    def run(
        self,
        callbacks: tuple[Callback, ...],
        sinks: Sequence[Sink] | None,
        devices: Sequence[Any] | None,
        layout: Layout | None,
    ) -> FitResult:
        population = make_population(self.trainer, self.plan.seeds, devices, layout)
        before = self.record.get("num_devices")
        if before not in (None, population.num_devices):
            self._note(
                f"the run had {before} devices and goes on with {population.num_devices}: "
                "its numbers may differ from those of an uninterrupted run by rounding"
            )
        self.record.update(hardware=runtime.describe_hardware(), num_devices=population.num_devices)
        self._update("running")
        began = time.monotonic()
        compile_seconds = 0.0
        history: list[dict[str, np.ndarray]] = []
        outputs: list[Sink] = []
        try:
            state, done = self._start(population)
            self.record["iteration"] = done
            earlier = read_metrics(self.folder) if self.folder is not None and done else {}
            self.record["init_seconds"] = round(time.monotonic() - began, 3)
            began = time.monotonic()
            status = "finished"
            if done < self.plan.iterations:
                step = population.step.lower(state).compile()
                compile_seconds = time.monotonic() - began
                began = self.saved_at = time.monotonic()
                self._open(outputs, sinks, done, compile_seconds)
                with Interrupts(self._asked_to_stop) as interrupts:
                    while done < self.plan.iterations and status == "finished":
                        clock = time.monotonic()
                        state, metrics, health = interrupts.wait_for(_advance, step, state)
                        done += 1
                        history.append(metrics)
                        self._report(outputs, metrics, done)
                        self._check(metrics, health, done)
                        stop = any([bool(callback(done, state, metrics)) for callback in callbacks])
                        asked, stop, due = self._together(interrupts.asked, stop, self._due(done))
                        if done < self.plan.iterations:
                            status = "interrupted" if asked else "stopped" if stop else "finished"
                        self.record["iteration"] = done
                        if status != "finished" or done == self.plan.iterations or due:
                            self._save(state, done)
                        self._clock(done, time.monotonic() - clock)
            self._update(status)
        except BaseException as error:
            self._fail(error)
            self._close(outputs, quietly=True)
            raise
        self._close(outputs)
        return FitResult(
            state=state,
            metrics=_join(earlier, history),
            iterations=done,
            status=status,
            run_dir=self.folder,
            compile_seconds=compile_seconds,
            run_seconds=time.monotonic() - began,
            notes=tuple(self.plan.notes),
        )

    def _opening_record(self, extra: dict[str, Any]) -> dict[str, Any]:
        plan, info = self.plan, self.trainer.info
        record: dict[str, Any] = dict(plan.record or {"created": run_record.timestamp()})
        record.pop("error", None)
        return record | {
            "trainer": run_record.describe_trainer(info),
            "seeds": plan.seeds,
            "seed": plan.seed,
            "iterations": plan.iterations,
            "total_steps": plan.iterations * info.env_steps_per_iteration,
            "hyper": None if plan.hyper is None else {k: v.tolist() for k, v in plan.hyper.items()},
            "versions": runtime.versions(),
            "compile_seconds": record.get("compile_seconds", 0.0),
            "run_seconds": record.get("run_seconds", 0.0),
            "sessions": record.get("sessions", 0) + 1,
            "notes": plan.notes,
            **extra,
        }

    def _start(self, population: Population) -> tuple[TrainState, int]:
        """The restored state, or a fresh one; the rows of iterations that will be repeated are removed."""
        plan, keys = self.plan, keys_for(self.plan.seed, self.plan.seeds)
        if plan.record is None or self.checkpoints is None or not self.checkpoints.iterations():
            state, done = population.init(keys, plan.hyper), 0
            self.frozen_digest = saved_state.digest(state.frozen) if self.checkpoints is not None else None
        else:
            restored = saved_state.restore(self.checkpoints, population, keys, plan.hyper)
            state, done = restored.state, restored.iteration
            self.last_saved, self.frozen_digest = done, restored.extra.get("frozen")
            if restored.damaged:
                plan.notes.append(f"damaged checkpoints of iterations {list(restored.damaged)} were passed over")
        if self.folder is not None and plan.record is not None:
            cut_after(self.folder / METRICS, done, plan.seeds)
        return state, done

    def _open(self, outputs: list[Sink], sinks: Sequence[Sink] | None, done: int, compile_seconds: float) -> None:
        if self.folder is not None:
            outputs.append(JsonLines(self.folder / METRICS))
            self.timing = JsonLines(self.folder / TIMING)
            self.timing.write(
                [{"session": self.record["sessions"], "iteration": done, "compile_seconds": round(compile_seconds, 3)}]
            )
            if sinks is None:
                after = done * self.trainer.info.env_steps_per_iteration if done else None
                outputs.append(TensorBoard(self.folder / "tensorboard", after_steps=after))
        outputs.extend(sinks or ())
        info = self.trainer.info
        bar = Progress(self.plan.iterations, done, shown=info.shown, unit=info.unit)
        if self.progress or (self.progress is None and bar.is_bar):
            self.bar = bar
            outputs.append(bar)
            for note in self.plan.notes:
                bar.note(note)
        self.record["compile_seconds"] += compile_seconds
        self._update("running")

    def _report(self, outputs: Sequence[Sink], metrics: Mapping[str, np.ndarray], done: int) -> None:
        rows = rows_from(metrics, done)
        for sink in outputs:
            sink.write(rows)

    def _check(self, metrics: Mapping[str, np.ndarray], health: Health, done: int) -> None:
        """Stop on what cannot get better, explain what is not a number."""
        for name, values in metrics.items():
            if name == "bad_action" or name.endswith(("/bad_action", ".bad_action")):
                for i in np.flatnonzero(np.asarray(values).reshape(self.plan.seeds, -1).max(axis=1) > 0):
                    raise TrainingError(
                        f"{name} is {values[i]} for seed {i} in iteration {done}: the policy gave an action that is "
                        "not finite; earlier checkpoints are kept"
                    )
        lost = (np.asarray(health.skipped) > 0) & ~np.asarray(health.moved)
        self.streak = np.where(lost, self.streak + 1, 0)
        for i in np.flatnonzero(self.streak >= PATIENCE):
            raise TrainingError(
                f"every update of seed {i} was not finite and was skipped in iterations {done - PATIENCE + 1} to "
                f"{done} (skipped: {int(health.skipped[i])} in the last one): the loss has diverged; lower the "
                "learning rate, or look for rewards, costs or observations that are not finite"
            )
        self._explain(metrics, done)

    def _explain(self, metrics: Mapping[str, np.ndarray], done: int) -> None:
        ended = np.asarray(metrics.get("episodes", np.zeros(self.plan.seeds)))
        for name, values in metrics.items():
            bad = ~np.isfinite(np.asarray(values, np.float64).reshape(self.plan.seeds, -1)).all(axis=1)
            if name in EPISODE_METRICS:
                bad &= ended > 0
            for i in np.flatnonzero(bad):
                if (name, int(i)) not in self.explained:
                    self.explained.add((name, int(i)))
                    self._note(f"{name} of seed {i} is {values[i]} in iteration {done} (told once)")

    def _together(self, *flags: bool) -> Sequence[bool]:
        """What this process, or any of those it runs with, wants."""
        return multihost.any_of(*flags) if self.shared else flags

    def _due(self, done: int) -> bool:
        if self.checkpoints is None:
            return False
        waited = time.monotonic() - self.saved_at
        return waited >= max(self.seconds, 20 * self.save_seconds) or bool(self.every and done % self.every == 0)

    def _save(self, state: TrainState, done: int) -> None:
        if self.checkpoints is None or done == self.last_saved:
            return
        began = time.monotonic()
        if self.shared:
            state = multihost.on_host(state.replace(frozen=()), keep=multihost.is_first())
        if not self.shared or multihost.is_first():
            saved_state.save(self.checkpoints, done, state, self.frozen_digest)
        self.saved_at = time.monotonic()
        self.save_seconds, self.last_saved = self.saved_at - began, done
        self._update("running")

    def _clock(self, done: int, seconds: float) -> None:
        self.record["run_seconds"] += seconds
        if self.timing is not None:
            self.timing.write([{"iteration": done, "run_seconds": round(seconds, 6)}])

    def _asked_to_stop(self) -> None:
        text = "stopping after this iteration and saving; press Ctrl-C again to stop at once (earlier checkpoints stay)"
        (self.bar or Progress(1)).note(text)
        self._update("interrupted")  # the second signal leaves no time for it

    def _fail(self, error: BaseException) -> None:
        if isinstance(error, KeyboardInterrupt):
            status = "interrupted"
        else:
            status, self.record["error"] = "failed", f"{type(error).__name__}: {error}"
        with contextlib.suppress(Exception):  # the first error is the one to show
            self._update(status)

    def _update(self, status: run_record.Status | str) -> None:
        self.record["status"] = status
        if self.folder is not None:
            run_record.write_run(self.folder, self.record | {"updated": run_record.timestamp()})

    def _note(self, text: str) -> None:
        self.plan.notes.append(text)
        if self.bar is not None:
            self.bar.note(text)
        else:
            warnings.warn(text, stacklevel=4)

    def _close(self, outputs: Sequence[Sink], quietly: bool = False) -> None:
        with contextlib.ExitStack() as stack:
            for sink in [*outputs, *([self.timing] if self.timing else [])]:
                stack.enter_context(contextlib.suppress(Exception) if quietly else contextlib.nullcontext())
                stack.callback(sink.close)


def _advance(step: Any, state: TrainState) -> tuple[TrainState, dict[str, np.ndarray], Health]:
    """One iteration, and its metrics on the host in one transfer."""
    state, metrics, health = step(state)
    metrics, health = jax.device_get((metrics, health))
    return jax.block_until_ready(state), metrics, health


def _join(earlier: Mapping[str, np.ndarray], history: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    if not history:
        return dict(earlier)
    now = {name: np.stack([m[name] for m in history]) for name in history[0]}
    return {k: np.concatenate([earlier[k].astype(v.dtype), v]) if k in earlier else v for k, v in now.items()}

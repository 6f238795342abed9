"""State of one call of `jsafe.fit` that its callbacks share: the plan, the run folder and the record of the run."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsafe import multihost, runtime
from jsafe.population import Population
from jsafe.runs import record as run_record
from jsafe.trainer import Trainer
from jsafe.training.arguments import Plan

if TYPE_CHECKING:
    from jsafe.runs.telemetry import Progress


class Session:
    """One call of `fit`.

    Attributes:
        trainer: the trainer.
        plan: the checked arguments.
        population: the trainer bound to seeds and devices.
        folder: folder that this process writes to, None if it writes nothing.
        record: contents of `run.json`.
        iteration: finished iterations.
        compile_seconds: time spent on compiling the step.
        bar: the progress bar, if one is shown; notes are printed above it.
        flushed_at_checkpoints: functions that hand buffered telemetry to the system.
        is_shared: True if several processes run this session together.
    """

    def __init__(
        self,
        trainer: Trainer,
        plan: Plan,
        population: Population,
        folder: Path | None,
        extra: Mapping[str, Any],
        is_shared: bool,
    ) -> None:
        self.trainer, self.plan, self.population = trainer, plan, population
        self.folder, self.is_shared = folder, is_shared
        self.iteration = 0
        self.compile_seconds = 0.0
        self.bar: Progress | None = None
        self.flushed_at_checkpoints: list[Callable[[], None]] = []
        self.record = _opening_record(trainer, plan, extra)
        recorded = self.record.get("num_devices")
        if recorded not in (None, population.num_devices):
            self.note(
                f"the run used {recorded} devices and resumes on {population.num_devices}: "
                "its numbers may differ from those of an uninterrupted run by rounding"
            )
        self.record.update(hardware=runtime.describe_hardware(), num_devices=population.num_devices)

    def agree(self, *flags: bool) -> Sequence[bool]:
        """Return each flag, true if it is true in any process of the session."""
        return multihost.any_of(*flags) if self.is_shared else flags

    def update_record(self, status: run_record.Status | str, **fields: Any) -> None:
        """Change fields of the record and write it to `run.json`."""
        self.record.update(fields, status=status, iteration=self.iteration)
        if self.folder is not None:
            run_record.write_run(self.folder, self.record | {"updated": run_record.timestamp()})

    def record_failure(self, error: BaseException) -> None:
        """Record the error that ended training; failures of the record itself are ignored."""
        if isinstance(error, KeyboardInterrupt):
            status, fields = "interrupted", {}
        else:
            status, fields = "failed", {"error": f"{type(error).__name__}: {error}"}
        with contextlib.suppress(Exception):  # the first error is the one to show
            self.update_record(status, **fields)

    def note(self, text: str) -> None:
        """Show a remark once and keep it in the record."""
        self.plan.notes.append(text)
        if self.bar is not None:
            self.bar.note(text)
        else:
            warnings.warn(text, stacklevel=3)


def _opening_record(trainer: Trainer, plan: Plan, extra: Mapping[str, Any]) -> dict[str, Any]:
    record: dict[str, Any] = dict(plan.record or {"created": run_record.timestamp()})
    record.pop("error", None)
    return record | {
        "trainer": run_record.describe_trainer(trainer.info),
        "seeds": plan.seeds,
        "seed": plan.seed,
        "iterations": plan.iterations,
        "total_steps": plan.iterations * trainer.info.units_per_step,
        "hyper": None if plan.hyper is None else {k: v.tolist() for k, v in plan.hyper.items()},
        "versions": runtime.versions(),
        "compile_seconds": record.get("compile_seconds", 0.0),
        "run_seconds": record.get("run_seconds", 0.0),
        "sessions": record.get("sessions", 0) + 1,
        "notes": plan.notes,
        **extra,
    }

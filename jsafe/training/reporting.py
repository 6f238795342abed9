"""Callbacks that report a session: rows of metrics, the progress bar, seconds spent."""

from __future__ import annotations

import time
from collections.abc import Sequence

from jsafe.runs.telemetry import METRICS, TIMING, JsonLines, Progress, Sink, TensorBoard, rows_from
from jsafe.trainer import TrainState
from jsafe.training.callbacks import Callback, Progressed
from jsafe.training.session import Session


class Telemetry(Callback):
    """Write a row for each seed and iteration to `metrics.jsonl` and to further sinks.

    Args:
        sinks: destinations in addition to `metrics.jsonl`; None for TensorBoard in the run folder.
    """

    def __init__(self, sinks: Sequence[Sink] | None) -> None:
        self._given = sinks
        self._sinks: list[Sink] = []

    def on_start(self, session: Session) -> None:
        """Open the sinks; an event file of TensorBoard starts after the finished iterations."""
        if session.folder is not None:
            self._sinks.append(JsonLines(session.folder / METRICS))
            if self._given is None:
                each = session.trainer.info.units_per_step
                after = session.iteration * each if session.iteration else None
                self._sinks.append(TensorBoard(session.folder / "tensorboard", after_steps=after))
        self._sinks.extend(self._given or ())
        session.flushed_at_checkpoints.extend(sink.flush for sink in self._sinks if isinstance(sink, TensorBoard))

    def on_iteration(self, session: Session, progressed: Progressed) -> None:
        """Write the rows of each iteration of the call."""
        for index in range(len(progressed.health.skipped)):
            metrics = {name: values[index] for name, values in progressed.history.items()}
            rows = rows_from(metrics, progressed.first_iteration + index)
            for sink in self._sinks:
                sink.write(rows)

    def on_end(self, session: Session, state: TrainState | None) -> None:
        """Close the sinks."""
        for sink in self._sinks:
            sink.close()


class ProgressReport(Callback):
    """Show progress on stderr.

    Args:
        shown: True or False, or None for a terminal only.
    """

    def __init__(self, shown: bool | None) -> None:
        self._shown = shown

    def on_start(self, session: Session) -> None:
        """Open the bar and print the remarks of the plan."""
        if self._shown is False:
            return
        info = session.trainer.info
        bar = Progress(session.plan.iterations, session.iteration, shown=info.shown, unit=info.unit)
        if self._shown or bar.is_bar:
            session.bar = bar
            for note in session.plan.notes:
                bar.note(note)

    def on_iteration(self, session: Session, progressed: Progressed) -> None:
        """Move the bar to the last iteration."""
        if session.bar is not None:
            session.bar.write(rows_from(progressed.latest, progressed.iteration))

    def on_end(self, session: Session, state: TrainState | None) -> None:
        """Close the bar."""
        if session.bar is not None:
            session.bar.close()


class Timing(Callback):
    """Write seconds to `timing.jsonl` and to the record, which keeps `metrics.jsonl` free of the clock."""

    def __init__(self) -> None:
        self._file: JsonLines | None = None
        self._clock = 0.0

    def on_start(self, session: Session) -> None:
        """Write the time spent on compilation."""
        seconds = session.compile_seconds
        if session.folder is not None:
            self._file = JsonLines(session.folder / TIMING)
            started = {"session": session.record["sessions"], "iteration": session.iteration}
            self._file.write([started | {"compile_seconds": round(seconds, 3)}])
        session.update_record("running", compile_seconds=session.record["compile_seconds"] + seconds)
        self._clock = time.monotonic()

    def on_iteration(self, session: Session, progressed: Progressed) -> None:
        """Write the time of the call, callbacks included."""
        seconds = self._count(session)
        if self._file is not None:
            self._file.write([{"iteration": progressed.iteration, "run_seconds": round(seconds, 6)}])

    def on_end(self, session: Session, state: TrainState | None) -> None:
        """Count the last checkpoint and close the file."""
        self._count(session)
        if self._file is not None:
            self._file.close()

    def _count(self, session: Session) -> float:
        now = time.monotonic()
        seconds, self._clock = now - self._clock, now
        session.record["run_seconds"] += seconds
        return seconds

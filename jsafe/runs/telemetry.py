"""Destinations of the metrics of a run: JSON lines, TensorBoard, Weights & Biases and a progress bar.

A sink has two methods, `write(rows)` with one row for each seed, and `close()`. A row is a dict of plain values with
at least `seed`, `iteration`, `env_steps`, `return`, `cost` and `multiplier`; None stands for "not known".

`metrics.jsonl` holds nothing that depends on the clock, so that an interrupted and resumed run leaves the same file as
one that was never interrupted. Seconds go to `timing.jsonl`.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TextIO

import numpy as np

from jsafe.runs.checkpoint import is_disk_full, write_atomically

METRICS = "metrics.jsonl"
TIMING = "timing.jsonl"
Row = dict[str, Any]


class TelemetryError(RuntimeError):
    """A sink could not write; the message names the file and what to do."""


class Sink(Protocol):
    """Takes the rows of one iteration, one for each seed."""

    def write(self, rows: Sequence[Row]) -> None: ...

    def close(self) -> None: ...


def rows_from(metrics: Mapping[str, np.ndarray], iteration: int) -> list[Row]:
    """Turn metrics with a leading axis `[seeds]` into one row for each seed.

    Whole numbers stay whole, NaN and infinities become None, arrays become lists.
    """
    seeds = len(next(iter(metrics.values())))
    head = [{"seed": i, "iteration": iteration} for i in range(seeds)]
    return [row | {k: _plain(np.asarray(v)[row["seed"]]) for k, v in metrics.items()} for row in head]


def read_rows(path: Path | str) -> list[Row]:
    """Rows of a JSON-lines file; a last line cut off by a crash is left out, a missing file is empty.

    Raises:
        TelemetryError: a line before the last cannot be read.
    """
    path = Path(path)
    if not path.is_file():
        return []
    lines = path.read_bytes().split(b"\n")
    rows = []
    for number, line in enumerate(lines):
        if not line.strip():
            continue
        try:
            rows.append(json.loads(line))
        except ValueError as error:
            if number == len(lines) - 1:  # without its newline: the write was cut off
                break
            raise TelemetryError(f"{path}, line {number + 1} is not JSON: {error}") from error
    return rows


def read_metrics(run_dir: Path | str) -> dict[str, np.ndarray]:
    """Metrics of a run as arrays `[iterations, seeds]`, NaN where a value is not known.

    `seed` and `iteration` are left out: they are the axes. Metrics that are not numbers are left out too.
    """
    return stack_rows(read_rows(Path(run_dir) / METRICS))


def stack_rows(rows: Sequence[Row]) -> dict[str, np.ndarray]:
    """Rows of whole iterations, in order, as arrays `[iterations, seeds]`."""
    if not rows:
        return {}
    seeds = 1 + max(row["seed"] for row in rows)
    rows = rows[: len(rows) // seeds * seeds]
    names = [k for k in rows[0] if k not in ("seed", "iteration")]
    columns = {}
    for name in names:
        column = [row.get(name) for row in rows]
        if all(x is None or isinstance(x, int | float) for x in column):
            columns[name] = np.array([np.nan if x is None else x for x in column], np.float64).reshape(-1, seeds)
    return columns


def cut_after(path: Path, iteration: int, seeds: int | None = None) -> list[Row]:
    """Remove the rows of later iterations from a JSON-lines file, and return those that stay.

    Args:
        path: the file; it may be missing, and its last line may be cut off.
        iteration: the last one to keep.
        seeds: if given, check that every iteration up to that one has a row for each seed.

    Raises:
        TelemetryError: rows are missing, so the file does not belong to the state that is being resumed.
    """
    rows = [row for row in read_rows(path) if row["iteration"] <= iteration]
    if seeds is not None and len(rows) != iteration * seeds:
        raise TelemetryError(
            f"{path} holds {len(rows)} rows up to iteration {iteration}, expected {iteration * seeds}: "
            "it does not belong to this checkpoint"
        )
    if path.is_file() or rows:
        _guard(path, lambda: write_atomically(path, "".join(_line(row) for row in rows)))
    return rows


class JsonLines:
    """Appends every row to a file as one line of JSON."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._file: TextIO = _guard(self.path, lambda: self.path.open("a", encoding="utf-8"))

    def write(self, rows: Sequence[Row]) -> None:
        _guard(self.path, lambda: self._append("".join(map(_line, rows))))

    def _append(self, text: str) -> None:
        self._file.write(text)
        self._file.flush()  # in the hands of the system: survives the death of this process

    def close(self) -> None:
        # What a full disk kept in the buffer is written again by close, and fails again.
        _guard(self.path, self._file.close)


class TensorBoard:
    """Event files for TensorBoard: means over seeds, and every seed where there are few.

    Args:
        folder: folder to write to.
        per_seed: largest number of seeds that get curves of their own.
        after_steps: on resume, the environment steps after which earlier events are void.
    """

    def __init__(self, folder: Path | str, per_seed: int = 8, after_steps: int | None = None) -> None:
        from tensorboardX import SummaryWriter

        self.folder = Path(folder)
        self.per_seed = per_seed
        purge = None if after_steps is None else after_steps + 1
        self._writer = _guard(self.folder, lambda: SummaryWriter(str(folder), purge_step=purge))

    def write(self, rows: Sequence[Row]) -> None:
        step = int(rows[0].get("env_steps") or rows[0]["iteration"])
        for name, values in _numbers(rows).items():
            known = [v for v in values if v is not None]
            if known:
                self._writer.add_scalar(name, float(np.mean(known)), step)
            if 1 < len(rows) <= self.per_seed:
                for row, value in zip(rows, values, strict=True):
                    if value is not None:
                        self._writer.add_scalar(f"seed_{row['seed']}/{name}", value, step)

    def flush(self) -> None:
        """Hand buffered events to the system; they then survive the death of this process."""
        _guard(self.folder, self._writer.flush)

    def close(self) -> None:
        _guard(self.folder, self._writer.close)


class WeightsAndBiases:
    """Sends means over seeds to Weights & Biases, if its package is installed.

    Args:
        project: name there.
        run_dir: folder of its local files.
        config: shown next to the curves.

    Raises:
        TelemetryError: the package `wandb` is not installed.
    """

    def __init__(
        self, project: str, run_dir: Path | str | None = None, config: Mapping[str, Any] | None = None
    ) -> None:
        try:
            import wandb
        except ImportError as error:
            raise TelemetryError("Weights & Biases needs the package wandb: pip install 'jsafe[wandb]'") from error
        self._run = wandb.init(
            project=project, dir=None if run_dir is None else str(run_dir), config=dict(config or {})
        )

    def write(self, rows: Sequence[Row]) -> None:
        known = {k: [v for v in values if v is not None] for k, values in _numbers(rows).items()}
        self._run.log({k: float(np.mean(v)) for k, v in known.items() if v}, step=int(rows[0]["iteration"]))

    def close(self) -> None:
        self._run.finish()


class Progress:
    """A progress bar on stderr: steps per second, reward, cost, multiplier and time left.

    On a terminal it is a bar. Elsewhere it prints a plain line every `every` seconds.

    Args:
        iterations: iteration at which the run ends.
        start: finished iterations at the start.
        every: seconds between plain lines.
        stream: stderr by default.
        shown: metrics to show.
        unit: unit of progress, in the plural.
    """

    def __init__(
        self,
        iterations: int,
        start: int = 0,
        every: float = 10.0,
        stream: TextIO | None = None,
        shown: Sequence[str] = ("return", "cost", "multiplier"),
        unit: str = "steps",
    ) -> None:
        self._stream = stream or sys.stderr
        self._shown, self._unit = tuple(shown), unit
        self._total, self._start, self._every = iterations, start, every
        self._began = self._printed = time.monotonic()
        self._steps: float | None = None
        # Open from the start: the first iteration may be long, and its time belongs into the estimate of what is left.
        self._bar: Any = self._open_bar() if self.is_bar else None

    @property
    def is_bar(self) -> bool:
        """True on a terminal."""
        return self._stream.isatty()

    def write(self, rows: Sequence[Row]) -> None:
        done, now = int(rows[0]["iteration"]), time.monotonic()
        steps = float(sum(row.get("env_steps") or 0 for row in rows))
        if self._steps is None:  # steps of earlier sessions, which the rate leaves out
            self._steps = steps * self._start / done
        seconds = max(now - self._began, 1e-9)
        rate = (steps - self._steps) / seconds
        values = {name: _mean(rows, name) for name in self._shown}
        if self._bar is not None:
            shown = {k: "-" if v is None else f"{v:.2f}" for k, v in values.items()}
            self._bar.set_postfix({f"{self._unit}/s": f"{rate:,.0f}", **shown}, refresh=False)
            self._bar.update(done - self._bar.n)
        elif now - self._printed >= self._every or done >= self._total:
            self._printed = now
            shown = "  ".join(f"{k} {'-' if v is None else f'{v:.2f}'}" for k, v in values.items())
            left = seconds / max(done - self._start, 1) * (self._total - done)
            print(
                f"iteration {done}/{self._total}  {rate:,.0f} {self._unit}/s  {shown}  {_clock(left)} left",
                file=self._stream,
                flush=True,
            )

    def _open_bar(self) -> Any:
        from tqdm import tqdm

        return tqdm(
            total=self._total, initial=self._start, file=self._stream, unit="it", dynamic_ncols=True, smoothing=0.1
        )

    def note(self, text: str) -> None:
        """Print a line without tearing the bar."""
        if self._bar is not None:
            self._bar.write(text, file=self._stream)
        else:
            print(text, file=self._stream, flush=True)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()


def _plain(value: Any) -> Any:
    array = np.asarray(value)
    if array.ndim:
        return [_plain(x) for x in array]
    if array.dtype.kind in "biu":
        return array.item()
    number = float(array)
    return number if math.isfinite(number) else None


def _line(row: Row) -> str:
    return json.dumps(row, allow_nan=False) + "\n"


def _numbers(rows: Sequence[Row]) -> dict[str, list[float | None]]:
    names = [k for k, v in rows[0].items() if k not in ("seed", "iteration") and not isinstance(v, list | str)]
    return {name: [row.get(name) for row in rows] for name in names}


def _mean(rows: Sequence[Row], name: str) -> float | None:
    known = [row[name] for row in rows if isinstance(row.get(name), int | float)]
    return float(np.mean(known)) if known else None


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _guard(path: Path, action: Any) -> Any:
    """Run a function that writes; turn a failure into an error with advice."""
    try:
        return action()
    except OSError as error:
        if is_disk_full(error):
            reason, advice = "the disk is full", "Free some space, then resume the run"
        else:
            reason, advice = str(error.strerror or error), "Make the folder writable, or choose another run folder"
        raise TelemetryError(f"cannot write {path}: {reason}. {advice}") from error

"""Results of a replay, as a table for one engine or with one column for each of several."""

from __future__ import annotations

import dataclasses
import json
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

from tests.conftest import ROOT

HEADINGS = {
    "reward": "reward max",
    "reward_995": "99.5 %",
    "lidar": "lidar max",
    "lidar_995": "99.5 %",
    "sensors": "sensors/range",
    "state": "state max",
    "state_995": "99.5 %",
    "cost": "cost wrong",
    "events": "events wrong",
}
COUNTS = ("cost", "events")
COMPARED = {"state": "state max", "state_995": "state 99.5 %", "reward": "reward max", "cost": "cost wrong"}
"""Quantities with one column for each engine."""


@dataclasses.dataclass(frozen=True)
class Result:
    """Largest errors of all recordings of one environment.

    Attributes:
        id: environment.
        engine: release of the simulator, its colliders, and that of JAX.
        backend: physics backend, precision and profile.
        steps: number of compared steps.
        figures: by key of `HEADINGS`.
        seconds: duration of the replay.
    """

    id: str
    engine: str
    backend: str
    steps: int
    figures: dict[str, float]
    seconds: float = 0.0

    def to_json(self) -> str:
        """One line of `--json`."""
        row = dataclasses.asdict(self)
        return json.dumps(row | row.pop("figures"))

    @classmethod
    def from_json(cls, line: str) -> Result:
        """Read a line that `to_json` wrote."""
        row = json.loads(line)
        return cls(figures={key: row.pop(key) for key in HEADINGS}, **row)


def read(path: Path) -> list[Result]:
    """Results in a file of lines of `--json`."""
    return [Result.from_json(line) for line in path.read_text().splitlines() if line.strip()]


def measure(engine: Path, arguments: Sequence[str]) -> list[Result]:
    """Results of another environment.

    Args:
        engine: a Python interpreter or the folder of a virtual environment, which has the dependencies installed.
        arguments: of `python -m tests.parity`.

    Raises:
        FileNotFoundError: without an interpreter there.
        subprocess.CalledProcessError: if the replay fails; its messages are on standard error.
    """
    python = engine / "bin" / "python" if engine.is_dir() else engine
    if not python.exists():
        raise FileNotFoundError(f"--engine must be a Python interpreter or a virtual environment, got {engine}")
    # The path is not resolved: a virtual environment is recognised by the place of its link.
    command = [str(python.absolute()), "-m", "tests.parity", "--json", *arguments]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return [Result.from_json(line) for line in done.stdout.splitlines()]


def _cell(key: str, value: float) -> str:
    return str(int(value)) if key in COUNTS else f"{value:.1e}"


def heading() -> str:
    """First line of the table of one engine."""
    return f"{'environment':22s} {'backend':14s} {'steps':>6s} " + " ".join(f"{h:>13s}" for h in HEADINGS.values())


def line(result: Result) -> str:
    """One line of the table of one engine."""
    cells = " ".join(f"{_cell(key, result.figures[key]):>13s}" for key in HEADINGS)
    return f"{result.id:22s} {result.backend:14s} {result.steps:6d} {cells}"


def comparison(results: Iterable[Result]) -> str:
    """Table with one column for each engine, as Markdown.

    Args:
        results: of any number of engines. A missing one is a dash.

    Raises:
        ValueError: for two results of the same environment, backend and engine.
    """
    by_row: dict[tuple[str, str], dict[str, Result]] = {}
    engines: dict[str, None] = {}
    for result in results:
        row = by_row.setdefault((result.id, result.backend), {})
        if result.engine in row:
            raise ValueError(
                f"results must be of different engines, got two of {result.id} on {result.engine}. Remove one of them."
            )
        row[result.engine] = result
        engines[result.engine] = None
    lines = [
        " | ".join(("| environment", "backend", "error", *engines)) + " |",
        "|---|---|---|" + "---:|" * len(engines),
    ]
    for (env_id, backend), row in sorted(by_row.items()):
        for key, name in COMPARED.items():
            cells = (_cell(key, row[e].figures[key]) if e in row else "-" for e in engines)
            lines.append(" | ".join((f"| {env_id}", backend, name, *cells)) + " |")
    return "\n".join(lines)

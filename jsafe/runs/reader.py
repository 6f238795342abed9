"""Reader of run folders: settings, conditions and curves of a run. NumPy only, no JAX."""

from __future__ import annotations

import dataclasses
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from jsafe.confidence import smooth
from jsafe.runs.record import RunError


@dataclasses.dataclass(frozen=True)
class Run:
    """A finished or running training run.

    Attributes:
        path: its folder.
        facts: the content of `run.json`.
        seeds: the trained seeds, in order.
        env_steps: `[iterations]`, environment steps of one seed at the end of each iteration.
        curves: metric by name, `[seeds, iterations]`; NaN before the first finished episode.
        timing: the rows of `timing.jsonl`.
    """

    path: Path
    facts: dict[str, Any]
    seeds: list[int]
    env_steps: np.ndarray
    curves: dict[str, np.ndarray]
    timing: list[dict[str, Any]]

    @property
    def info(self) -> dict[str, Any]:
        """Description of the trainer: algorithm, env_id, config."""
        return self.facts.get("trainer", self.facts)

    @property
    def algorithm(self) -> str:
        return str(self.info.get("algorithm", "?"))

    @property
    def env_id(self) -> str:
        return str(self.info.get("problem") or "?")

    @property
    def cost_limit(self) -> float | None:
        """The allowed cost of an episode, or None for an unconstrained method or one with several limits."""
        value = self.info.get("config", {}).get("cost_limit")
        return None if value is None or isinstance(value, list | tuple) else float(value)

    @property
    def hyper_text(self) -> str:
        """The traced hyper-parameters of a group of a population (`groups`), empty for a run without groups."""
        return ", ".join(f"{name} {hyper_value(value)}" for name, value in self.facts.get("group", {}).items())

    def final(self, name: str, share: float = 0.05) -> np.ndarray:
        """Return the mean of a metric over the last `share` of the iterations, `[seeds]`; NaN if never measured."""
        curve = self.curves.get(name)
        if curve is None or curve.shape[1] == 0:
            return np.full(len(self.seeds), np.nan)
        last = curve[:, -max(1, round(share * curve.shape[1])) :]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            return np.nanmean(last, axis=1)

    def best_within_limit(self, share: float = 0.05) -> dict[str, np.ndarray]:
        """Return the best return of each seed while its cost was within the limit, both averaged over a window.

        Args:
            share: length of the window, as a share of the finished iterations.

        Returns:
            `return`, `cost` and `env_steps` at the end of that window, each `[seeds]`; NaN for a seed that was never
            within the limit, and for all seeds of a method without a limit.
        """
        missing = np.full(len(self.seeds), np.nan)
        if self.cost_limit is None or not len(self.env_steps) or not {"return", "cost"} <= self.curves.keys():
            return {"return": missing, "cost": missing, "env_steps": missing}
        window = max(1, round(share * len(self.env_steps)))
        reward, cost = (smooth(self.curves[name], window)[:, window - 1 :] for name in ("return", "cost"))
        allowed = np.where(cost <= self.cost_limit, reward, -np.inf)
        best = np.argmax(np.where(np.isnan(allowed), -np.inf, allowed), axis=1)
        values = {
            "return": np.take_along_axis(allowed, best[:, None], 1)[:, 0],
            "cost": np.take_along_axis(cost, best[:, None], 1)[:, 0],
            "env_steps": self.env_steps[window - 1 :][best],
        }
        return {name: np.where(np.isfinite(values["return"]), value, np.nan) for name, value in values.items()}


def hyper_value(value: Any) -> str:
    """Return a number, or several limits, as short text."""
    return ",".join(f"{x:g}" for x in value) if isinstance(value, list | tuple) else f"{value:g}"


def groups(run: Run) -> list[Run]:
    """Split a population by its traced hyper-parameters: members of equal values are seeds of one experiment.

    Returns:
        One run for each set of values, with these in its configuration; the run itself without replaced values.
    """
    hyper = run.facts.get("hyper") or {}
    if not hyper:
        return [run]
    members: dict[str, list[int]] = {}
    for place, seed in enumerate(run.seeds):
        members.setdefault(json.dumps([hyper[name][seed] for name in sorted(hyper)]), []).append(place)
    parts = []
    for places in members.values():
        values = {name: hyper[name][run.seeds[places[0]]] for name in sorted(hyper)}
        trainer = {**run.info, "config": {**run.info.get("config", {}), **values}}
        facts = {**run.facts, "trainer": trainer, **({"group": values} if len(members) > 1 else {})}
        curves = {name: curve[places] for name, curve in run.curves.items()}
        parts.append(dataclasses.replace(run, facts=facts, seeds=[run.seeds[i] for i in places], curves=curves))
    return parts


def curves_csv(run: Run, every: int = 1) -> str:
    """Return the curves of a run as comma-separated values, a row for each seed and every `every`th iteration."""
    names = [name for name in ("return", "cost", "multiplier", "length", "episodes") if name in run.curves]
    lines = [",".join(("seed", "env_steps", *names))]
    for place, seed in enumerate(run.seeds):
        for column in range(every - 1, len(run.env_steps), every):
            values = (f"{run.curves[name][place, column]:.6g}" for name in names)
            lines.append(",".join((str(seed), f"{run.env_steps[column]:.0f}", *values)))
    return "\n".join(lines) + "\n"


def load_run(path: Path | str) -> Run:
    """Read a run folder.

    Raises:
        RunError: there is no folder, or no run in it.
    """
    path = Path(path)
    if not path.is_dir():
        raise RunError(f"no run at {path}: there is no such folder")
    if not (path / "run.json").is_file():
        raise RunError(f"{path} is not a run folder: it has no run.json. Pass the folder given to --run-dir.")
    try:
        facts = json.loads((path / "run.json").read_text(encoding="utf-8"))
    except ValueError as error:
        raise RunError(f"{path / 'run.json'} is damaged: {error}") from error
    rows = read_lines(path / "metrics.jsonl")
    seeds, env_steps, curves = _curves(rows)
    return Run(path, facts, seeds, env_steps, curves, read_lines(path / "timing.jsonl"))


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a JSON-lines file, without lines that a crash cut off; a missing file is empty."""
    if not path.is_file():
        return []
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    return [row for row in rows if isinstance(row, dict)]


def _curves(rows: list[dict[str, Any]]) -> tuple[list[int], np.ndarray, dict[str, np.ndarray]]:
    """Return rows per seed and iteration as arrays; a row that is repeated after a resume replaces the earlier one."""
    rows = [row for row in rows if "seed" in row and "iteration" in row]
    seeds = sorted({int(row["seed"]) for row in rows})
    iterations = sorted({int(row["iteration"]) for row in rows})
    row_of, column_of = ({key: place for place, key in enumerate(keys)} for keys in (seeds, iterations))
    names = sorted({name for row in rows for name, value in row.items() if isinstance(value, int | float)})
    curves = {name: np.full((len(seeds), len(iterations)), np.nan) for name in names}
    for row in rows:
        place = row_of[int(row["seed"])], column_of[int(row["iteration"])]
        for name in names:
            value = row.get(name)
            if isinstance(value, int | float):
                curves[name][place] = value
    steps = curves.get("env_steps", np.zeros((len(seeds), len(iterations))))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        env_steps = np.nanmean(steps, axis=0) if len(seeds) else np.zeros(0)
    return seeds, env_steps, curves

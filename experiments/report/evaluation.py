"""Test episodes of a run, written to `eval.json` in its folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from experiments.cli.devices import configure, environment_of
from experiments.cli.format import to_json
from experiments.cli.shared_flags import DEFAULT_MACHINE, Machine
from experiments.cli.stdout import note
from experiments.report.run_summary import overall_of
from jsafe import runtime
from jsafe.evaluate import QUANTITIES, EpisodeTotals, load_policy_set, run_episodes, summarize
from jsafe.runs.reader import Run, groups, load_run


def evaluate_run(
    path: Path,
    episodes: int,
    *,
    root: int = 0,
    modes: Sequence[str] = ("deterministic", "stochastic"),
    physics: str | None = None,
    overrides: Any = (),
    machine: Machine = DEFAULT_MACHINE,
    progress: bool = False,
) -> dict[str, Any]:
    """Evaluate every seed of a run and write `eval.json` into its folder.

    Args:
        path: folder of the run.
        episodes: test episodes of each seed and mode; all of them start from the same layouts.
        root: seed of the test episodes.
        modes: `deterministic` (mean action), `stochastic` (sampled action) or both.
        physics: simulator, None for the one of the run.
        overrides: changes to the environment.
        machine: machine to compute on.
        progress: True to count steps on stderr.

    Returns:
        Output of `jsafe eval --json`.
    """
    run = load_run(path)
    configure(machine.platform, machine.devices)
    env = environment_of(run, physics, overrides)
    policies = load_policy_set(run.path)
    totals, seconds = run_episodes(env, policies, jax.random.key(root), episodes, modes, progress)
    if not totals.finite.all():
        note(f"warning: {int((~totals.finite).sum())} episodes had values that are not finite; they are excluded")
    data: dict[str, Any] = {
        "run": str(path),
        "algorithm": run.algorithm,
        "env": run.env_id,
        "physics": getattr(env, "backend", None),
        "episodes": episodes,
        "cost_limit": only_limit(run),
    }
    for place, mode in enumerate(modes):
        data[mode] = summarize(EpisodeTotals(*(leaf[place] for leaf in totals)), policies.seeds)
    data["groups"] = [
        {
            "hyper": part.facts.get("group", {}),
            "cost_limit": part.info.get("config", {}).get("cost_limit"),
            "seeds": part.seeds,
            **{mode: overall_of(data[mode], part.seeds) for mode in modes},
        }
        for part in groups(run)
    ]
    data |= {key: data[modes[0]]["overall"][key] for key in QUANTITIES}
    data |= {"seconds": seconds, "hardware": runtime.describe_hardware(), "versions": runtime.versions()}
    try:
        (path / "eval.json").write_text(to_json(data), encoding="utf-8")
    except OSError as error:
        note(f"could not write {path / 'eval.json'}: {error.strerror or error}")
    return data


def only_limit(run: Run) -> float | list[float] | None:
    """Return the limit, or the list of limits, of all members of a run; None if members differ or have none."""
    limits = [part.info.get("config", {}).get("cost_limit") for part in groups(run)]
    return limits[0] if all(limit == limits[0] for limit in limits) else None

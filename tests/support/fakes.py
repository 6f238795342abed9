"""A run folder made of known numbers, as training would have written it."""

from __future__ import annotations

import json
from pathlib import Path


def write_run(
    path: Path, *, algorithm: str = "ppo_lag", seeds: int = 3, iterations: int = 40, cost_limit: float = 25.0
) -> Path:
    """Seed `s` ends at return `10 + s` and cost `20 + s`; no episode ends in the first iteration."""
    path.mkdir(parents=True)
    facts = {
        "trainer": {
            "algorithm": algorithm,
            "problem": "SafetyPointGoal1-v0",
            "config": {"cost_limit": cost_limit, "num_envs": 20, "hidden_sizes": [64, 64]},
        },
        "hardware": {"processor": "a <fast> one", "cores": 2},
        "versions": {"jax": "0.10.2"},
    }
    (path / "run.json").write_text(json.dumps(facts))
    with (path / "metrics.jsonl").open("w") as file:
        for iteration in range(iterations):
            for seed in range(seeds):
                known = iteration > 0
                row = {
                    "seed": seed,
                    "iteration": iteration,
                    "env_steps": 1000 * (iteration + 1),
                    "return": 10.0 + seed if known else None,
                    "cost": 20.0 + seed if known else None,
                    "length": 1000.0 if known else None,
                    "multiplier": 0.5,
                }
                file.write(json.dumps(row) + "\n")
    (path / "timing.jsonl").write_text('{"compile_seconds": 3.0, "run_seconds": 60.0}\n')
    return path

"""One member of each family learns as it did when it was recorded (docs/curves)."""

from __future__ import annotations

import csv
from typing import NamedTuple

import jax
import numpy as np
import pytest

import algorithms
import envs_mjx
import jsafe
from tests.conftest import ROOT

pytestmark = pytest.mark.slow

POINT, CAR = "SafetyPointGoal1-v0", "SafetyCarGoal1-v0"
LIMIT, BUDGET = {"cost_limit": 25.0}, {"safety_budget": 25.0}
SEEDS = 2


class Recorded(NamedTuple):
    """A recorded run.

    Attributes:
        algorithm: registered name.
        env: id of the environment.
        options: options in addition to the preset.
        total_steps: of the whole schedule, because the step size decays over it.
        iterations: after which the two are compared, 20,000 steps each.
        preset: of the hyper-parameters.
    """

    algorithm: str
    env: str
    options: dict[str, float]
    total_steps: int
    iterations: int
    preset: str = "omnisafe"


RUNS = [
    Recorded("ppo", POINT, {}, 300_000, 15),
    Recorded("ppo_lag", POINT, LIMIT, 10_000_000, 50),
    Recorded("cppo_pid", POINT, LIMIT, 300_000, 15),
    Recorded("focops", POINT, LIMIT, 3_000_000, 15),
    Recorded("cup", POINT, LIMIT, 3_000_000, 15),
    Recorded("p3o", POINT, LIMIT, 300_000, 15),
    Recorded("crpo", POINT, LIMIT, 300_000, 15),
    Recorded("ppo_saute", POINT, BUDGET, 300_000, 15),
    Recorded("cpo", POINT, LIMIT, 3_000_000, 15, preset="paper"),
    Recorded("ppo", CAR, {}, 200_000, 10),
    Recorded("ppo_lag", CAR, LIMIT, 3_000_000, 15),
    Recorded("cppo_pid", CAR, LIMIT, 200_000, 10),
    Recorded("focops", CAR, LIMIT, 200_000, 10),
    Recorded("p3o", CAR, LIMIT, 200_000, 10),
    Recorded("crpo", CAR, LIMIT, 200_000, 10),
    Recorded("ppo_saute", CAR, BUDGET, 200_000, 10),
]


def recorded(run: Recorded, name: str) -> np.ndarray:
    """Return the result of each recorded seed after the iterations that are compared."""
    with (ROOT / f"docs/curves/{run.algorithm}-{run.env}-{run.preset}.csv").open() as file:
        steps = str(run.iterations * 20_000)
        return np.array([float(row[name]) for row in csv.DictReader(file) if row["env_steps"] == steps])


def spread(run: Recorded, name: str) -> float:
    """Standard deviation over seeds: that of the run, or what it must be taken to be at least.

    Two or three seeds may lie close together by chance, so the deviation of all runs on the environment counts where it
    is larger; multipliers are not comparable, and a tenth of theirs takes its place.
    """
    own = recorded(run, name)
    if name == "multiplier":
        return max(float(own.std(ddof=1)), 0.1 * float(own.mean()))
    others = [other for other in RUNS if other.env == run.env]
    pooled = np.sqrt(np.mean([recorded(other, name).var(ddof=1) for other in others]))
    return max(float(pooled), float(own.std(ddof=1)))


@pytest.mark.parametrize("run", RUNS, ids=[f"{run.algorithm}-{run.env}" for run in RUNS])
def test_other_seeds_end_in_the_recorded_band(run):
    """Return, cost and multiplier of two other seeds lie within three standard errors of the recorded ones."""
    env = envs_mjx.make(run.env)
    trainer = algorithms.make(run.algorithm, env, preset=run.preset, total_steps=run.total_steps, **run.options)
    keys = jax.random.split(jax.random.key(2026), SEEDS)
    _, curves = jax.jit(jax.vmap(lambda key: jsafe.run(trainer, key, iterations=run.iterations)))(keys)
    for name in ("return", "cost", "multiplier"):
        before = recorded(run, name)
        band = 3 * spread(run, name) * np.sqrt(1 / SEEDS + 1 / len(before))
        result = float(np.mean(np.asarray(curves[name])[:, -1]))
        assert abs(result - before.mean()) <= band, f"{name} {result:.2f}, recorded {before.mean():.2f} ± {band:.2f}"

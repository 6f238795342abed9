"""PPO-Lag learns PointGoal1 as it did when it was recorded."""

from __future__ import annotations

import csv

import jax
import numpy as np
import pytest

import algorithms
import envs_mjx
import jsafe
from tests.conftest import ROOT

pytestmark = pytest.mark.slow

RECORDED = ROOT / "docs/curves/ppo_lag-SafetyPointGoal1-v0-omnisafe.csv"
ITERATIONS, SEEDS = 50, 3


def test_the_first_million_steps_end_in_the_recorded_band():
    """Three other seeds end within four standard errors of the recorded ones after the same million steps.

    The schedule is that of ten million steps, since the step size decays over all of it.
    """
    env = envs_mjx.make("SafetyPointGoal1-v0")
    trainer = algorithms.make("ppo_lag", env, preset="omnisafe", total_steps=10_000_000, cost_limit=25.0)
    keys = jax.random.split(jax.random.key(2026), SEEDS)
    _, curves = jax.jit(jax.vmap(lambda key: jsafe.run(trainer, key, iterations=ITERATIONS)))(keys)
    steps = int(curves["env_steps"][0, -1])
    with RECORDED.open() as file:
        rows = [row for row in csv.DictReader(file) if int(row["env_steps"]) == steps]
    for name in ("return", "cost", "multiplier"):
        recorded = np.array([float(row[name]) for row in rows])
        band = 4 * recorded.std(ddof=1) * np.sqrt(1 / SEEDS + 1 / len(rows))
        found = float(np.mean(np.asarray(curves[name])[:, -1]))
        assert abs(found - recorded.mean()) <= band, f"{name} {found:.2f}, recorded {recorded.mean():.2f} ± {band:.2f}"

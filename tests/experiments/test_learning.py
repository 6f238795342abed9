"""PPO-Lag learns PointGoal1 as it did when it was recorded."""

from __future__ import annotations

import jax
import numpy as np
import pytest

import algorithms
import envs_mjx
import jsafe

pytestmark = pytest.mark.slow

# `docs/curves/ppo_lag-SafetyPointGoal1-v0-omnisafe.csv` after one million steps: mean and standard deviation of four
# seeds. Three other seeds should end within 4 standard errors of the difference between two such means.
RECORDED = {"return": (19.2, 1.0), "cost": (45.1, 4.9), "multiplier": (1.57, 0.10)}
ITERATIONS, SEEDS = 50, 3


def test_the_first_million_steps_end_in_the_recorded_band():
    """The first tenth of the schedule of ten million steps, since the step size decays over all of it."""
    env = envs_mjx.make("SafetyPointGoal1-v0")
    trainer = algorithms.make("ppo_lag", env, preset="omnisafe", total_steps=10_000_000, cost_limit=25.0)
    keys = jax.random.split(jax.random.key(2026), SEEDS)
    _, curves = jax.jit(jax.vmap(lambda key: jsafe.run(trainer, key, iterations=ITERATIONS)))(keys)
    for name, (mean, deviation) in RECORDED.items():
        found = float(np.mean(np.asarray(curves[name])[:, -1]))
        band = 4 * deviation * np.sqrt(1 / SEEDS + 1 / 4)
        assert abs(found - mean) <= band, f"{name} {found:.2f}, recorded {mean:.2f} ± {band:.2f}"

"""Recordings of the reference against the environments: one control step from every recorded state.

The bounds are the ones the project promises; `make parity` prints the figures themselves.
"""

from __future__ import annotations

import numpy as np
import pytest

from tests.parity import replay

# By task, share of steps on which a car's float64 state may be off by 1e-5, and its lidar by 1e-6, where its wheels
# touch balls or its boxes touch pillars. This is looser than the 0.5 % promised elsewhere: the reference resolved such
# pairs by an iterative search that stops at 1e-6, and what is left of the gap is written down in docs/architecture.md.
ILL_CONDITIONED = {"Button": 0.04, "Push": 0.01}


def _share(error: np.ndarray, bound: float) -> float:
    return float(np.mean(error <= bound))


def _files(golden_files, backend="mujoco"):
    files = [f for f in golden_files if replay.env_id(f) in replay.REGISTRY]
    if not files:
        pytest.skip("no recordings of registered environments")
    return files


def test_float64_steps_equal_the_reference(golden_files):
    for path in _files(golden_files):
        env = replay.environment(path, "mujoco")
        errors = replay.compare(path, env, replay.replay(path, env, x64=True, pad_to=500))
        assert not errors.cost.any(), f"{path.name}: cost differs at steps {np.flatnonzero(errors.cost)}"
        assert not errors.events.any(), f"{path.name}: success or termination differs"
        assert _share(errors.reward, 1e-6) >= 0.995, path.name
        share = 1 - ILL_CONDITIONED.get(env.config.task, 0.005) if env.config.agent == "Car" else 0.995
        assert _share(errors.lidar, 1e-6) >= share, path.name
        assert _share(errors.lidar, 1e-4) >= 0.995, path.name
        assert _share(errors.state, 1e-5) >= share, path.name
        assert _share(errors.state, 1e-3) >= 0.995, path.name


def test_float32_steps_equal_the_reference_to_its_precision(golden_files):
    steps = wrong = 0
    for path in _files(golden_files):
        env = replay.environment(path, "mujoco")
        errors = replay.compare(path, env, replay.replay(path, env, x64=False, pad_to=500))
        steps, wrong = steps + len(errors.cost), wrong + int(errors.cost.sum())
        assert _share(errors.reward, 1e-4) >= 0.995, path.name
        assert _share(errors.lidar, 1e-4) >= 0.995, path.name
        assert _share(errors.sensors, 1e-3) >= 0.995, path.name
    assert wrong <= 0.001 * steps


def test_replay_notices_a_wrong_constant(golden_files):
    """The oracle can fail: a lidar that sees one centimetre further is noticed at once."""
    path = next((f for f in _files(golden_files) if f.name.startswith("SafetyPointGoal1-v0_seed0_goto")), None)
    if path is None:
        pytest.skip("needs the recording SafetyPointGoal1-v0_seed0_goto")
    env = replay.make("SafetyPointGoal1-v0", overrides={"lidar_conf.max_dist": 3.01})
    errors = replay.compare(path, env, replay.replay(path, env, x64=False, pad_to=500))
    assert _share(errors.lidar, 1e-4) < 0.1

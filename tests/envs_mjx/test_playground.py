"""MuJoCo Playground next to this package, in one process; skips where it is not installed."""

from __future__ import annotations

import importlib.util

import jax
import jax.numpy as jnp
import pytest

import envs_mjx

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("mujoco_playground") is None, reason="needs MuJoCo Playground: pip install playground"
)


def _after_a_few_steps(reset, step, size: int):
    """Reward of three steps with a constant action."""
    state = jax.jit(reset)(jax.random.key(0))
    step = jax.jit(step)
    for _ in range(3):
        state = step(state, jnp.full(size, 0.1))
    return state.reward


def test_an_environment_of_either_runs_in_one_process():
    from mujoco_playground import registry

    theirs = registry.load("CartpoleBalance", config_overrides={"impl": "jax"})
    ours = envs_mjx.make("SafetyPointGoal1-v0")
    before = _after_a_few_steps(theirs.reset, theirs.step, theirs.action_size)
    reward = _after_a_few_steps(ours.reset, ours.step, 2)
    after = _after_a_few_steps(theirs.reset, theirs.step, theirs.action_size)
    assert jnp.isfinite(reward) and jnp.isfinite(before)
    assert before == after, "what is replaced for our programs is back in place for theirs"

"""Limits and budgets of rewritten decision processes differ across a population."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import algorithms
import jsafe
from tests.support.toy_envs import Counter, PointMass
from tests.support.transformed_envs import TINY


def test_limits_differ_across_a_population_and_outlive_episodes():
    trainer = algorithms.make("ppo_early_terminated", Counter(episode_length=10), total_steps=240, **TINY)

    def run(limit):
        state, metrics = jsafe.run(trainer, jax.random.key(0), 3, {"cost_limit": limit})
        return state.memory.env.info["cost_limit"], metrics["length"]

    limits, lengths = jax.jit(jax.vmap(run))(jnp.array([2.0, 4.0, 100.0]))
    np.testing.assert_array_equal(lengths[:, -1], [3.0, 5.0, 10.0])
    np.testing.assert_array_equal(limits, np.array([2.0, 4.0, 100.0])[:, None] * np.ones(4))


@pytest.mark.parametrize(("name", "history"), [("ppo_saute", 1), ("ppo_simmer_pid", 3)])
def test_budgets_differ_across_a_population(name, history):
    torso = {"history": history} if history > 1 else {}
    trainer = algorithms.make(name, PointMass(hazard_radius=5.0), total_steps=240, **TINY, **torso)
    budgets = jnp.array([3.0, 50.0])
    run = jax.jit(jax.vmap(lambda b: jsafe.run(trainer, jax.random.key(0), 1, {"safety_budget": b})[0]))
    env = run(budgets).memory.env
    inner = env.data if history > 1 else env
    largest = inner.info["budget" if name == "ppo_saute" else "largest_budget"]
    np.testing.assert_array_equal(largest, budgets[:, None] * np.ones(4))
    full = np.ones(2) if name == "ppo_saute" else np.asarray(inner.info["budget"] / largest)[:, 0]
    np.testing.assert_allclose(inner.obs[..., -1], full[:, None] * np.ones(4), rtol=1e-6)
    if history > 1:  # the window shows the same as the environment inside it
        np.testing.assert_array_equal(env.obs["frames"][..., -1, :], inner.obs)

"""Policies of transformed decision processes compared with exact optima."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import algorithms
import jsafe
from algorithms.on_policy.policy_networks import default_networks
from algorithms.registry import config_class
from envs_mjx.analytic import STRESS, early_termination_optimum, saute_optimum
from jsafe import rollout

LEARN = {
    "num_envs": 100, "steps_per_iteration": 1600, "minibatch_size": 400, "passes": 8, "learning_rate": 5e-3,
    "value_learning_rate": 5e-3, "discount": 1.0, "hidden_sizes": (32, 32), "entropy_coefficient": 0.02,
    "target_kl": np.inf, "value_l2": 0.0,
}  # fmt: skip


def learned(name, iterations, **options):
    """Means per episode of the best actions of two trained policies: learned reward, original return and cost."""
    trainer = algorithms.make(name, STRESS, total_steps=1600 * iterations, **{**LEARN, **options})
    config = trainer.info.config
    env = algorithms.rewrite(name, STRESS, config)
    policy = default_networks(env, config_class(name)(**config)).policy

    @jax.jit
    @jax.vmap
    def run(key):
        params = jsafe.run(trainer, key, iterations)[0].params["policy"]
        start = rollout.init(env, jax.random.key(1), 5000)
        act = lambda obs, key: (policy.apply(params, obs).mode(), ())  # noqa: E731
        _, t, sums = rollout.unroll(env, act, start, jax.random.key(2), STRESS.horizon)
        first = jnp.cumsum(t.done, axis=0) - t.done == 0
        return [
            jnp.mean(jnp.sum(jnp.where(first, x, 0.0), axis=0))
            for x in (t.reward, jnp.where(t.done, sums.returns, 0.0), t.cost[..., 0])
        ]

    return [np.asarray(x) for x in run(jax.random.split(jax.random.key(0), 2))]


def assert_near(result, best, gap):
    objective, return_, cost = result
    print("objective", objective, "return", return_, "cost", cost, "exact", best[:4], best.cost_range)
    assert (objective > best.objective - gap).all() and (objective < best.objective + 0.1).all()  # errors of 0.03


@pytest.mark.slow
def test_early_termination_learns_the_best_policy_of_the_process_that_ends():
    best = early_termination_optimum(STRESS, 2.5)
    result = learned("ppo_early_terminated", 50, cost_limit=2.5)
    assert_near(result, best, 0.15)
    np.testing.assert_allclose(result[2], best.costs[0], atol=0.25)


@pytest.mark.slow
def test_saute_learns_the_best_policy_of_the_process_with_a_budget():
    best = saute_optimum(STRESS, 2.5, -1.0)
    result = learned("ppo_saute", 50, safety_budget=2.5, saute_discount=1.0)
    assert_near(result, best, 0.15)
    assert (result[1] < best.return_range[1] + 0.1).all() and (result[2] < best.cost_range[1] + 0.1).all()


@pytest.mark.slow
def test_simmer_ends_near_the_best_policy_of_the_largest_budget():
    best = saute_optimum(STRESS, 2.5, -1.0)
    schedule = {"initial_budget": 0.8, "budget_levels": 2, "budget_kp": 0.3}
    result = learned(
        "ppo_simmer_pid", 60, safety_budget=2.5, saute_discount=1.0, **{**schedule, "entropy_coefficient": 0.05}
    )
    assert_near(result, best, 0.2)

"""Simmer's episodes against the recursion of the paper, and the controller of its budget by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import algorithms
import jsafe
from algorithms.transforms import simmer
from algorithms.transforms.simmer import Simmered
from tests.support.toy_envs import Counter, PointMass
from tests.support.transformed_envs import TINY, plain_saute, record


@pytest.mark.parametrize(("divide_by_current", "start_full"), [(False, False), (True, False), (False, True)])
def test_simmer_starts_with_its_part_of_the_largest_budget(divide_by_current, start_full):
    inner = PointMass(episode_length=8, hazard_radius=0.7)
    env = Simmered(inner, divide_by_current=divide_by_current, start_full=start_full, saute_discount=0.95)
    _, t = record(env, 40, write=lambda states: env.remember(states, budget=1.5, largest_budget=6.0))
    unit = 1.5 if divide_by_current else 6.0
    before, after = plain_saute(t, unit, 0.95, 8, start=1.0 if start_full else 0.25)
    np.testing.assert_allclose(t.obs[..., -1], before, atol=1e-5)
    np.testing.assert_allclose(t.next_obs[..., -1], after, atol=1e-5)
    np.testing.assert_array_equal(t.reward == -1.0, after <= 0)
    assert (after <= 0).any()


def plain_controller(costs, hyper, window, levels, iterations, last_budget):
    """The sequence of budgets, by hand; unknown costs change nothing."""
    largest, first = hyper["safety_budget"], hyper["initial_budget"]
    budget, errors, cut, count, result = first * largest, [], 0.0, 0, []
    for cost in costs:
        if np.isfinite(cost):
            count += 1
            level = min(count * levels // iterations, levels - 1)
            reference = budget if last_budget else np.linspace(first * largest, largest, levels)[level]
            old = errors[-1] if errors else 0.0
            w = hyper["budget_smoothing"]
            errors = [*errors, (1 - w) * (reference - cost) + w * old][-window:]
            raw = hyper["budget_kp"] * errors[-1] + hyper["budget_ki"] * sum(errors) + hyper["budget_kaw"] * cut
            output = min(max(raw, -hyper["budget_step"]), hyper["budget_step"])
            budget = min(max(reference + output, simmer.SMALLEST), largest)
            cut = budget - reference - raw
        result.append(budget)
    return result


@pytest.mark.parametrize("last_budget", [False, True])
def test_the_controller_moves_the_budget_as_by_hand(last_budget):
    hyper = {
        "safety_budget": 25.0, "initial_budget": 0.6, "budget_kp": 0.2, "budget_ki": 0.05, "budget_kaw": 0.3,
        "budget_smoothing": 0.4, "budget_step": 2.0,
    }  # fmt: skip
    costs = [np.nan, 30.0, 60.0, 5.0, 12.0, 0.0, 0.0, np.nan, 14.0, 90.0, 90.0, 90.0, 90.0, 2.0, 2.0, 2.0]
    init, update = simmer.controller(4, 6, 12, last_budget)
    state, result = init(hyper), []
    for cost in costs:
        state = jax.jit(update)(state, jnp.float32(cost), hyper)
        result.append(float(state.budget))
    expected = plain_controller(costs, hyper, 4, 6, 12, last_budget)
    np.testing.assert_allclose(result, expected, rtol=1e-5)
    assert result[0] == pytest.approx(15.0) and result[1] < 15.0  # unknown, then a cost above the reference
    assert result[7] == result[6] and 0 < min(result) and max(result) <= 25.0


def test_the_first_budgets_of_the_paper_by_hand():
    """Two updates with round numbers: reference 15 of 25, gains 0.1 and 0.01, no smoothing."""
    hyper = {
        "safety_budget": 25.0, "initial_budget": 0.6, "budget_kp": 0.1, "budget_ki": 0.01, "budget_kaw": 0.5,
        "budget_smoothing": 0.0, "budget_step": 1.0,
    }  # fmt: skip
    init, update = simmer.controller(10, 6, 600, False)
    state = update(init(hyper), jnp.float32(10.0), hyper)
    np.testing.assert_allclose(state.budget, 15.0 + 0.1 * 5 + 0.01 * 5, rtol=1e-6)
    state = update(state, jnp.float32(35.0), hyper)  # raw output -2 - 0.15, bounded by 1
    np.testing.assert_allclose(state.budget, 14.0, rtol=1e-6)
    np.testing.assert_allclose(state.cut, 1.15, rtol=1e-5)
    state = update(state, jnp.float32(15.0), hyper)  # no error, but windup and what was cut off
    np.testing.assert_allclose(state.budget, 15.0 - 0.15 + 0.5 * 1.15, rtol=1e-6)


def test_the_budget_of_a_run_reaches_environments_and_metrics():
    trainer = algorithms.make(
        "ppo_simmer_pid", Counter(episode_length=5), safety_budget=6.0, initial_budget=0.5, total_steps=240, **TINY
    )
    state, metrics = jax.jit(lambda k: jsafe.run(trainer, k, 3))(jax.random.key(0))
    config = trainer.info.config
    expected = plain_controller([5.0] * 3, config, config["budget_window"], 6, 3, False)
    np.testing.assert_allclose(metrics["budget"], expected, rtol=1e-5)
    env = state.memory.env
    np.testing.assert_allclose(env.info["budget"], expected[-1], rtol=1e-5)
    # 20 steps in each environment: all are at the start of an episode, and see what it will have.
    np.testing.assert_allclose(env.obs[:, -1], expected[-1] / 6.0, rtol=1e-5)
    first = trainer.init(jax.random.key(0)).memory.env
    np.testing.assert_allclose(first.obs[:, -1], 0.5)

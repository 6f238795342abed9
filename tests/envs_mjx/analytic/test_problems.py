"""The problems of known optimum keep the contract, are well conditioned, and refuse what makes no sense."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from envs_mjx.analytic import (
    CART,
    CASES,
    STRESS,
    STRESS_AND_FUEL,
    barrier_optimum,
    evaluate,
    evaluate_linear,
    least_cost,
    optimum,
    penalty_optimum,
    saute_optimum,
    tables,
)
from jsafe import rollout
from jsafe.cmdp import Env
from tests.support.analytic_cases import FINITE, unlimited

# --- the problems -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_every_problem_keeps_the_contract_of_environments(name):
    env, limits = CASES[name]
    spec = env.spec
    assert isinstance(env, Env) and hash(env) == hash(dataclasses.replace(env))
    assert len(limits) == spec.num_costs and 8 <= spec.episode_length <= 12
    assert sum(size for _, size in spec.observation_layout) == spec.observation_size
    action = jnp.int32(1) if spec.num_actions else jnp.full(spec.action_size, 0.3)

    state = jax.jit(env.reset)(jax.random.key(0))
    step = jax.jit(env.step)
    kind = jax.tree.map(lambda x: (x.shape, x.dtype, x.weak_type), dataclasses.replace(state, data=None))
    for time in range(spec.episode_length):
        assert not bool(state.terminated)
        assert state.obs.shape == (spec.observation_size,) and state.obs.dtype == jnp.float32
        following = step(state, action)
        assert jax.tree.structure(state) == jax.tree.structure(following)
        assert (
            jax.tree.map(lambda x: (x.shape, x.dtype, x.weak_type), dataclasses.replace(following, data=None)) == kind
        )
        assert following.cost.shape == (spec.num_costs,)
        state = following
        assert int(state.data["time"]) == time + 1
    assert bool(state.terminated)
    assert step._cache_size() == 1  # pyright: ignore[reportFunctionMemberAccess]


@pytest.mark.parametrize("name", CASES)
def test_episodes_terminate_at_the_horizon_and_are_never_truncated(name, key):
    env, _ = CASES[name]
    spec = env.spec
    shape = () if spec.num_actions else (spec.action_size,)
    dtype = jnp.int32 if spec.num_actions else jnp.float32
    start = rollout.init(env, key, 3)
    _, steps, _ = rollout.unroll(
        env, lambda obs, key: (jnp.zeros((3, *shape), dtype), ()), start, key, 2 * spec.episode_length + 1
    )
    ends = (np.arange(1, 2 * spec.episode_length + 2) % spec.episode_length == 0)[:, None]
    np.testing.assert_array_equal(steps.terminated, np.broadcast_to(ends, steps.terminated.shape))
    assert not bool(steps.truncated.any())
    np.testing.assert_array_equal(steps.next_obs[spec.episode_length - 1, :, -spec.episode_length :], 0.0)


def test_finite_observations_are_the_one_hot_code_of_time_and_state():
    env = STRESS
    state = env.reset(jax.random.key(3))
    for time in range(env.horizon):
        expected = np.zeros(env.spec.observation_size)
        expected[time * env.num_states + int(state.data["state"])] = 1.0
        np.testing.assert_array_equal(state.obs, expected)
        state = env.step(state, jnp.int32(2))


def _occupancy(env, policy):
    """Probability of each (time, state), by powers of the transition matrix under the policy."""
    state, visits = np.asarray(env.start), []
    for at in policy:
        visits.append(state)
        state = state @ np.einsum("sa,san->sn", at, np.asarray(env.transition))
    return np.array(visits)


@pytest.mark.parametrize(("env", "limits"), FINITE, ids=["one_cost", "two_costs"])
def test_finite_problems_are_well_conditioned(env, limits):
    free, best = optimum(env, unlimited(env)), optimum(env, limits)
    table = tables(env)
    assert np.array_equal(table.cost, table.cost.astype(int)) and table.cost.max() <= 2 and table.cost.min() >= 0
    assert best.return_ >= 4.0
    assert best.costs == pytest.approx(limits, abs=1e-9), "every constraint binds"
    for index, limit in enumerate(limits):
        assert free.costs[index] >= 2 * limit
        assert least_cost(env, index) <= limit / 2
        assert 0.5 <= best.multipliers[index] <= 2.0
        # The slope changes slowly: a limit missed by a little is not another problem.
        for factor in (0.8, 1.2):
            near = tuple(b * factor if i == index else b for i, b in enumerate(limits))
            assert best.multipliers[index] == pytest.approx(optimum(env, near).multipliers[index], rel=0.4)
    visited = _occupancy(env, best.policy) > 1e-9
    mixed = np.any((best.policy > 1e-6) & (best.policy < 1 - 1e-6), axis=-1) & visited
    assert 1 <= mixed.sum() <= len(limits), "the best policy has to randomise, once per constraint"
    for action in range(3):
        constant = np.broadcast_to(np.eye(3)[action], best.policy.shape)
        return_, costs = evaluate(env, constant)
        assert return_ < 0.8 * best.return_ or any(c > 2 * b for c, b in zip(costs, limits, strict=True))


def test_linear_quadratic_problem_is_well_conditioned():
    env, limits = CASES["linear_quadratic"]
    free, best = optimum(env, unlimited(env)), optimum(env, limits)
    idle, _ = evaluate_linear(env, np.zeros_like(best.policy.gains), np.zeros_like(best.policy.offsets))
    band = 0.05 * best.return_
    assert 5 <= best.return_ <= 10 and 0.5 <= best.multipliers[0] <= 2
    assert best.costs[0] == pytest.approx(limits[0], abs=1e-9) and free.costs[0] >= 2 * limits[0]
    assert best.return_ - idle >= 3 * band and free.return_ - best.return_ >= 3 * band
    assert evaluate_linear(env, *best.policy, 0.1)[0] >= best.return_ - 0.5 * band, "some exploration is affordable"


# --- refusals ---------------------------------------------------------------------------------------------------


def test_what_makes_no_sense_is_refused_by_name():
    with pytest.raises(ValueError, match="one entry for each cost, 1, got 2"):
        optimum(STRESS, (1.0, 1.0))
    with pytest.raises(ValueError, match="no policy of AnalyticStress-v0 meets the limits"):
        optimum(STRESS, (0.1,))
    with pytest.raises(ValueError, match="stays below the limit"):
        barrier_optimum(STRESS, 0.1, 1.0)
    with pytest.raises(ValueError, match="one cost, got 2"):
        penalty_optimum(STRESS_AND_FUEL, 1.0, 1.0)
    with pytest.raises(ValueError, match="one number above 0"):
        optimum(CART, (0.0,))
    with pytest.raises(ValueError, match="budget"):
        saute_optimum(STRESS, 0.0, -1.0)
    with pytest.raises(ValueError, match="effort"):
        dataclasses.replace(CART, effort=0.0)
    with pytest.raises(ValueError, match="add up to 1"):
        dataclasses.replace(STRESS, start=(0.5,) * 5)
    with pytest.raises(ValueError, match="cost must have shape"):
        dataclasses.replace(STRESS, cost_names=("a", "b"))
    with pytest.raises(ValueError, match="policy must have shape"):
        evaluate(STRESS, np.ones((2, 2)))

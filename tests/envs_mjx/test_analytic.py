"""The oracles of constrained optimality, checked by duality, brute force, other solvers and simulation."""

from __future__ import annotations

import dataclasses
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from envs_mjx.analytic import (
    CART,
    CASES,
    STRESS,
    STRESS_AND_FUEL,
    FiniteCMDP,
    LinearQuadratic,
    barrier_optimum,
    early_termination_optimum,
    evaluate,
    evaluate_linear,
    lagrangian_policy,
    least_cost,
    optimum,
    penalty_optimum,
    saute_optimum,
    tables,
)
from jsafe import rollout
from jsafe.cmdp import Env

FINITE = [(env, limits) for env, limits in CASES.values() if isinstance(env, FiniteCMDP)]
(LIMIT,) = CASES["finite"][1]
EPISODES = 20_000

TINY = FiniteCMDP(
    id="Tiny-v0",
    horizon=3,
    cost_names=("cost",),
    transition=(((0.7, 0.3), (0.2, 0.8)), ((0.9, 0.1), (0.4, 0.6))),
    reward=((0.1, 1.0), (-0.3, 1.7)),
    cost=(((0, 1), (1, 2)),),
    start=(1.0, 0.0),
)


def unlimited(env):
    return (math.inf,) * env.spec.num_costs


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
        assert following.cost.shape == (spec.num_costs,) and float(following.cost_sum) == float(following.cost.sum())
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
    _, steps = rollout.unroll(
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


# --- linear program ---------------------------------------------------------------------------------------------


def _occupancy(env, policy):
    """Probability of each (time, state), by powers of the transition matrix under the policy."""
    state, visits = np.asarray(env.start), []
    for at in policy:
        visits.append(state)
        state = state @ np.einsum("sa,san->sn", at, np.asarray(env.transition))
    return np.array(visits)


def _dual(env, limits, multipliers):
    """`max over policies of return - m (cost - limits)`, by backward induction."""
    table = tables(env)
    value = np.zeros(env.num_states)
    for _ in range(env.horizon):
        value = np.max(table.reward - np.tensordot(multipliers, table.cost, 1) + table.transition @ value, axis=-1)
    return table.start @ value + np.dot(multipliers, limits)


@pytest.mark.parametrize(("env", "limits"), FINITE, ids=["one_cost", "two_costs"])
def test_linear_program_agrees_with_the_lagrangian_dual(env, limits):
    best = optimum(env, limits)
    assert _dual(env, limits, best.multipliers) == pytest.approx(best.return_, abs=1e-9), "strong duality"
    grid = list(itertools.product(np.linspace(0, 3, 61), repeat=len(limits)))
    values = [_dual(env, limits, m) for m in grid]
    assert min(values) >= best.return_ - 1e-9, "weak duality"
    found = scipy.optimize.minimize(
        lambda m: _dual(env, limits, np.abs(m)),
        grid[int(np.argmin(values))],
        method="Nelder-Mead",
        options={"xatol": 1e-9, "fatol": 1e-12},
    )
    assert found.fun == pytest.approx(best.return_, abs=1e-3)


@pytest.mark.parametrize(("env", "limits"), FINITE, ids=["one_cost", "two_costs"])
def test_the_policy_of_the_linear_program_earns_what_it_says(env, limits):
    for bounds in (limits, unlimited(env)):
        best = optimum(env, bounds)
        return_, costs = evaluate(env, best.policy)
        np.testing.assert_allclose(best.policy.sum(-1), 1.0, atol=1e-9)
        assert return_ == pytest.approx(best.return_, abs=1e-8) and costs == pytest.approx(best.costs, abs=1e-8)


def test_multipliers_are_the_slopes_of_the_pareto_surface():
    env, limits = CASES["finite_two_costs"]
    best = optimum(env, limits)
    for index in range(2):
        # At a generic point the curve is linear near the limit; a kink would show as a difference of the two sides.
        more = tuple(b + 1e-4 * (i == index) for i, b in enumerate(limits))
        less = tuple(b - 1e-4 * (i == index) for i, b in enumerate(limits))
        slope = (optimum(env, more).return_ - optimum(env, less).return_) / 2e-4
        assert slope == pytest.approx(best.multipliers[index], abs=1e-6)


# --- changed processes ------------------------------------------------------------------------------------------


def _enumerate(env, start, spend, safe, unsafe_reward, unsafe_ends):
    """`(objective, return, cost)` of every deterministic policy of (time, state, memory), from the definition."""
    # Only what can be reached from state 0 counts; places that no policy reaches would multiply the policies.
    nodes, frontier = [], {(0, 0, start)}
    while frontier:
        nodes += sorted(frontier)
        after = {
            (time + 1, following, spend(memory, env.cost[0][state][action]))
            for time, state, memory in frontier
            for action in range(2)
            for following in range(env.num_states)
            if time + 1 < env.horizon and (safe(spend(memory, env.cost[0][state][action])) or not unsafe_ends)
        }
        frontier = after
    results = []
    for choice in itertools.product(range(2), repeat=len(nodes)):
        policy = dict(zip(nodes, choice, strict=True))

        def run(node, policy=policy):
            if node not in policy:
                return np.zeros(3)
            time, state, memory = node
            action = policy[node]
            reward, cost = env.reward[state][action], env.cost[0][state][action]
            left = spend(memory, cost)
            shaped = reward if safe(left) else unsafe_reward
            total = np.array([shaped, shaped if unsafe_ends else reward, cost])
            if safe(left) or not unsafe_ends:
                for following, chance in enumerate(env.transition[state][action]):
                    total = total + chance * run((time + 1, following, left))
            return total

        results.append(run((0, 0, start)))
    return np.array(results)


def _assert_best(found, results):
    best = results[results[:, 0] >= results[:, 0].max() - 1e-9]
    assert found.objective == pytest.approx(best[0, 0], abs=1e-9)
    assert found.return_range == pytest.approx((best[:, 1].min(), best[:, 1].max()), abs=1e-9)
    assert found.cost_range == pytest.approx((best[:, 2].min(), best[:, 2].max()), abs=1e-9)
    thriftiest = best[np.argmin(best[:, 2])]
    assert found.costs[0] == pytest.approx(thriftiest[2], abs=1e-9)
    assert found.return_range[0] - 1e-9 <= found.return_ <= found.return_range[1] + 1e-9


@pytest.mark.parametrize("limit", [0.0, 1.0, 1.5, 2.0, 10.0])
def test_early_termination_is_the_best_of_all_policies(limit):
    results = _enumerate(TINY, 0, lambda m, c: m + c, lambda m: m <= limit, 0.0, True)
    _assert_best(early_termination_optimum(TINY, limit), results)


@pytest.mark.parametrize(
    ("budget", "unsafe_reward", "discount"), [(1.5, -0.2, 1.0), (2.5, 0.0, 1.0), (1.5, -3.0, 1.0), (1.5, -0.2, 0.6)]
)
def test_saute_is_the_best_of_all_policies(budget, unsafe_reward, discount):
    env = TINY if discount == 1.0 else dataclasses.replace(TINY, horizon=2)
    results = _enumerate(
        env, 1.0, lambda z, c: round((z - c / budget) / discount, 9), lambda z: z > 0, unsafe_reward, False
    )
    _assert_best(saute_optimum(env, budget, unsafe_reward, discount), results)


def test_without_a_limit_that_matters_a_changed_process_is_the_original_one():
    free = optimum(STRESS, unlimited(STRESS))
    for found in (early_termination_optimum(STRESS, 100.0), saute_optimum(STRESS, 100.5, -1.0)):
        assert found.objective == pytest.approx(free.return_) and found.return_ == pytest.approx(free.return_)
        assert found.costs == pytest.approx(free.costs)


def test_early_termination_and_saute_stay_below_the_constrained_optimum():
    best = optimum(STRESS, (LIMIT,))
    assert early_termination_optimum(STRESS, LIMIT).return_ < 0.8 * best.return_
    assert saute_optimum(STRESS, LIMIT, -1.0).return_range[1] < 0.8 * best.return_


def test_penalty_is_exact_from_the_multiplier_on():
    best, free = optimum(STRESS, (LIMIT,)), optimum(STRESS, unlimited(STRESS))
    above = penalty_optimum(STRESS, LIMIT, best.multipliers[0] + 0.01)
    assert (above.return_, *above.costs) == pytest.approx((best.return_, *best.costs), abs=1e-9)
    below = penalty_optimum(STRESS, LIMIT, best.multipliers[0] - 0.1)
    assert below.costs[0] > LIMIT + 0.05 and below.return_ > best.return_
    nothing = penalty_optimum(STRESS, LIMIT, 0.0)
    assert (nothing.return_, *nothing.costs) == pytest.approx((free.return_, *free.costs), abs=1e-9)


def test_barrier_approaches_the_limit_from_inside():
    best = optimum(STRESS, (LIMIT,))
    costs = [barrier_optimum(STRESS, LIMIT, coefficient).costs[0] for coefficient in (1.0, 0.3, 0.1, 0.01)]
    assert all(low < high < LIMIT for low, high in itertools.pairwise(costs))
    near = barrier_optimum(STRESS, LIMIT, 1e-6)
    assert (near.return_, *near.costs) == pytest.approx((best.return_, *best.costs), abs=1e-4)


@pytest.mark.parametrize("coefficient", [0.3, 0.9, 1.0])
def test_penalty_and_barrier_optima_are_the_highest_points_of_their_curves(coefficient):
    grid = np.linspace(least_cost(STRESS), 12.0, 400)
    curve = np.array([optimum(STRESS, (b,)).return_ for b in grid])
    below = grid < LIMIT
    penalised = curve - coefficient * np.maximum(grid - LIMIT, 0)
    barred = curve[below] + coefficient * np.log(LIMIT - grid[below])
    penalty, barrier = penalty_optimum(STRESS, LIMIT, coefficient), barrier_optimum(STRESS, LIMIT, coefficient)
    for value, on_grid in (
        (penalty.return_ - coefficient * max(penalty.costs[0] - LIMIT, 0), penalised),
        (barrier.return_ + coefficient * math.log(LIMIT - barrier.costs[0]), barred),
    ):
        assert on_grid.max() - 1e-9 <= value <= on_grid.max() + 0.02


# --- linear-quadratic -------------------------------------------------------------------------------------------


def test_riccati_agrees_with_a_general_solver():
    env, limit = dataclasses.replace(CART, horizon=3, control=((0.1, 0.2), (0.4, -0.1))), 0.4
    shape = (3, 2, 3)

    def figures(flat):
        policy = flat.reshape(shape)
        return evaluate_linear(env, policy[..., :-1], policy[..., -1])

    found = scipy.optimize.minimize(
        lambda flat: -figures(flat)[0],
        np.zeros(shape).ravel(),
        method="SLSQP",
        constraints={"type": "ineq", "fun": lambda flat: limit - figures(flat)[1]},
        options={"maxiter": 500, "ftol": 1e-12},
    )
    best = optimum(env, (limit,))
    assert best.costs[0] == pytest.approx(limit, abs=1e-9) and best.multipliers[0] > 0.1
    assert -found.fun == pytest.approx(best.return_, abs=1e-5)
    policy = found.x.reshape(shape)
    np.testing.assert_allclose(policy[..., :-1], best.policy.gains, atol=2e-2)
    np.testing.assert_allclose(policy[..., -1], best.policy.offsets, atol=2e-2)


def test_multiplier_of_the_linear_quadratic_problem_is_the_slope_of_its_pareto_curve():
    env, (limit,) = CASES["linear_quadratic"]
    slope = (optimum(env, (limit + 1e-3,)).return_ - optimum(env, (limit - 1e-3,)).return_) / 2e-3
    assert slope == pytest.approx(optimum(env, (limit,)).multipliers[0], rel=1e-4)
    generous = optimum(env, (100.0,))
    assert generous.multipliers == (0.0,) and generous.return_ == optimum(env, unlimited(env)).return_


def test_no_other_linear_policy_does_better_on_the_lagrangian():
    random = np.random.default_rng(0)
    policy = lagrangian_policy(CART, 0.7)
    score = np.dot(evaluate_linear(CART, *policy), (1.0, -0.7))
    for _ in range(50):
        other = [x + 0.05 * random.normal(size=x.shape) for x in policy]
        assert np.dot(evaluate_linear(CART, *other), (1.0, -0.7)) < score
    assert np.dot(evaluate_linear(CART, *policy, 0.1), (1.0, -0.7)) < score


# --- simulation -------------------------------------------------------------------------------------------------


def _assert_mean(samples, exact):
    """The mean of `[N]` samples is within four standard errors of the exact value."""
    samples = np.asarray(samples, np.float64)
    assert abs(samples.mean() - exact) < 4 * samples.std() / math.sqrt(samples.size) + 1e-6


def _episodes(env, act):
    """Returns `[N]` and costs `[N, C]` of many episodes through the library's own loop."""
    count, horizon = EPISODES // 4, env.spec.episode_length

    @jax.jit
    def run(key):
        _, steps = rollout.unroll(env, act, rollout.init(env, key, count), key, 4 * horizon)
        rewards, costs = steps.reward.reshape(4, horizon, count), steps.costs.reshape(4, horizon, count, -1)
        return rewards.sum(1).ravel(), costs.sum(1).reshape(4 * count, -1)

    return run(jax.random.key(1))


@pytest.mark.parametrize(("env", "limits"), FINITE, ids=["one_cost", "two_costs"])
def test_simulated_finite_optimum_has_the_exact_return_and_costs(env, limits):
    best = optimum(env, limits)
    logits = jnp.log(jnp.asarray(best.policy.reshape(env.spec.observation_size, -1), jnp.float32))
    returns, costs = _episodes(
        env, lambda obs, key: (jax.random.categorical(key, logits[jnp.argmax(obs, -1)]).astype(jnp.int32), ())
    )
    _assert_mean(returns, best.return_)
    for index, exact in enumerate(best.costs):
        _assert_mean(costs[:, index], exact)


def test_without_noise_one_episode_has_the_exact_return_and_cost():
    env = dataclasses.replace(CART, noise_std=(0.0, 0.0), start_std=(0.0, 0.0))
    policy = lagrangian_policy(env, 0.7)
    state, step, return_, cost = env.reset(jax.random.key(0)), jax.jit(env.step), 0.0, 0.0
    for gain, offset in zip(*policy, strict=True):
        state = step(state, jnp.asarray(gain @ np.asarray(state.obs[:2]) + offset, jnp.float32))
        return_, cost = return_ + float(state.reward), cost + float(state.cost[0])
    assert (return_, cost) == pytest.approx(evaluate_linear(env, *policy), abs=1e-5)


@pytest.mark.parametrize("std", [0.0, 0.5])
def test_simulated_linear_policies_have_the_exact_return_and_cost(std):
    env, limits = CASES["linear_quadratic"]
    assert isinstance(env, LinearQuadratic)
    policy = optimum(env, limits).policy
    gains, offsets = (jnp.asarray(x, jnp.float32) for x in policy)

    def act(obs, key):
        time = jnp.argmax(obs[:, 2:], -1)
        mean = jnp.einsum("nij,nj->ni", gains[time], obs[:, :2]) + offsets[time]
        return mean + std * jax.random.normal(key, mean.shape), ()

    returns, costs = _episodes(env, act)
    return_, cost = evaluate_linear(env, *policy, std)
    _assert_mean(returns, return_)
    _assert_mean(costs[:, 0], cost)


def _with_memory(env, policy, start, spend):
    """Rewards, costs and memories after each step, `[H, N]`, of a policy that sees a memory."""
    width = max(len(m) for m in policy.memories)
    grid = jnp.asarray(np.stack([np.pad(m, (0, width - len(m)), constant_values=np.inf) for m in policy.memories]))
    actions = jnp.asarray(np.stack([np.pad(a, ((0, 0), (0, width - a.shape[1]))) for a in policy.actions]), jnp.int32)

    def episode(key):
        def step(carry, time):
            state, memory = carry
            slot = jnp.argmin(jnp.abs(grid[time] - memory))
            state = env.step(state, actions[time, state.data["state"], slot])
            memory = spend(memory, state.cost_sum)
            return (state, memory), (state.reward, state.cost_sum, memory)

        return jax.lax.scan(step, (env.reset(key), jnp.float32(start)), jnp.arange(env.horizon))[1]

    out = jax.jit(jax.vmap(episode, out_axes=1))(jax.random.split(jax.random.key(2), EPISODES))
    return (np.asarray(x, np.float64) for x in out)


@pytest.mark.parametrize(("env", "limit"), [(STRESS, 2.5), (STRESS_AND_FUEL, 4.5)], ids=["one_cost", "two_costs"])
def test_simulated_early_termination_has_the_exact_return_and_cost(env, limit):
    best = early_termination_optimum(env, limit)
    rewards, costs, spent = _with_memory(env, best.policy, 0.0, lambda m, c: m + c)
    running = np.concatenate([np.ones_like(spent[:1], bool), spent[:-1] <= limit])
    assert not running.all()
    _assert_mean(np.sum(rewards * (spent <= limit), 0), best.return_)
    _assert_mean(np.sum(costs * running, 0), sum(best.costs))
    assert sum(best.costs) == pytest.approx(best.cost_range[0])


@pytest.mark.parametrize("discount", [1.0, 0.97])
def test_simulated_saute_has_the_exact_objective_return_and_cost(discount):
    best = saute_optimum(STRESS, LIMIT, -1.0, discount)
    rewards, costs, left = _with_memory(STRESS, best.policy, 1.0, lambda z, c: (z - c / LIMIT) / discount)
    _assert_mean(np.sum(np.where(left > 0, rewards, -1.0), 0), best.objective)
    _assert_mean(np.sum(rewards, 0), best.return_)
    _assert_mean(np.sum(costs, 0), best.costs[0])


# --- refusals ---------------------------------------------------------------------------------------------------


def test_what_makes_no_sense_is_refused_by_name():
    with pytest.raises(ValueError, match="expected 1 limits, got 2"):
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

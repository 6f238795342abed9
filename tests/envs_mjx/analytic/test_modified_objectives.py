"""Optima of processes that end, spend a budget, or are penalised, against all policies and whole curves."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pytest

from envs_mjx.analytic import (
    STRESS,
    FiniteCMDP,
    barrier_optimum,
    early_termination_optimum,
    least_cost,
    optimum,
    penalty_optimum,
    saute_optimum,
)
from tests.support.analytic_cases import LIMIT, unlimited

TINY = FiniteCMDP(
    id="Tiny-v0",
    horizon=3,
    cost_names=("cost",),
    transition=(((0.7, 0.3), (0.2, 0.8)), ((0.9, 0.1), (0.4, 0.6))),
    reward=((0.1, 1.0), (-0.3, 1.7)),
    cost=(((0, 1), (1, 2)),),
    start=(1.0, 0.0),
)


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


def _assert_best(solution, results):
    best = results[results[:, 0] >= results[:, 0].max() - 1e-9]
    assert solution.objective == pytest.approx(best[0, 0], abs=1e-9)
    assert solution.return_range == pytest.approx((best[:, 1].min(), best[:, 1].max()), abs=1e-9)
    assert solution.cost_range == pytest.approx((best[:, 2].min(), best[:, 2].max()), abs=1e-9)
    thriftiest = best[np.argmin(best[:, 2])]
    assert solution.costs[0] == pytest.approx(thriftiest[2], abs=1e-9)
    assert solution.return_range[0] - 1e-9 <= solution.return_ <= solution.return_range[1] + 1e-9


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
    for solution in (early_termination_optimum(STRESS, 100.0), saute_optimum(STRESS, 100.5, -1.0)):
        assert solution.objective == pytest.approx(free.return_) and solution.return_ == pytest.approx(free.return_)
        assert solution.costs == pytest.approx(free.costs)


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
    unpenalised = penalty_optimum(STRESS, LIMIT, 0.0)
    assert (unpenalised.return_, *unpenalised.costs) == pytest.approx((free.return_, *free.costs), abs=1e-9)


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

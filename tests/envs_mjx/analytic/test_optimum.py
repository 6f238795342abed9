"""Constrained optima by linear program and by Riccati, checked by duality, slopes and a general solver."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
import scipy.optimize

from envs_mjx.analytic import CART, CASES, evaluate, evaluate_linear, lagrangian_policy, optimum, tables
from tests.support.analytic_cases import FINITE, unlimited

# --- linear program ---------------------------------------------------------------------------------------------


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
    solution = scipy.optimize.minimize(
        lambda m: _dual(env, limits, np.abs(m)),
        grid[int(np.argmin(values))],
        method="Nelder-Mead",
        options={"xatol": 1e-9, "fatol": 1e-12},
    )
    assert solution.fun == pytest.approx(best.return_, abs=1e-3)


@pytest.mark.parametrize(("env", "limits"), FINITE, ids=["one_cost", "two_costs"])
def test_the_policy_of_the_linear_program_earns_what_it_reports(env, limits):
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


# --- linear-quadratic -------------------------------------------------------------------------------------------


def test_riccati_agrees_with_a_general_solver():
    env, limit = dataclasses.replace(CART, horizon=3, control=((0.1, 0.2), (0.4, -0.1))), 0.4
    shape = (3, 2, 3)

    def figures(flat):
        policy = flat.reshape(shape)
        return evaluate_linear(env, policy[..., :-1], policy[..., -1])

    solution = scipy.optimize.minimize(
        lambda flat: -figures(flat)[0],
        np.zeros(shape).ravel(),
        method="SLSQP",
        constraints={"type": "ineq", "fun": lambda flat: limit - figures(flat)[1]},
        options={"maxiter": 500, "ftol": 1e-12},
    )
    best = optimum(env, (limit,))
    assert best.costs[0] == pytest.approx(limit, abs=1e-9) and best.multipliers[0] > 0.1
    assert -solution.fun == pytest.approx(best.return_, abs=1e-5)
    policy = solution.x.reshape(shape)
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

"""Trust-region steps against SciPy's general solver and the conditions of Kuhn and Tucker."""

import numpy as np
import pytest

from jsafe.trust_region import pcpo_step
from tests.support.trust_region_problems import (
    RADIUS,
    ball,
    best_by_slsqp,
    compare_with_slsqp,
    draw,
    each,
    excess,
    half_spaces,
    slsqp,
    solve_all,
)


def test_cpo_step_is_the_optimum_of_one_thousand_random_problems():
    rng = np.random.default_rng(0)
    counts = np.zeros(5, int)
    for n in range(2, 9):
        problems = draw(rng, 143, n, 1, flat=0.06)
        counts += compare_with_slsqp(problems, solve_all(problems))[0]
    assert counts.sum() > 1000 and np.all(counts >= 30)


@pytest.mark.parametrize("count", [2, 3])
def test_cpo_step_is_optimal_with_several_constraints(count):
    rng = np.random.default_rng(count)
    counts = np.zeros(5, int)
    for n, widest, highest in ((2, 1.2, 1.2), (8, 1.2, 1.2), (4, 3.0, -0.6)):  # in two dimensions, three are dependent
        problems = draw(rng, 90, n, count, widest=widest, highest=highest, flat=0.05)
        counts += compare_with_slsqp(problems, solve_all(problems))[0]
    assert np.all(counts[:4] >= 10)


def test_six_constraints_are_held_at_once():
    rng = np.random.default_rng(11)
    problems = draw(rng, 40, 8, 6, widest=0.5)
    counts, _ = compare_with_slsqp(problems, solve_all(problems))
    assert counts[1] >= 5


def test_multipliers_of_a_cpo_step_satisfy_the_conditions_of_kuhn_and_tucker():
    for count in (1, 3):
        gradient, costs, slack, fisher = problems = draw(np.random.default_rng(5), 200, 6, count, widest=0.9)
        solved = solve_all(problems)
        prices = solved.multiplier.reshape(200, count)
        feasible = solved.case > 0
        left = gradient - np.einsum("nk,nki->ni", prices, costs)
        right = solved.radius_multiplier[:, None] * np.einsum("nij,nj->ni", fisher, solved.step)
        np.testing.assert_allclose(left[feasible], right[feasible], atol=1e-7)
        assert np.all(prices >= 0.0) and np.any(prices[feasible] > 0.0)
        values = np.einsum("nki,ni->nk", costs, solved.step) + slack
        np.testing.assert_allclose((prices * values)[feasible], 0.0, atol=1e-8)
        recovery = -np.einsum("nk,nij,nkj->ni", prices, np.linalg.inv(fisher), costs)
        np.testing.assert_allclose(solved.step[~feasible], recovery[~feasible], atol=1e-8)


def test_library_dual_fails_wherever_the_constraint_matters():
    rng = np.random.default_rng(0)
    problems = draw(rng, 600, 4, 1, widest=1.1)
    paper, library = solve_all(problems), solve_all(problems, dual="library")
    assert np.array_equal(paper.case, library.case)
    optimal, total = np.zeros((2, 5), int), np.zeros(5, int)
    raised = negative = outside = 0
    pairs = zip(each(problems, paper), each(problems, library), strict=True)
    for (g, b, c, h, ours, case), (*_, theirs, _) in pairs:
        total[case] += 1
        if case in (1, 2):
            best = best_by_slsqp(g, b, c, h, rng)
        else:  # the objective is then to lower the cost, or unconstrained
            towards = np.linalg.solve(h, g if case == 3 else -b[0])
            best = (g if case == 3 else -b[0]) @ towards / np.sqrt(towards @ h @ towards)
        for row, y in enumerate((ours, theirs)):
            value = -b[0] @ y if case == 0 else g @ y
            feasible = excess(y, b, c, h) < 1e-5 or (case == 0 and np.sqrt(y @ h @ y) < 1 + 1e-5)
            optimal[row, case] += feasible and abs(value - best) < 1e-4
        raised += case == 1 and b[0] @ theirs > 0.0
        outside += case == 2 and np.sqrt(theirs @ h @ theirs) > 1.01
    negative = np.sum((library.case == 1) & (library.radius_multiplier < 0.0))
    print(f"total {total}, optimal: paper {optimal[0]}, library {optimal[1]}")
    print(f"library: case 1 cost raised {raised}, price below 0 {negative}; case 2 outside {outside}")
    assert np.array_equal(optimal[0], total)
    assert optimal[1, 1] == 0 and 0.05 < optimal[1, 2] / total[2] < 0.35
    assert raised > 0.7 * total[1] and negative > 0.3 * total[1] and outside > 0.3 * total[2]
    assert optimal[1, 0] == total[0] and optimal[1, 3] == total[3]


@pytest.mark.parametrize("projection", ["kl", "l2"])
def test_pcpo_step_is_the_whole_step_followed_by_the_nearest_feasible_point(projection):
    rng = np.random.default_rng(3)
    problems = draw(rng, 200, 5, 1, widest=2.5)
    solved = solve_all(problems, pcpo_step, projection=projection)
    moved, worst = 0, 0.0
    for g, b, c, h, y, _ in each(problems, solved):
        whole = slsqp(lambda v: -g @ v, lambda v: -g, np.linalg.solve(h, g) / 2, [ball(h)])  # noqa: B023
        m = h if projection == "kl" else np.eye(len(g))
        nearest = slsqp(
            lambda v: (v - whole) @ m @ (v - whole),  # noqa: B023
            lambda v: 2 * m @ (v - whole),  # noqa: B023
            whole,
            [half_spaces(b, c)],
        )
        gap = np.max(np.abs(y - nearest)) / max(1.0, np.max(np.abs(nearest)))
        worst, moved = max(worst, gap), moved + (np.max(np.abs(nearest - whole)) > 1e-6)
        assert gap < 2e-5
        assert b[0] @ y + c[0] < 1e-9
    print(f"{moved} of 200 projected, largest gap {worst:.1e}")
    assert 50 < moved < 150


def test_pcpo_of_the_libraries_follows_the_plain_gradient():
    gradient, costs, slack, fisher = problems = draw(np.random.default_rng(4), 50, 5, 1, widest=2.0)
    solved = solve_all(problems, pcpo_step, projection="library")
    inverse = np.linalg.inv(fisher)
    cost = costs[:, 0]
    q, r, s = (
        np.einsum("ni,nij,nj->n", a, inverse, b) for a, b in ((gradient, gradient), (gradient, cost), (cost, cost))
    )
    factor = np.sqrt(2 * RADIUS / (q + 1e-8))
    price = np.maximum(0.0, (factor * r + slack[:, 0]) / (s + 1e-8))
    expected = factor[:, None] * gradient - price[:, None] * np.einsum("nij,nj->ni", inverse, cost)
    np.testing.assert_allclose(solved.step, expected, atol=1e-7)
    np.testing.assert_allclose(solved.multiplier, price, atol=1e-7)

"""Trust-region steps against SciPy's general solver, products against dense Hessians, and degenerate input."""

from functools import cache, partial
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from scipy.optimize import minimize

from jsafe import trust_region
from jsafe.trust_region import conjugate_gradient, cpo_step, fisher_product, line_search, pcpo_step

RADIUS = 0.01
REACH = np.sqrt(2 * RADIUS)


# Problems. In y = x / REACH the region is y^T H y <= 1 and a constraint is b . y + c / REACH <= 0.


def draw(rng, number, n, count, *, widest=1.5, highest=None, flat=0.0):
    """Random problems g [N, n], B [N, K, n], c [N, K], H [N, n, n], violated by -`widest` to `highest` radii."""
    rotation = np.linalg.qr(rng.normal(size=(number, n, n)))[0]
    values = 10 ** rng.uniform(-1.5, 1.5, (number, n))
    fisher = np.einsum("nij,nj,nkj->nik", rotation, values, rotation)
    gradient, costs = rng.normal(size=(number, n)), rng.normal(size=(number, count, n))
    costs[rng.uniform(size=(number, count)) < flat] = 0.0
    size = np.sqrt(np.einsum("nki,nij,nkj->nk", costs, np.linalg.inv(fisher), costs))
    slack = (
        rng.uniform(-widest, widest if highest is None else highest, (number, count))
        * REACH
        * np.where(size == 0.0, -1.0, size)
    )
    slack = np.where(size == 0.0, -np.abs(slack), slack)
    return gradient, costs, slack, fisher


def solve_all(problems, step=cpo_step, double=True, **options):
    """Steps of all problems in one compiled call; a single constraint is passed without its axis."""
    gradient, costs, slack, fisher = problems
    if costs.shape[1] == 1:
        costs, slack = costs[:, 0], slack[:, 0]
    with jax.enable_x64(double):
        dtype = jnp.float64 if double else jnp.float32
        arrays = [jnp.asarray(a, dtype) for a in (gradient, costs, slack, fisher)]
        solved = jax.jit(jax.vmap(lambda g, b, c, h: step(g, b, c, h, RADIUS, **options)))(*arrays)
        return trust_region.Step(*map(np.asarray, solved))


def each(problems, solved):
    """Per problem: g, B, c / REACH, H, y, case; objectives and costs scaled to size 1 in the metric of H^-1."""
    for g, costs, c, h, x, case in zip(*problems, solved.step, solved.case, strict=True):
        size = np.sqrt(np.maximum(np.einsum("ki,ij,kj->k", costs, np.linalg.inv(h), costs), 1e-300))
        size = np.where(np.any(costs, -1), size, 1.0)
        g = g / np.sqrt(max(g @ np.linalg.solve(h, g), 1e-300))
        yield g, costs / size[:, None], c / size / REACH, h, np.float64(x) / REACH, case


def slsqp(objective, slope, start, constraints):
    options = {"maxiter": 300, "ftol": 1e-13}
    return minimize(objective, start, jac=slope, constraints=constraints, method="SLSQP", options=options).x


def ball(h):
    return {"type": "ineq", "fun": lambda y: 1.0 - y @ h @ y, "jac": lambda y: -2.0 * h @ y}


def half_spaces(b, c):
    return {"type": "ineq", "fun": lambda y: -(b @ y + c), "jac": lambda y: -b}


def excess(y, b, c, h):
    """How far a point is outside of the region and of the constraints, in radii."""
    return max(np.sqrt(y @ h @ y) - 1.0, np.max(b @ y + c, initial=-np.inf))


def best_by_slsqp(g, b, c, h, rng):
    """Best value that SLSQP reaches at a feasible point, from up to three starts, two of which must agree."""
    values = [-np.inf]
    towards = -np.linalg.solve(h, np.sum(b, axis=0))
    for start in (np.zeros(len(g)), towards / 2, np.linalg.solve(h, rng.normal(size=len(g))) / 10):
        y = slsqp(lambda y: -g @ y, lambda y: -g, start, [ball(h), half_spaces(b, c)])
        y = y / max(1.0, np.sqrt(y @ h @ y))
        if excess(y, b, c, h) < 1e-8:
            values.append(g @ y)
        if len(values) > 2 and abs(values[-1] - values[-2]) < 1e-9:
            break
    return max(values)


def least_violation(b, c, h):
    """The smallest t for which b . y + c <= t has a solution in the ball."""
    n, count = len(h), len(b)
    constraints = [
        {"type": "ineq", "fun": lambda v: 1.0 - v[:n] @ h @ v[:n], "jac": lambda v: np.append(-2.0 * h @ v[:n], 0.0)},
        {"type": "ineq", "fun": lambda v: v[n] - b @ v[:n] - c, "jac": lambda v: np.hstack([-b, np.ones((count, 1))])},
    ]
    unit = np.eye(n + 1)[n]
    return slsqp(lambda v: v[n], lambda v: unit, np.append(np.zeros(n), np.max(c)), constraints)[n]


def compare_with_slsqp(problems, solved):
    """Checks every step; returns the counts per case and the largest distance of the two objectives."""
    rng = np.random.default_rng(1)
    counts, worst = np.zeros(5, int), 0.0
    for g, b, c, h, y, case in each(problems, solved):
        counts[case] += 1
        assert np.all(np.isfinite(y))
        if case == 0:
            assert least_violation(b, c, h) > -1e-6
            assert np.sqrt(y @ h @ y) == pytest.approx(1.0, abs=1e-9)
            descent = -np.linalg.solve(h, np.sum(b[c > 0], axis=0))
            np.testing.assert_allclose(y, descent / np.sqrt(descent @ h @ descent), atol=1e-8)
            continue
        assert excess(y, b, c, h) < 1e-9
        best = best_by_slsqp(g, b, c, h, rng)
        assert g @ y == pytest.approx(best, abs=1e-6), (case, g @ y, best)
        worst = max(worst, abs(g @ y - best))
        none, cut = not np.any(b), np.any((c > -1.0) & np.any(b, -1))
        assert case == (1 if np.any(c > 0) else 4 if none else 2 if cut else 3)
    print(f"cases 0 to 4: {counts}, largest gap {worst:.1e}")
    return counts, worst


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


# Precision, batches, products.


def test_float32_steps_agree_with_float64():
    worst = np.zeros(2)
    for count in (1, 3):
        problems = draw(np.random.default_rng(6), 500, 6, count, widest=1.3, flat=0.05)
        double, single = solve_all(problems), solve_all(problems, double=False)
        assert single.step.dtype == np.float32
        assert np.mean(double.case == single.case) > 0.99
        pairs = zip(each(problems, double), each(problems, single), strict=True)
        for (g, b, c, h, exact, case), (*_, y, case32) in pairs:
            assert np.all(np.isfinite(y)) and np.sqrt(y @ h @ y) < 1 + 1e-4
            if case > 0 and case32 > 0:
                worst = np.maximum(worst, [abs(g @ (y - exact)), excess(y, b, c, h)])
    print(f"float32: objective {worst[0]:.1e}, excess {worst[1]:.1e}")
    assert np.all(worst < [2e-3, 1e-4])


def test_a_batch_of_problems_gives_what_each_gives_alone():
    problems = draw(np.random.default_rng(7), 12, 5, 2)
    batch = solve_all(problems, double=False)
    for i in range(12):
        alone = jax.jit(cpo_step)(*(jnp.asarray(a[i], jnp.float32) for a in problems), RADIUS)
        assert alone.case == batch.case[i] and alone.case.dtype == jnp.int32
        np.testing.assert_allclose(alone.step, batch.step[i], atol=2e-6)


def test_radii_may_differ_across_a_population():
    gradient, costs, slack, fisher = (a[0] for a in draw(np.random.default_rng(8), 1, 4, 1))
    radii = jnp.array([0.001, 0.01, 0.1])
    solved = jax.jit(jax.vmap(lambda radius: cpo_step(gradient, costs[0], -100.0, fisher, radius)))(radii)
    sizes = jnp.einsum("ni,ij,nj->n", solved.step, fisher, solved.step) / 2
    np.testing.assert_allclose(sizes, radii, rtol=1e-4)
    known = jnp.float32(0.01)  # an array whose value is known, inside a compiled function
    inside = jax.jit(lambda: cpo_step(gradient, costs[0], -100.0, fisher, known))()
    np.testing.assert_allclose(inside.step, solved.step[1], rtol=1e-4)


@pytest.mark.parametrize("step", [cpo_step, pcpo_step, partial(cpo_step, dual="library")])
def test_a_product_gives_the_step_of_its_matrix(step):
    problems = draw(np.random.default_rng(9), 60, 6, 1, widest=1.3)
    by_matrix = solve_all(problems, step)
    by_product = solve_all(
        problems, lambda g, b, c, h, radius: step(g, b, c, lambda v: h @ v, radius, cg_iterations=40)
    )
    assert np.array_equal(by_matrix.case, by_product.case)
    np.testing.assert_allclose(by_product.step, by_matrix.step, atol=1e-6)


@pytest.mark.parametrize("double", [True, False])
def test_rough_conjugate_gradients_still_respect_region_and_constraints(double):
    problems = draw(np.random.default_rng(10), 100, 20, 2, widest=0.4)
    solved = solve_all(
        problems, lambda g, b, c, h, radius: cpo_step(g, b, c, lambda v: h @ v, radius, cg_iterations=3), double
    )
    feasible = 0
    for _, b, c, h, y, case in each(problems, solved):
        assert np.sqrt(y @ h @ y) < 1 + 1e-4
        if case > 0:
            feasible += 1
            assert excess(y, b, c, h) < 1e-4
    assert feasible > 50


@pytest.mark.parametrize("count", [1, 2])
def test_nearly_parallel_gradients_of_many_parameters_in_float32(count):
    rng = np.random.default_rng(13)
    n, number = 200, 40
    rotation, values = np.linalg.qr(rng.normal(size=(n, n)))[0], 10 ** rng.uniform(-1.5, 1.5, n)
    h, cost = (rotation * values) @ rotation.T, rng.normal(size=n)
    tilts = np.repeat([0.0, 1e-6, 1e-5, 1e-4, 1e-3], number // 5)[:, None]
    gradient, other = (cost + tilts * rng.normal(size=(number, n)) for _ in range(2))
    costs = np.stack([np.broadcast_to(cost, other.shape), other], axis=1)[:, :count]
    p = np.linalg.solve(h, cost)
    length = np.sqrt(cost @ p)
    slack = rng.uniform(-0.9, 0.9, number) * REACH * length

    def step(g, b, c):
        return cpo_step(g, b, jnp.full(count, c), lambda v: jnp.float32(h) @ v, RADIUS, cg_iterations=200)

    solved = jax.jit(jax.vmap(step))(*(jnp.float32(a) for a in (gradient, costs, slack)))
    x = np.asarray(solved.step, np.float64)
    assert np.array_equal(solved.case, np.where(slack > 0, 1, 2))
    assert np.all(np.sqrt(np.sum(x @ h * x, -1)) < REACH * (1 + 1e-5))
    assert np.all(np.einsum("nki,ni->nk", costs, x) + slack[:, None] < 1e-5 * REACH * length)
    if count == 1:  # the best is -slack along the cost's direction, and the rest of the radius across it
        along = gradient @ p / length
        across = np.sqrt(np.maximum(np.sum(np.linalg.solve(h, gradient.T).T * gradient, -1) - along**2, 0.0))
        best = -slack / length * along + across * np.sqrt(2 * RADIUS - (slack / length) ** 2)
        gaps = (best - np.sum(gradient * x, -1)) / (REACH * length)
        print(f"nearly parallel: largest gap {np.max(np.abs(gaps)):.1e}")
        assert np.all(np.abs(gaps) < 1e-5)


# Degenerate input, all in float32.

H = np.diag([1.0, 4.0, 0.25]).astype(np.float32)
G, B = np.array([1.0, 2.0, -1.0], np.float32), np.array([0.5, -1.0, 1.0], np.float32)
ZERO = np.zeros(3, np.float32)
CUT = 0.3 * REACH * float(np.sqrt(B @ np.linalg.solve(H, B)))  # 0.3 radii away


compiled = cache(lambda step, mapped=False: jax.jit(jax.vmap(step, (0, 0, 0, None, None)) if mapped else step))


def take(g, b, c, step=cpo_step):
    solved = compiled(step)(jnp.asarray(g), jnp.asarray(b), jnp.asarray(c, jnp.float32), H, RADIUS)
    assert all(np.all(np.isfinite(leaf)) for leaf in solved)
    return np.asarray(solved.step), int(solved.case)


def size(x):
    return float(np.sqrt(x @ H @ x)) / REACH


def whole_step(g):
    x = np.linalg.solve(H, g)
    return x * REACH / np.sqrt(x @ H @ x)


def test_without_a_cost_gradient_the_step_is_plain_while_the_constraint_holds():
    for slack in (-1.0, 0.0):
        x, case = take(G, ZERO, slack)
        assert case == 4
        np.testing.assert_allclose(x, whole_step(G), rtol=1e-5)
    x, case = take(G, np.stack([ZERO, ZERO]), [-1.0, 0.0])
    assert case == 4
    np.testing.assert_allclose(x, whole_step(G), rtol=1e-5)


def test_a_violated_constraint_without_gradient_stops_the_policy():
    x, case = take(G, ZERO, 1.0)
    assert case == 0 and not np.any(x)
    # Beside another violated constraint, that one is repaired.
    x, case = take(G, np.stack([ZERO, B]), [1.0, CUT])
    assert case == 0
    np.testing.assert_allclose(x, whole_step(-B), rtol=1e-5)


def test_without_an_objective_the_step_is_the_nearest_feasible_point():
    x, case = take(ZERO, B, -CUT)
    assert case == 2 and not np.any(x)
    x, case = take(ZERO, B, CUT)
    p = np.linalg.solve(H, B)
    assert case == 1
    np.testing.assert_allclose(x, -CUT * p / (B @ p), rtol=1e-5)
    x, case = take(ZERO, np.stack([-B, B]), [CUT, -2 * CUT])  # a slab: its near side, not its far one
    assert case == 1
    np.testing.assert_allclose(x, CUT * p / (B @ p), rtol=1e-5)
    x, case = take(ZERO, ZERO, -1.0)
    assert case == 4 and not np.any(x)
    x, case = take(ZERO, ZERO, 1.0)
    assert case == 0 and not np.any(x)


@pytest.mark.parametrize("slack", [-CUT, CUT])
@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("tilt", [0.0, 1e-7, 1e-5, 1e-3])
def test_an_objective_parallel_to_the_cost_stops_at_the_constraint(slack, sign, tilt):
    x, case = take(sign * 3.0 * B + tilt * G, B, slack)
    assert case == (1 if slack > 0 else 2)
    assert size(x) < 1 + 1e-5 and B @ x + slack < 1e-6
    best = -slack if sign > 0 else REACH * np.sqrt(B @ np.linalg.solve(H, B))
    assert sign * (B @ x) == pytest.approx(best, abs=2e-4 + tilt)


def test_case_one_ends_where_the_constraint_leaves_the_region():
    touch = CUT / 0.3
    for factor, expected in ((0.999, 1), (1.001, 0)):
        x, case = take(G, B, factor * touch)
        assert case == expected
        np.testing.assert_allclose(x, whole_step(-B), atol=0.06 * REACH)
    x, case = take(G, B, touch)
    assert size(x) == pytest.approx(1.0, abs=1e-5)


def test_constraints_may_be_repeated():
    for slack in (-CUT, CUT):
        once, case = take(G + 4 * B, B, slack)
        twice, case_twice = take(G + 4 * B, np.stack([B, 2 * B]), [slack, 2 * slack])
        assert case == case_twice
        np.testing.assert_allclose(once, twice, atol=1e-6)


def test_contradicting_constraints_are_case_zero():
    for almost in (B, (1 + 1e-6) * B + 1e-6 * G):
        x, case = take(G, np.stack([B, -almost]), [CUT, CUT])
        assert case == 0 and not np.any(x)  # the two recoveries cancel
    x, case = take(G, np.stack([B, -B]), [CUT, -1.2 * CUT])
    assert case == 1 and size(x) == pytest.approx(1.0, abs=1e-5)  # a slab is left between them


def test_six_constraints_are_held_at_once():
    rng = np.random.default_rng(11)
    problems = draw(rng, 40, 8, 6, widest=0.5)
    counts, _ = compare_with_slsqp(problems, solve_all(problems))
    assert counts[1] >= 5


@pytest.mark.parametrize("scale", [1e-25, 1e-12, 1e12, 1e25])
def test_the_unit_of_a_cost_or_of_the_objective_does_not_matter(scale):
    for slack in (-CUT, CUT, 10 * CUT):
        expected, case = take(G, B, slack)
        for g, b, c in ((G * scale, B, slack), (G, B * scale, slack * scale)):
            x, other = take(np.float32(g), np.float32(b), c)
            assert other == case
            np.testing.assert_allclose(x, expected, atol=1e-6)


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize(
    "step",
    [cpo_step, partial(cpo_step, dual="library"), *(partial(pcpo_step, projection=p) for p in ("kl", "l2", "library"))],
)
def test_no_combination_of_zeros_and_extremes_gives_nan(step, count):
    if count == 2 and step is not cpo_step:
        return
    gradients = [ZERO, G, B, -B, 1e-20 * G]
    costs = [ZERO, B, 1e-15 * B, 1e-30 * G]
    slacks = [-1e6, -CUT, -1e-8, 0.0, CUT, 1e6]
    b, c = (np.array(a, np.float32) for a in zip(*product(costs, slacks), strict=True))
    pairs = np.array(list(product(range(len(c)), repeat=count)))
    b, c = (b[pairs], c[pairs]) if count == 2 else (b, c)
    g = np.repeat(np.array(gradients, np.float32), len(c), axis=0)
    b, c = np.tile(b, (5,) + (1,) * (b.ndim - 1)), np.tile(c, (5,) + (1,) * (c.ndim - 1))
    solved = compiled(step, mapped=True)(g, b, c, H, RADIUS)
    assert all(np.all(np.isfinite(leaf)) for leaf in solved)


def test_pcpo_without_gradients_does_nothing_or_only_projects():
    x, _ = take(ZERO, B, CUT, pcpo_step)
    p = np.linalg.solve(H, B)
    np.testing.assert_allclose(x, -CUT * p / (B @ p), rtol=1e-5)
    for slack in (-1.0, 1.0):
        x, case = take(G, ZERO, slack, pcpo_step)
        np.testing.assert_allclose(x, whole_step(G), rtol=1e-5)
        assert case == (4 if slack < 0 else 0)


def test_wrong_arguments_are_named():
    wrong = [
        ("slack", lambda: cpo_step(G, B, [0.1, 0.2], H, RADIUS)),
        ("slack", lambda: cpo_step(G, B[None], 0.1, H, RADIUS)),
        ("gradient", lambda: cpo_step(G, B[:2], 0.1, H, RADIUS)),
        ("fisher", lambda: cpo_step(G, B, 0.1, H[:2], RADIUS)),
        ("radius", lambda: cpo_step(G, B, 0.1, H, 0.0)),
        ("radius", lambda: pcpo_step(G, B, 0.1, H, jnp.float32(-1.0))),
        ("dual", lambda: cpo_step(G, B, 0.1, H, RADIUS, dual="primal")),
        ("1 to 1 constraints", lambda: cpo_step(G, np.stack([B, B]), [0.1, 0.1], H, RADIUS, dual="library")),
        ("1 to 6 constraints", lambda: cpo_step(G, np.tile(B, (7, 1)), np.ones(7), H, RADIUS)),
        ("projection", lambda: pcpo_step(G, B, 0.1, H, RADIUS, projection="entropy")),
        ("1 to 1 constraints", lambda: pcpo_step(G, np.stack([B, B]), [0.1, 0.1], H, RADIUS)),
        ("must be flat", lambda: conjugate_gradient(lambda v: v, jnp.ones((2, 2)))),
        ("iterations", lambda: conjugate_gradient(lambda v: v, G, iterations=0)),
        ("tries", lambda: line_search(lambda p: p, 0.0, 1.0, lambda m: m > 0, tries=0)),
        ("shrink", lambda: line_search(lambda p: p, 0.0, 1.0, lambda m: m > 0, tries=1, shrink=1.0)),
    ]
    for name, call in wrong:
        with pytest.raises(ValueError, match=name):
            call()


# Fisher products and conjugate gradients.


def network(params, obs):
    return jnp.tanh(obs @ params["w"] + params["b"]) @ params["v"]


def gaussian_kl(old, new):
    (mean, log_std), (new_mean, new_log_std) = old, new
    ratio, distance = jnp.exp(2 * (log_std - new_log_std)), (mean - new_mean) / jnp.exp(new_log_std)
    return jnp.mean(jnp.sum(new_log_std - log_std + 0.5 * (ratio + distance**2 - 1), -1))


def categorical_kl(old, new):
    p, q = jax.nn.log_softmax(old), jax.nn.log_softmax(new)
    return jnp.mean(jnp.sum(jnp.exp(p) * (p - q), -1))


@pytest.mark.parametrize("family", ["gaussian", "categorical"])
def test_fisher_product_is_the_hessian_of_the_divergence(family):
    with jax.enable_x64(True):
        keys = jax.random.split(jax.random.key(0), 5)
        shapes = {"w": (3, 5), "b": (5,), "v": (5, 2), "log_std": (2,)}
        params = {n: 0.7 * jax.random.normal(k, s) for k, (n, s) in zip(keys, shapes.items(), strict=False)}
        obs = jax.random.normal(keys[4], (16, 3))
        if family == "gaussian":
            outputs, kl = lambda p: (network(p, obs), p["log_std"]), gaussian_kl
        else:
            outputs, kl = lambda p: network(p, obs), categorical_kl
        flat, unravel = ravel_pytree(params)
        assert flat.dtype == jnp.float64
        hessian = jax.jit(jax.hessian(lambda new: kl(outputs(params), outputs(unravel(new)))))(flat)
        assert np.linalg.norm(hessian) > 0.1
        by_flat = jax.jit(jax.vmap(fisher_product(lambda f: outputs(unravel(f)), kl, flat, damping=0.3)))
        expected = hessian + 0.3 * jnp.eye(len(flat))
        np.testing.assert_allclose(by_flat(jnp.eye(len(flat))), expected, atol=1e-12)
        by_tree = fisher_product(outputs, kl, params, damping=0.3)
        tree = jax.tree.map(lambda x: jnp.cos(jnp.arange(x.size)).reshape(x.shape), params)
        np.testing.assert_allclose(ravel_pytree(by_tree(tree))[0], expected @ ravel_pytree(tree)[0], atol=1e-12)


def test_conjugate_gradient_solves_positive_definite_systems():
    rng = np.random.default_rng(12)
    a = rng.normal(size=(30, 8, 8))
    a = a @ a.transpose(0, 2, 1) + np.eye(8)
    b = rng.normal(size=(30, 8)) * 10.0 ** rng.uniform(-12, 12, (30, 1))
    b[::7] = 0.0
    exact = np.linalg.solve(a, b[..., None])[..., 0]
    for double, tolerance in ((True, 1e-9), (False, 1e-4)):
        with jax.enable_x64(double):
            # Four times as many iterations as dimensions: past convergence nothing may divide by a vanished residual.
            solve = jax.jit(jax.vmap(lambda m, v: conjugate_gradient(partial(jnp.matmul, m), v, iterations=32)))
            x = np.asarray(solve(jnp.asarray(a, float), jnp.asarray(b, float)))
        scale = np.max(np.abs(exact), -1, keepdims=True)
        assert np.all(np.abs(x - exact) <= tolerance * scale)
        assert not np.any(x[::7])


def test_conjugate_gradient_is_exact_after_one_product_where_b_is_an_eigenvector():
    x = conjugate_gradient(lambda v: jnp.float32(2.0) * v, jnp.array([3.0, -4.0], jnp.float32), iterations=15)
    np.testing.assert_allclose(x, [1.5, -2.0], rtol=1e-6)
    assert np.all(np.isfinite(conjugate_gradient(jnp.zeros_like, jnp.ones(3))))  # no curvature at all


# Line search.


def measure(params):
    distance = params["a"] + jnp.sum(params["b"])
    return {"loss": (distance - 1.0) ** 2, "kl": distance**2}


START = {"a": jnp.zeros(()), "b": jnp.zeros(2)}
STEP = {"a": jnp.float32(2.0), "b": jnp.ones(2)}  # distance 4


def test_line_search_takes_the_first_acceptable_try():
    search = jax.jit(lambda limit: line_search(measure, START, STEP, lambda m: m["kl"] <= limit, tries=10, shrink=0.5))
    found = search(4.1)  # distances 4, 2, 1: squares 16, 4, 1
    assert bool(found.accepted) and float(found.factor) == 0.5
    assert float(found.params["a"]) == 1.0 and np.array_equal(found.params["b"], [0.5, 0.5])
    assert float(found.measured["kl"]) == 4.0 and float(found.measured["loss"]) == 1.0
    many = jax.vmap(search)(jnp.array([20.0, 4.1, 1.1, 0.0]))
    assert np.array_equal(many.factor, [1.0, 0.5, 0.25, 0.0]) and np.array_equal(many.accepted, [1, 1, 1, 0])


def test_line_search_stays_where_nothing_is_acceptable():
    for tries, limit in ((3, 0.9), (1, 15.0)):  # the fourth, or the second try, would have passed
        found = line_search(measure, START, STEP, lambda m, limit=limit: m["kl"] <= limit, tries=tries, shrink=0.5)
        assert not found.accepted and float(found.factor) == 0.0
        assert float(found.params["a"]) == 0.0 and not np.any(found.params["b"])
        assert float(found.measured["kl"]) == 0.0 and float(found.measured["loss"]) == 1.0


def test_line_search_never_accepts_what_is_not_finite():
    def broken_far_away(params):
        return {**measure(params), "cost": jnp.where(params["a"] > 0.6, jnp.nan, 0.0)}

    found = line_search(broken_far_away, START, STEP, lambda m: jnp.ones((), bool), tries=10, shrink=0.5)
    assert float(found.factor) == 0.25 and float(found.measured["cost"]) == 0.0
    for bad in (jnp.nan, jnp.inf):
        step = {**STEP, "a": jnp.float32(bad)}
        found = line_search(lambda p: jnp.sum(p["b"]), START, step, lambda m: jnp.ones((), bool), tries=3)
        assert not found.accepted and float(found.params["a"]) == 0.0 and not np.any(found.params["b"])

"""Random trust-region problems, and the best step of each by SciPy's general solver."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize

from jsafe import trust_region
from jsafe.trust_region import cpo_step

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
    """Return the distance of a point from the region and the constraints, in radii."""
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

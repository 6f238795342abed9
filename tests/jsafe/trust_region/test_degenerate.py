"""Trust-region steps of degenerate problems, all in float32, and wrong arguments."""

from functools import cache, partial
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jsafe.trust_region import conjugate_gradient, cpo_step, line_search, pcpo_step
from tests.support.trust_region_problems import RADIUS, REACH

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
    # Next to another violated constraint, that one is repaired.
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


@pytest.mark.parametrize("step", [cpo_step, pcpo_step, partial(cpo_step, dual="library")])
@pytest.mark.parametrize("which", range(3))
@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf])
def test_input_that_is_not_finite_gives_a_step_of_nan_and_no_plausible_one(step, which, bad):
    problem = [jnp.array([1.0, 2.0, 3.0]), jnp.array([1.0, 0.0, -1.0]), jnp.array(0.01)]
    problem[which] = problem[which].at[0].set(bad) if which < 2 else jnp.array(bad)
    assert np.isnan(step(*problem, H, RADIUS).step).all()


def test_wrong_arguments_are_named():
    wrong = [
        ("slack", lambda: cpo_step(G, B, [0.1, 0.2], H, RADIUS)),
        ("slack", lambda: cpo_step(G, B[None], 0.1, H, RADIUS)),
        ("gradient", lambda: cpo_step(G, B[:2], 0.1, H, RADIUS)),
        ("fisher", lambda: cpo_step(G, B, 0.1, H[:2], RADIUS)),
        ("radius", lambda: cpo_step(G, B, 0.1, H, 0.0)),
        ("radius", lambda: pcpo_step(G, B, 0.1, H, jnp.float32(-1.0))),
        ("dual", lambda: cpo_step(G, B, 0.1, H, RADIUS, dual="primal")),
        ("holds one constraint", lambda: cpo_step(G, np.stack([B, B]), [0.1, 0.1], H, RADIUS, dual="library")),
        ("1 to 6 constraints", lambda: cpo_step(G, np.tile(B, (7, 1)), np.ones(7), H, RADIUS)),
        ("projection", lambda: pcpo_step(G, B, 0.1, H, RADIUS, projection="entropy")),
        ("holds one constraint", lambda: pcpo_step(G, np.stack([B, B]), [0.1, 0.1], H, RADIUS)),
        ("must be flat", lambda: conjugate_gradient(lambda v: v, jnp.ones((2, 2)))),
        ("iterations", lambda: conjugate_gradient(lambda v: v, G, iterations=0)),
        ("tries", lambda: line_search(lambda p: p, 0.0, 1.0, lambda m: m > 0, tries=0)),
        ("shrink", lambda: line_search(lambda p: p, 0.0, 1.0, lambda m: m > 0, tries=1, shrink=1.0)),
    ]
    for name, call in wrong:
        with pytest.raises(ValueError, match=name):
            call()

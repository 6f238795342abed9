"""The same trust-region step in float32, in a batch, and by products instead of a matrix."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jsafe.trust_region import cpo_step, pcpo_step
from tests.support.trust_region_problems import RADIUS, REACH, draw, each, excess, solve_all


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

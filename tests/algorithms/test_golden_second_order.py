"""One update of every second-order algorithm, against trust-region steps by NumPy."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize

from algorithms.on_policy.catalogue import CATALOGUE
from jsafe import trust_region
from tests.support.golden_cases import assert_moved, assert_states, options, update, weights_of
from tests.support.numpy_reference import (
    ACTIONS,
    EPISODE_COST,
    LENGTH,
    LIMITS,
    PARAMETERS,
    RADIUS,
    START,
    Data,
    draw,
    fisher,
    kl,
    learn_values,
    multiplier_of,
    ratio,
    ratio_gradient,
    warm_states,
)

# --- trust regions ---------------------------------------------------------------------------------------------------


class Region(NamedTuple):
    """Gradients and curvature at START, where the acting policy is the present one."""

    data: Data
    advantage: np.ndarray
    g: np.ndarray
    b: np.ndarray  # [C, 10]
    h: np.ndarray
    per_dimension: bool

    def measure(self, theta):
        rho = ratio(theta, self.data)
        distance = np.mean(kl(START, theta, self.data.obs)) / (ACTIONS if self.per_dimension else 1)
        return np.mean(rho * self.advantage), np.mean(rho[:, None] * self.data.costs, axis=0), distance

    def search(self, step, accept, tries):
        """The first of step, 0.8 step, 0.64 step, ... that is accepted; else none."""
        for i in range(tries):
            with np.errstate(over="ignore", invalid="ignore"):
                reached = self.measure(START + 0.8**i * step)
            if np.all(np.isfinite(np.hstack(reached))) and accept(*reached):
                return START + 0.8**i * step, 0.8**i
        return START, 0.0


def region(data, advantage, preset):
    per_dimension = preset == "omnisafe"
    b = np.array([ratio_gradient(START, data, cost) for cost in data.costs.T]).reshape(-1, PARAMETERS)
    h = fisher(START, data.obs, per_dimension)
    return Region(data, advantage, ratio_gradient(START, data, advantage), b, h, per_dimension)


def natural(place, radius):
    x = np.linalg.solve(place.h, place.g)
    return x * np.sqrt(2.0 * radius / (x @ place.h @ x))


def assert_second_order(result, theta, factor, data, states):
    size = max(np.abs(theta - START).max(), 1e-3)
    assert result.metrics["step_factor"] == pytest.approx(factor, rel=1e-5)
    np.testing.assert_allclose(result.policy, theta, rtol=0, atol=3e-4 * size)
    values, value_states = learn_values(data, states, 2, 1e-3)
    assert_states(result.states, value_states)
    for one, other in zip(result.values, values, strict=True):
        assert_moved(one, other, 1e-3)


SECOND_ORDER = ("natural_pg", "trpo", "trpo_lag", "rcpo", "trpo_pid", "crpo")


@pytest.mark.parametrize("preset", ["omnisafe", "paper"])
@pytest.mark.parametrize("name", SECOND_ORDER)
def test_natural_steps_reach_the_boundary_and_are_shortened_where_they_are_checked(name, preset):
    count = 1 if CATALOGUE[name].constraint else 0
    data = draw(START, count)
    by_hand, combine, episodes = multiplier_of(name, preset)
    checked = name not in ("natural_pg", "rcpo")
    factors = set()
    # Where every advantage is good on the whole, far away all ratios vanish and with them the surrogate.
    far = data._replace(reward=data.reward + 3.0, costs=data.costs - 3.0)
    for end in [1, len(episodes)] if name == "crpo" else [len(episodes)]:  # for the reward, and for the cost
        weights = by_hand(episodes[:end, :count], np.array(LIMITS[:count]))[-1] if count else np.zeros(0)
        library_weights = weights_of(name, preset, episodes[:end], count)[-1] if count else []
        for now, radius in ((data, RADIUS), (data, 0.7), *([(far, 1e3), (far, 1e4)] if checked else [])):
            place = region(now, combine(now.reward, now.costs, weights), preset)
            step, start, factor = natural(place, radius), place.measure(START)[0], 1.0
            theta = START + step
            if checked:
                accept = lambda gain, _, away, start=start, radius=radius: gain >= start and away <= radius  # noqa: E731
                theta, factor = place.search(step, accept, tries=15)
            factors.add(factor)
            states = warm_states(count)[1:]
            changes = {} if radius == RADIUS else {"trust_region_radius": radius}
            cost = EPISODE_COST.get(count, [])
            result = update(name, preset, now, states, episode_cost=cost, weights=library_weights, **changes)
            assert_second_order(result, theta, factor, now, states)
    if checked:
        assert {0.0, 1.0} < factors


def test_searches_try_as_often_as_published():
    tries = {"trpo": 15, "trpo_lag": 15, "trpo_pid": 15, "crpo": 15, "cpo": 20, "pcpo": 200}
    assert {name: options(name, "omnisafe").line_search_tries for name in tries} == tries
    assert {options(name, preset).line_search_shrink for name in tries for preset in ("omnisafe", "paper")} == {0.8}


# --- CPO and PCPO ----------------------------------------------------------------------------------------------------


def clamp(value, low, high):
    """As torch.clamp: the upper end for an empty interval."""
    return min(max(value, low), high)


def library_cpo(g, b, c, h):
    """OmniSafe's dual as it stands, wrong sign of r included: step, case, price of the cost."""
    x, p = np.linalg.solve(h, g), np.linalg.solve(h, b)
    q, r, s = x @ h @ x, g @ p, b @ p
    e, bound = 1e-8, 2.0 * RADIUS
    if b @ b <= 1e-6 and c < 0:
        return x * np.sqrt(bound / (q + e)), 4, 0.0
    a_term, b_term = q - r**2 / (s + e), bound - c**2 / (s + e)
    case = (3 if b_term < 0 else 2) if c < 0 else (1 if b_term >= 0 else 0)
    if case == 3:
        return x * np.sqrt(bound / (q + e)), 3, 0.0
    if case == 0:
        price = np.sqrt(bound / (s + e))
        return -price * p, 0, price
    k, l_a, l_b = r / (c + e), np.sqrt(a_term / b_term), np.sqrt(q / bound)
    l_a = clamp(l_a, 0.0, k) if c < 0 else clamp(l_a, k, np.inf)
    l_b = clamp(l_b, k, np.inf) if c < 0 else clamp(l_b, 0.0, k)
    f_a = -0.5 * (a_term / (l_a + e) + b_term * l_a) - r * c / (s + e)
    f_b = -0.5 * (q / (l_b + e) + bound * l_b)
    best = l_a if f_a >= f_b else l_b
    price = max(0.0, best * c - r) / (s + e)
    return (x - price * p) / (best + e), case, price


def paper_cpo(g, b, c, h):
    """The dual of the paper, where the gradient is that of a loss, -g, and empty intervals give their lower end."""
    x, p = np.linalg.solve(h, g), np.linalg.solve(h, b)
    q, r, s, bound = g @ x, -g @ p, b @ p, 2.0 * RADIUS
    if s == 0.0:
        return x * np.sqrt(bound / q), 4, 0.0
    a_term, b_term = q - r**2 / s, bound - c**2 / s
    if c < 0 and b_term < 0:
        return x * np.sqrt(bound / q), 3, 0.0
    if b_term < 0:
        return -np.sqrt(bound / s) * p, 0, np.sqrt(bound / s)
    k = r / c
    (low_a, high_a), (low_b, high_b) = ((0.0, k), (k, np.inf)) if c < 0 else ((k, np.inf), (0.0, k))
    l_a = max(low_a, 0.0, min(high_a, np.sqrt(a_term / b_term)))
    l_b = max(low_b, 0.0, min(high_b, np.sqrt(q / bound)))
    f_a = -0.5 * (a_term / l_a + b_term * l_a) - r * c / s if l_a > 0 else -np.inf
    f_b = -0.5 * (q / l_b + bound * l_b) if l_b > 0 else -np.inf
    best = l_a if f_a >= f_b else l_b
    price = max(0.0, best * c - r) / s
    return (x - price * p) / best, 2 if c < 0 else 1, price


def by_slsqp(g, b, c, h):
    """max g . x with b x + c <= 0 and x^T h x / 2 <= RADIUS, in y = L^T x / sqrt(2 RADIUS), h = L L^T: |y| <= 1."""
    to_x = np.sqrt(2.0 * RADIUS) * np.linalg.inv(np.linalg.cholesky(h)).T
    goal, walls = g @ to_x, b @ to_x
    goal, sizes = goal / np.linalg.norm(goal), np.linalg.norm(walls, axis=1)
    walls, c = walls / sizes[:, None], c / sizes
    solved = minimize(
        lambda y: -goal @ y,
        -0.3 * walls.sum(0),
        jac=lambda y: -goal,
        constraints=[
            {"type": "ineq", "fun": lambda y: 1.0 - y @ y, "jac": lambda y: -2.0 * y},
            {"type": "ineq", "fun": lambda y: -(walls @ y + c), "jac": lambda y: -walls},
        ],
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 300},
    )
    return to_x @ solved.x


def constrained(name, preset, data, slack):
    """An update by the library whose violation is `slack` in the unit of the preset."""
    factor = 1.0 if preset == "omnisafe" else LENGTH
    count = data.costs.shape[1]
    cost = np.array(LIMITS[:count]) + factor * np.asarray(slack)
    states = warm_states(count)[1:]
    return update(name, preset, data, states, episode_cost=cost, weights=np.zeros(count)), states


def signed(data, sign, scale=1.0):
    """The cost's advantage leans on the reward's, so that their gradients agree or oppose."""
    costs = scale * (data.costs + sign * 1.2 * data.reward[:, None])
    return data._replace(costs=costs - costs.mean(0))


def accepts_cpo(place, slack, improving):
    gain0, costs0, _ = place.measure(START)

    def accept(gain, costs, distance):
        held = np.all(costs - costs0 <= np.maximum(-np.asarray(slack), 0.0))
        return held and distance <= RADIUS and (gain >= gain0 or not improving)

    return accept


# In radii: how far the constraint's boundary is from the present policy, and the case this makes.
DISTANCES = {-1.5: 3, -0.9: 2, -0.5: 2, -0.1: 2, 0.1: 1, 0.5: 1, 0.9: 1, 1.5: 0}


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("preset", ["omnisafe", "paper"])
def test_cpo_takes_the_step_of_its_dual_in_all_five_cases(preset, sign):
    data = signed(draw(START, 1), sign)
    solve = library_cpo if preset == "omnisafe" else paper_cpo
    cases, factors = set(), set()
    for distance, case in [*DISTANCES.items(), (-1.5, 4)]:
        # Without a cost's gradient, or with next to none in the library.
        now = signed(draw(START, 1), sign, scale=1e-4 if preset == "omnisafe" else 0.0) if case == 4 else data
        place = region(now, now.reward, preset)
        g, b, h = place.g, place.b[0], place.h
        size = np.sqrt(2.0 * RADIUS * b @ np.linalg.solve(h, b))
        slack = distance * size if size > 0 else -0.01
        step, expected_case, price = solve(g, b, slack, h)
        assert expected_case == case
        if preset == "paper" and case in (1, 2):
            np.testing.assert_allclose(step, by_slsqp(g, b[None], np.array([slack]), h), atol=1e-5 * size + 1e-6)
        theta, factor = place.search(step, accepts_cpo(place, [slack], improving=case > 1), tries=20)
        result, states = constrained("cpo", preset, now, [slack])
        assert result.metrics["case"] == case
        assert result.metrics["dual_multiplier"] == pytest.approx(price, rel=1e-3, abs=1e-4)
        assert_second_order(result, theta, factor, now, states)
        cases.add(case)
        factors.add(round(factor, 6))
    assert cases == {0, 1, 2, 3, 4} and 1.0 in factors
    if preset == "omnisafe":
        assert len(factors) > 1  # some steps of the wrong dual are shortened or refused


def test_the_library_dual_is_that_of_omnisafe_where_the_line_search_would_refuse_its_step():
    for sign in (1.0, -1.0):
        data = signed(draw(START, 1), sign)
        place = region(data, data.reward, "omnisafe")
        g, b, h = place.g, place.b[0], place.h
        slacks = np.array(list(DISTANCES)) * np.sqrt(2.0 * RADIUS * b @ np.linalg.solve(h, b))
        with jax.enable_x64(True):
            solve = functools.partial(trust_region.cpo_step, dual="library")
            solved = jax.jit(jax.vmap(solve, (None, None, 0, None, None)))(g, b, jnp.asarray(slacks), h, RADIUS)
            result = trust_region.Step(*map(np.asarray, solved))
        for i, slack in enumerate(slacks):
            step, case, price = library_cpo(g, b, slack, h)
            assert result.case[i] == case
            np.testing.assert_allclose(result.step[i], step, rtol=1e-6)
            np.testing.assert_allclose(result.multiplier[i], price, rtol=1e-5, atol=1e-14)


def test_cpo_with_two_constraints_takes_the_best_feasible_step():
    data = draw(START, 2)
    place = region(data, data.reward, "paper")
    sizes = np.sqrt(2.0 * RADIUS * np.einsum("ki,ik->k", place.b, np.linalg.solve(place.h, place.b.T)))
    for distances, case in (([0.3, -0.2], 1), ([0.2, 0.3], 1), ([-0.1, -0.4], 2), ([-0.4, -0.1], 2)):
        slack = np.array(distances) * sizes
        step = by_slsqp(place.g, place.b, slack, place.h)
        assert np.all(place.b @ step + slack < 1e-7)
        theta, factor = place.search(step, accepts_cpo(place, slack, improving=case > 1), tries=20)
        result, states = constrained("cpo", "paper", data, slack)
        assert result.metrics["case"] == case
        assert_second_order(result, theta, factor, data, states)


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("preset", ["omnisafe", "paper"])
def test_pcpo_takes_the_reward_step_and_projects_it(preset, sign):
    data = signed(draw(START, 1), sign)
    place = region(data, data.reward, preset)
    g, b, h = place.g, place.b[0], place.h
    x, p = np.linalg.solve(h, g), np.linalg.solve(h, b)
    q, r, s = g @ x, g @ p, b @ p
    length = np.sqrt(2.0 * RADIUS / q)
    prices, factors = [], set()
    for distance in DISTANCES:
        slack = distance * np.sqrt(2.0 * RADIUS * s)
        price = max(0.0, (length * r + slack) / s)
        # OmniSafe multiplies x by the Fisher matrix once more, which gives the plain gradient.
        step = length * (h @ x if preset == "omnisafe" else x) - price * p
        theta, factor = place.search(step, accepts_cpo(place, [slack], improving=False), tries=200)
        result, states = constrained("pcpo", preset, data, [slack])
        assert result.metrics["dual_multiplier"] == pytest.approx(price, rel=1e-3, abs=1e-4)
        assert_second_order(result, theta, factor, data, states)
        prices.append(price)
        factors.add(factor)
    assert max(prices) > 0.0 and (min(prices) == 0.0 or sign > 0) and factors != {0.0}

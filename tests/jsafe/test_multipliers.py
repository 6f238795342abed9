"""Multipliers against hand-computed sequences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jsafe import multipliers

LAGRANGE = {"cost_limit": 25.0, "multiplier_init": 0.001, "multiplier_learning_rate": 0.035, "multiplier_max": 1e8}
PID = {
    "cost_limit": 25.0,
    "multiplier_init": 0.001,
    "multiplier_max": 100.0,
    "pid_kp": 0.1,
    "pid_ki": 0.01,
    "pid_kd": 0.01,
    "pid_p_smoothing": 0.95,
    "pid_d_smoothing": 0.95,
}


def follow(multiplier, costs, hyper):
    state, values = multiplier.init(hyper), []
    for cost in costs:
        state = multiplier.update(state, jnp.float32(cost), hyper)
        values.append(float(multiplier.value(state)))
    return values


def test_multiplier_rises_while_cost_exceeds_limit_and_falls_below_it():
    values = follow(multipliers.lagrange(), [60.0] * 5, LAGRANGE)
    # Adam's first steps on a constant gradient are the learning rate itself.
    np.testing.assert_allclose(values, 0.001 + 0.035 * np.arange(1, 6), rtol=1e-4)
    falling = follow(multipliers.lagrange(), [60.0] * 5 + [0.0] * 40, LAGRANGE)
    assert falling[-1] == 0.0 and min(falling) == 0.0


def test_multiplier_rests_where_cost_equals_limit():
    # A cost that answers the multiplier, cost = 45 - 10 * multiplier, has its fixed point at multiplier 2.
    hyper = {**LAGRANGE, "multiplier_learning_rate": 0.01}
    multiplier = multipliers.lagrange("sgd")
    state = multiplier.init(hyper)
    for _ in range(200):
        state = multiplier.update(state, 45.0 - 10.0 * multiplier.value(state), hyper)
    assert float(multiplier.value(state)) == pytest.approx(2.0, abs=1e-3)


def test_plain_gradient_step_is_proportional_to_the_violation():
    values = follow(multipliers.lagrange("sgd"), [35.0, 45.0], {**LAGRANGE, "multiplier_learning_rate": 0.01})
    np.testing.assert_allclose(values, [0.101, 0.301], rtol=1e-5)


def test_multiplier_stays_below_its_upper_bound():
    assert max(follow(multipliers.lagrange(), [1e3] * 10, {**LAGRANGE, "multiplier_max": 0.1})) == pytest.approx(0.1)
    assert max(follow(multipliers.pid(), [1e5] * 10, PID)) == pytest.approx(100.0)


def test_the_logarithm_of_a_multiplier_moves_by_the_multiplier_times_the_violation():
    hyper = {"cost_limit": 0.0, "multiplier_init": 1.0, "multiplier_learning_rate": 0.1, "multiplier_max": 5.0}
    values = follow(multipliers.exponentiated(), [3.0, 3.0, -1.0, 100.0, jnp.nan], hyper)
    np.testing.assert_allclose(values, [1.349859, 2.023761, 1.652983, 5.0, 5.0], rtol=1e-5)
    assert min(follow(multipliers.exponentiated(), [-1e3] * 50, hyper)) > 0.0


def test_pid_equals_a_sequence_computed_by_hand():
    # violation 20 twice, then -25. I: .201, .401, .151. P: 1, 1.95, .6025. D: 2.25, 4.3875, 4.168125.
    # With a delay of 2 the derivative sees 0, 0 and then the first D: 4.168125 - 2.25.
    values = follow(multipliers.pid(delay=2), [45.0, 45.0, 0.0], PID)
    expected = [
        0.1 * 1.0 + 0.201 + 0.01 * 2.25,
        0.1 * 1.95 + 0.401 + 0.01 * 4.3875,
        0.1 * 0.6025 + 0.151 + 0.01 * (4.168125 - 2.25),
    ]
    np.testing.assert_allclose(values, expected, rtol=1e-5)


def test_pid_integral_never_winds_up_below_zero():
    state = multipliers.pid().init(PID)
    for _ in range(50):
        state = multipliers.pid().update(state, jnp.float32(0.0), PID)
    assert float(state.integral) == 0.0 and float(state.multiplier) == 0.0


@pytest.mark.parametrize("multiplier, hyper", [(multipliers.lagrange(), LAGRANGE), (multipliers.pid(), PID)])
def test_unknown_cost_changes_nothing(multiplier, hyper):
    state = multiplier.update(multiplier.init(hyper), jnp.float32(30.0), hyper)
    after = multiplier.update(state, jnp.float32(jnp.nan), hyper)
    jax.tree.map(np.testing.assert_array_equal, after, state)


def test_limits_may_differ_across_a_population():
    multiplier = multipliers.lagrange("sgd")

    def one(limit):
        hyper = {**LAGRANGE, "cost_limit": limit}
        return multiplier.value(multiplier.update(multiplier.init(hyper), jnp.float32(20.0), hyper))

    values = jax.vmap(one)(jnp.array([10.0, 30.0]))
    np.testing.assert_allclose(values, [0.001 + 0.35, 0.0], rtol=1e-5)


def test_unknown_optimizer_and_bad_delay_are_refused():
    with pytest.raises(ValueError, match="adam"):
        multipliers.lagrange("rmsprop")
    with pytest.raises(ValueError, match="delay must be at least 1"):
        multipliers.pid(delay=0)

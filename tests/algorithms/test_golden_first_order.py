"""One update of every first-order algorithm, against Adam steps by NumPy on the written losses."""

import numpy as np
import pytest

from algorithms.on_policy.catalogue import CATALOGUE
from tests.support.golden_cases import assert_moved, assert_states, update, weights_of
from tests.support.numpy_reference import (
    ACTIONS,
    ELSEWHERE,
    EPISODE_COST,
    LENGTH,
    LIMITS,
    PROGRESS,
    START,
    clipped_gradient,
    descend,
    draw,
    focops_gradient,
    learn_values,
    multiplier_of,
    p3o_gradient,
    plain_gradient,
    projection_gradient,
    ratio,
    warm_states,
)

COMBINED = ("policy_gradient", "ppo", "ppo_lag", "pdo", "cppo_pid", "ipo")  # these see the combined advantage only
FIRST_ORDER = [
    *((name, "omnisafe", 1) for name in (*COMBINED, "focops", "p3o")),
    *((name, "paper", 1) for name in ("focops", "p3o")),
    ("focops", "omnisafe", 2),
    ("focops", "paper", 2),
    ("p3o", "paper", 2),
]


def setting(name, preset, count=1):
    """Data, multipliers by hand and by the library, and the combined advantage."""
    count = count if CATALOGUE[name].constraint else 0
    data = draw(ELSEWHERE, count)
    by_hand, combine, episodes = multiplier_of(name, preset)
    if by_hand is None:
        return data, np.zeros(count), np.zeros(count), data.reward
    weights = by_hand(episodes[:, :count], np.array(LIMITS[:count]))[-1]
    assert np.all(weights > 0.0)
    return data, weights, weights_of(name, preset, episodes, count)[-1], combine(data.reward, data.costs, weights)


def slope_of(name, preset, data, advantage):
    count = data.costs.shape[1]
    if name == "focops":
        return focops_gradient(advantage, per_sample=preset == "paper")
    if name == "p3o":
        slack = np.subtract(EPISODE_COST[count], LIMITS[:count]) / (LENGTH if preset == "paper" else 1.0)
        return p3o_gradient(slack, clipped=preset == "paper")
    return (plain_gradient if name in ("policy_gradient", "pdo") else clipped_gradient)(advantage)


@pytest.mark.parametrize("name, preset, count", FIRST_ORDER)
def test_first_order_updates_are_adam_steps_on_the_written_losses(name, preset, count):
    data, weights, library_weights, advantage = setting(name, preset, count)
    states = warm_states(data.costs.shape[1])
    slope = slope_of(name, preset, data, advantage)
    cost = EPISODE_COST.get(data.costs.shape[1], [])
    rho = ratio(START, data)
    assert 0.1 < np.mean(np.abs(rho - 1.0) > 0.2) < 0.9

    # At the published rates, with an eye on the divergence: it ends the passes after the first.
    rate = 3e-4 * (1.0 - PROGRESS)
    theta, state, distances = descend(START, data, slope, states[0], ELSEWHERE, rate=rate, target_kl=0.02)
    assert len(distances) == 1
    values, value_states = learn_values(data, states[1:], 1, 3e-4)
    result = update(name, preset, data, states, episode_cost=cost, weights=library_weights)
    assert result.metrics["passes"] == 1 and result.metrics["skipped"] == 0
    assert result.metrics["kl"] == pytest.approx(distances[-1], rel=1e-3)
    assert_states(result.states, [state, *value_states])
    assert_moved(result.policy, theta, rate)
    for one, other in zip(result.values, values, strict=True):
        assert_moved(one, other, 3e-4)

    # Larger steps, gradients beyond their bound, a strong penalty, and a second pass that starts from the first's end.
    changes = {"learning_rate": 0.02, "value_learning_rate": 0.03, "max_grad_norm": 0.1, "value_l2": 0.3}
    rate = 0.02 * (1.0 - PROGRESS)
    assert np.linalg.norm(slope(START, data)) > 0.1
    theta, state, distances = descend(
        START, data, slope, states[0], ELSEWHERE, rate=rate, target_kl=np.inf, largest=0.1
    )
    values, value_states = learn_values(data, states[1:], 2, 0.03, largest=0.1, l2=0.3)
    for target, passes in ((1.02 * distances[0], 2), (0.98 * distances[0], 1)):
        result = update(
            name, preset, data, states, episode_cost=cost, weights=library_weights, **changes, target_kl=target
        )
        assert result.metrics["passes"] == passes
        assert result.metrics["kl"] == pytest.approx(distances[passes - 1], rel=1e-3)
        if passes == 2:
            assert_states(result.states, [state, *value_states])
            assert_moved(result.policy, theta, rate)
            for one, other in zip(result.values, values, strict=True):
                assert_moved(one, other, 0.03)


@pytest.mark.parametrize("preset", ["omnisafe", "paper"])
def test_p3o_is_ppo_while_the_constraint_holds(preset):
    data, states = draw(ELSEWHERE, 1), warm_states(1)
    _, state, _ = descend(START, data, clipped_gradient(data.reward), states[0], ELSEWHERE, rate=0.0, target_kl=0.02)
    for cost, unchanged in ((-LENGTH, True), (LENGTH, False)):
        result = update("p3o", preset, data, states, episode_cost=[25.0 + cost], weights=[0.0])
        assert np.allclose(result.states[0][1], state[1], rtol=2e-4, atol=2e-6) == unchanged


def test_without_a_stop_every_pass_is_made():
    data = draw(ELSEWHERE, 0)
    states = warm_states(0)
    theta, state, distances = descend(
        START, data, clipped_gradient(data.reward), states[0], ELSEWHERE, rate=2.25e-4, target_kl=np.inf
    )
    assert distances[0] > 0.02
    result = update("ppo", "omnisafe", data, states, episode_cost=[], weights=[], static=(("target_kl", np.inf),))
    assert result.metrics["passes"] == 2
    assert_states(result.states[:1], [state])
    assert_moved(result.policy, theta, 2.25e-4)


def entropy_case(preset, share):
    """The bonus raises s: dH/ds_a = 1 for the entropy of all actions, 1 / A for its mean over action dimensions."""
    data, states = draw(ELSEWHERE, 0), warm_states(0)
    bonus = np.array([0.0] * 8 + [0.3 * share] * 2)

    def slope(theta, data):
        return clipped_gradient(data.reward)(theta, data) - bonus

    _, state, _ = descend(START, data, slope, states[0], ELSEWHERE, rate=2.25e-4, target_kl=0.02)
    result = update("ppo", preset, data, states, episode_cost=[], weights=[], entropy_coefficient=0.3)
    assert_states(result.states[:1], [state])


def test_entropy_bonus_is_that_of_the_whole_action():
    entropy_case("paper", 1.0)


def test_entropy_bonus_of_omnisafe_is_averaged_over_action_dimensions():
    entropy_case("omnisafe", 1.0 / ACTIONS)


# --- CUP -------------------------------------------------------------------------------------------------------------


def cup_by_hand(data, weights, states, target_kl, rate):
    state = states[0]
    policies = []
    for half in (1, 2):
        start, origin = (START, ELSEWHERE) if half == 1 else (policies[0][0], policies[0][0])
        slope = clipped_gradient(data.reward)
        if half == 2:
            slope = projection_gradient(start, data.costs @ weights, COEFFICIENT)
        policies.append(descend(start, data, slope, state, origin, rate=rate, target_kl=target_kl))
        state = policies[-1][1]
    return policies


COEFFICIENT = (1 - 0.99 * 0.95) / (1 - 0.99)  # (1 - gamma lambda) / (1 - gamma), 5.95


def cup_case(preset, count, length):
    data, weights, library_weights, _ = setting("cup", preset, count)
    states = warm_states(count)
    once = cup_by_hand(data, weights, states, 1e-9, 0.015)
    near, far = once[1][2][0], once[0][2][0]
    seen = set()
    for target in (0.9 * near, 0.5 * (near + far), 2.0 * far):
        (_, _, one), (theta, state, two) = cup_by_hand(data, weights, states, target, 0.015)
        first, second = len(one), len(two)
        seen.add((first, second))
        values, value_states = learn_values(data, states[1:], first, 3e-4)
        result = update(
            "cup",
            preset,
            data,
            states,
            episode_cost=EPISODE_COST[count],
            weights=library_weights,
            length=length,
            learning_rate=0.02,
            target_kl=target,
        )
        assert (result.metrics["passes"], result.metrics["projection_passes"]) == (first, second)
        assert result.metrics["projection_kl"] == pytest.approx(two[-1], rel=1e-3)
        assert_states(result.states, [state, *value_states])
        assert_moved(result.policy, theta, 0.015)
        for a, b in zip(result.values, values, strict=True):
            assert_moved(a, b, 3e-4)
    assert seen == {(1, 1), (1, 2), (2, 2)}


@pytest.mark.parametrize("preset, count", [("omnisafe", 1), ("omnisafe", 2), ("paper", 1)])
def test_cup_makes_a_clipped_step_for_the_reward_and_then_projects(preset, count):
    cup_case(preset, count, LENGTH)


def test_cup_weighs_costs_alike_however_short_the_episodes():
    cup_case("omnisafe", 1, 40.0)

"""Advantages, multipliers and violations of every on-policy algorithm, against NumPy."""

import jax.numpy as jnp
import numpy as np
import pytest

from algorithms.constraints import margin
from algorithms.on_policy.advantages import Collected, Critics, make_batch
from algorithms.on_policy.catalogue import CATALOGUE
from jsafe.distributions import Gaussian
from tests.support.golden_cases import NETWORKS, as_value, hyper_of, options, weights_of
from tests.support.numpy_reference import ACTIONS, ELSEWHERE, LIMITS, MULTIPLIERS, OBS, VALUES, draw, shared
from tests.support.signals import signal

# --- advantages ------------------------------------------------------------------------------------------------------


def test_reward_advantages_are_standardised_and_cost_advantages_only_centred():
    steps, envs = 8, 3
    rng = np.random.default_rng(11)
    obs, next_obs = rng.normal(size=(2, steps, envs, OBS))
    reward, cost = rng.normal(size=(steps, envs)), 5.0 * rng.uniform(size=(steps, envs))
    terminated, truncated = np.zeros((2, steps, envs), bool)
    terminated[2, 0] = truncated[4, 1] = True
    action = rng.normal(size=(steps, envs, ACTIONS))
    acting = Gaussian(jnp.asarray(action, jnp.float32), jnp.zeros((steps, envs, ACTIONS)))

    chosen = options("ppo_lag", "omnisafe")
    params = {"reward_value": as_value(VALUES[0]), "cost_value": as_value(VALUES[1])}
    seen = Collected(
        *(jnp.asarray(x, jnp.float32) for x in (obs, next_obs, action)),
        jnp.zeros((steps, envs)),
        acting,
        *(jnp.asarray(x, jnp.float32) for x in (reward, cost[..., None])),
        jnp.asarray(terminated),
        jnp.asarray(truncated),
    )
    critics = Critics(NETWORKS, ("reward_value", "cost_value"), params)
    mix = CATALOGUE["ppo_lag"].constraint.mix
    batch = make_batch(seen, critics, lambda r, c: mix(r, c, jnp.array([0.5])), hyper_of(chosen))

    def estimated(signals, w):
        """A_t = sum_k (gamma lambda)^k delta_{t+k} within an episode; bootstrapped unless it terminated."""
        value, later = obs @ w[:OBS] + w[OBS], next_obs @ w[:OBS] + w[OBS]
        delta = signals + 0.99 * later * ~terminated - value
        result = np.zeros((steps, envs))
        for t in range(steps):
            for n in range(envs):
                for k in range(t, steps):
                    result[t, n] += (0.99 * 0.95) ** (k - t) * delta[k, n]
                    if terminated[k, n] or truncated[k, n]:
                        break
        return result.ravel(), (result + value).ravel()

    rewards, reward_targets = estimated(reward, VALUES[0])
    costs, cost_targets = estimated(cost, VALUES[1])
    rewards = (rewards - rewards.mean()) / (np.sqrt(np.mean((rewards - rewards.mean()) ** 2)) + 1e-8)
    costs = costs - costs.mean()
    assert costs.std() > 2.0
    np.testing.assert_allclose(batch.reward_advantage, rewards, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(batch.cost_advantages[:, 0], costs, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(batch.advantage, (rewards - 0.5 * costs) / 1.5, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(batch.targets["reward_value"], reward_targets, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(batch.targets["cost_value"], cost_targets, rtol=1e-4, atol=1e-4)


# --- constraints -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("name, preset", MULTIPLIERS)
def test_multipliers_follow_their_recursion_and_ignore_unknown_costs(name, preset, count):
    by_hand, combine, episodes = MULTIPLIERS[name, preset]
    expected = by_hand(episodes[:, :count], np.array(LIMITS[:count]))
    result = weights_of(name, preset, episodes, count)
    np.testing.assert_allclose(result, expected, rtol=2e-4, atol=1e-6)
    unknown = np.isnan(episodes[:, 0]).nonzero()[0]
    assert len(unknown) and all(np.array_equal(result[i], result[i - 1]) for i in unknown if i)
    assert len(np.unique(expected)) > 1

    data = draw(ELSEWHERE, count)
    for weights in expected:
        combined = CATALOGUE[name].constraint.mix(jnp.asarray(data.reward), jnp.asarray(data.costs), weights)
        # FOCOPS of the paper combines inside its loss, without the denominator; test_golden_first_order.py sees it.
        target = combine if (name, preset) != ("focops", "paper") else shared
        np.testing.assert_allclose(combined, target(data.reward, data.costs, weights), rtol=1e-4, atol=1e-5)


def test_one_unknown_cost_of_two_leaves_both_multipliers():
    known, half = np.array([[40.0, 5.0]]), np.array([[40.0, np.nan]])
    for name in ("ppo_lag", "cppo_pid", "crpo"):
        result = weights_of(name, "omnisafe", np.concatenate([known, half, half, known]), 2)
        np.testing.assert_array_equal(result[0], result[2])
        np.testing.assert_array_equal(result[3], weights_of(name, "omnisafe", np.concatenate([known, known]), 2)[1])


def test_multipliers_are_capped_at_two_for_focops_and_cup_only():
    high = np.full((80, 1), 1000.0)
    assert weights_of("focops", "omnisafe", high)[-1] == weights_of("cup", "omnisafe", high)[-1] == 2.0
    assert weights_of("focops", "paper", high)[-1] == weights_of("cup", "paper", high)[-1] == 2.0
    assert weights_of("ppo_lag", "omnisafe", high)[-1] == pytest.approx(0.001 + 80 * 0.035, rel=1e-4)


def test_a_margin_adds_up_violations_and_is_never_negative():
    """With a rate of 0.5 and limits of 25 and 10: 31, 27, unknown, 15 and 9, 12, unknown, 2."""
    chosen = options("cpo", "paper", 2, margin_rate=0.5)
    hyper = hyper_of(chosen)
    safety, seen = margin.margin(), []
    state = safety.init(hyper)
    for cost in ([31.0, 9.0], [27.0, 12.0], [np.nan, np.nan], [15.0, 2.0]):
        state = safety.update(state, jnp.asarray(cost), hyper)
        seen.append(np.asarray(safety.value(state)))
    np.testing.assert_allclose(seen, [[3, 0], [4, 1], [4, 1], [0, 0]], atol=1e-6)
    status = signal(episode_costs=[31.0, 9.0], limits=LIMITS, weights=[3.0, 0.0], episode_length=200.0)
    np.testing.assert_allclose(margin.violation(status, hyper, chosen), np.array([9.0, -1.0]) / 200, rtol=1e-5)


def test_violations_count_per_episode_as_in_omnisafe_or_per_step():
    status = signal(episode_costs=[31.0, 9.0], limits=LIMITS, weights=[0.0, 0.0], episode_length=200.0)
    unknown = signal(episode_costs=[np.nan, np.nan], limits=LIMITS, weights=[0.0, 0.0], episode_length=np.nan)
    for name in ("cpo", "pcpo", "p3o"):
        for units, factor in (({}, None), ({"cost_units": "discounted"}, 0.01)):
            for preset, default in (("omnisafe", 1.0), ("paper", 1 / 200.0)):
                chosen = options(name, preset, 2 if name != "pcpo" else 1, **units)
                result = margin.violation(status, hyper_of(chosen), chosen)
                np.testing.assert_allclose(result, np.array([6.0, -1.0]) * (factor or default), rtol=1e-4)
        chosen = options(name, "omnisafe")
        np.testing.assert_allclose(margin.violation(unknown, hyper_of(chosen), chosen), [-25.0, -10.0])

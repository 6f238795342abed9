"""Probe problems, each of which isolates one part of an algorithm and has an answer in closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import algorithms
import jsafe
from algorithms.on_policy.policy_networks import default_networks
from algorithms.registry import config_class
from tests.support.toy_envs import Counter, Lever

SMALL = {"num_envs": 16, "steps_per_iteration": 400, "minibatch_size": 100, "hidden_sizes": (16, 16)}


def learned_values(env, observations, **changes):
    """Values by network at observations `[B, O]` after 60 iterations of a fixed policy, and its distribution there."""
    settings = {
        **SMALL, "passes": 10, "learning_rate": 0.0, "value_learning_rate": 0.01, "value_l2": 0.0,
        "normalize_observations": False, "total_steps": 60 * 400, "target_kl": 1e9,
    }  # fmt: skip
    settings |= changes
    trainer = algorithms.make("ppo_lag", env, **settings)
    networks = default_networks(env, config_class("ppo_lag")(**settings))
    state, _ = jax.jit(lambda key: jsafe.run(trainer, key, 60))(jax.random.key(0))
    names = [name for name in state.params if name != "policy"]
    seen = jnp.asarray(observations)
    values = {name: np.asarray(networks.reward_value.apply(state.params[name], seen)) for name in names}
    return values, networks.policy.apply(state.params["policy"], seen)


def test_values_of_reward_and_cost_count_down_to_the_end_with_their_own_discounts():
    """Reward and cost are 1 in each of five steps, and then the task ends: `(1 - discount^left) / (1 - discount)`."""
    result, _ = learned_values(Counter(end=5), np.arange(5.0)[:, None], discount=0.9, cost_discount=0.5)
    left = 5 - np.arange(5)
    np.testing.assert_allclose(result["reward_value"], (1 - 0.9**left) / 0.1, atol=0.15)
    np.testing.assert_allclose(result["cost_value"], (1 - 0.5**left) / 0.5, atol=0.1)


def test_values_look_beyond_a_time_limit_for_the_reward_and_for_each_cost():
    """A choice of three that is cut every five steps: `mean / (1 - discount)`, as if it went on for ever."""
    result, acting = learned_values(Lever(), np.ones((1, 1)), discount=0.9, cost_discount=0.8, cost_limit=(1.0, 1.0))
    _, second, third = np.asarray(jax.nn.softmax(acting.logits))[0]
    assert result["reward_value"] == pytest.approx((second + 2 * third) / 0.1, rel=0.1)
    assert result["cost_value_0"] == pytest.approx(second / 0.2, rel=0.1)
    assert result["cost_value_1"] == pytest.approx(3 * third / 0.2, rel=0.1)


FOLLOWS = {"multiplier_optimizer": "sgd", "multiplier_learning_rate": 0.05, "multiplier_max": 1e8}
CONTROLS = {"pid_kp": 0.3, "pid_ki": 0.05, "pid_kd": 0.0}
EVEN, UNEVEN = (0.6, 0.2, 0.2), (0.5, 0.4, 0.1)
ENTROPY, TEMPERATURE = 0.2, 1.5


def resting_multipliers(mix, normalized):
    """Fixed point of the multipliers of `Lever` when the policy is to mix its three choices by `mix`.

    A policy that mixes is at rest only if no choice is better than another: for the choices k,

        (reward_k / deviation - multipliers @ costs_k) / scale - ENTROPY * log(mix_k)

    is the same number, where the deviation is that of rewards, which standardises them, and the scale is one plus all
    multipliers if `normalized` (PPO) or else the temperature of FOCOPS. That is two linear equations.
    """
    rewards, costs = np.arange(3.0), np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 3.0]])
    deviation = np.sqrt(mix @ rewards**2 - (mix @ rewards) ** 2)
    surprise = ENTROPY * np.log(mix[1:] / mix[0])
    if normalized:
        return np.linalg.solve(costs[1:] + surprise[:, None], rewards[1:] / deviation - surprise)
    return np.linalg.solve(costs[1:], rewards[1:] / deviation - TEMPERATURE * surprise)


@pytest.mark.parametrize(
    ("name", "settings", "mix"),
    [
        ("ppo_lag", FOLLOWS, EVEN),
        ("ppo_lag", FOLLOWS, UNEVEN),
        ("cppo_pid", CONTROLS, EVEN),
        ("focops", FOLLOWS | {"focops_temperature": TEMPERATURE, "focops_kl_bound": 1e9, "target_kl": 1e9}, UNEVEN),
    ],
)
def test_multipliers_rest_where_no_choice_is_better_than_another(name, settings, mix):
    """Both limits are the costs of one mixture of the choices, which is therefore where the policy must end."""
    mix = np.array(mix)
    limits = 5 * mix[1:] * [1, 3]
    trainer = algorithms.make(
        name, Lever(), **SMALL | settings | {
            "cost_limit": tuple(limits.tolist()), "discount": 0.0, "cost_discount": 0.0, "passes": 5,
            "normalize_observations": False, "learning_rate": 0.01, "learning_rate_decay": False,
            "value_learning_rate": 0.01, "entropy_coefficient": ENTROPY, "num_envs": 80, "total_steps": 400 * 300,
        },
    )  # fmt: skip
    _, curves = jax.jit(lambda key: jsafe.run(trainer, key, 300))(jax.random.key(1))
    late = {key: float(np.mean(np.asarray(value)[150:])) for key, value in curves.items()}
    result = np.array([late["multiplier_wear"], late["multiplier_noise"]])
    np.testing.assert_allclose([late["cost_wear"], late["cost_noise"]], limits, rtol=0.08)
    np.testing.assert_allclose(result, resting_multipliers(mix, normalized=name != "focops"), rtol=0.08)

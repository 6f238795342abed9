"""The trust-region engine: what it promises, and what it does with numbers that are not finite."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import algorithms
import jsafe
from algorithms.on_policy.catalogue import CATALOGUE
from algorithms.on_policy.interfaces import Batch, Networks, value_names
from algorithms.registry import config_class
from jsafe.networks.actor_critic import make_policy, make_value
from jsafe.spaces import Box, Discrete
from tests.support.signals import signal
from tests.support.toy_envs import Lever, Throttle

SAMPLES, OBS, ACTIONS = 120, 4, 2
SECOND_ORDER = ("natural_pg", "trpo", "trpo_lag", "cpo", "pcpo", "crpo")


def setting(num_actions=None, costs=1):
    actions = Discrete(num_actions) if num_actions else Box(ACTIONS, low=-1.0, high=1.0)
    value = make_value(Box(OBS), hidden_sizes=(12,))
    nets = Networks(make_policy(Box(OBS), actions, hidden_sizes=(12,)), value, value)
    names = ("policy", *value_names(costs))
    keys = jax.random.split(jax.random.key(1), len(names))
    params = {name: nets.named(name).init(k) for name, k in zip(names, keys, strict=True)}
    k_obs, k_act, k_adv = jax.random.split(jax.random.key(2), 3)
    obs = jax.random.normal(k_obs, (SAMPLES, OBS))
    acting = nets.policy.apply(params["policy"], obs)
    action = acting.sample(k_act)
    advantages = jax.random.normal(k_adv, (SAMPLES, 1 + costs))
    advantages = advantages - advantages.mean(0)
    batch = Batch(
        obs=obs,
        action=action,
        log_prob=acting.log_prob(action),
        acting=acting.per_sample(),
        advantage=advantages[:, 0],
        reward_advantage=advantages[:, 0],
        cost_advantages=advantages[:, 1:],
        targets={name: advantages[:, 0] for name in names[1:]},
    )
    return nets, params, batch


def update(name, batch, nets, params, status, **options):
    opts = config_class(name)(num_envs=1, steps_per_iteration=SAMPLES, minibatch_size=40, passes=2, **options)
    made = CATALOGUE[name].update.make(nets, tuple(n for n in params if n != "policy"), opts)
    hyper = {k: jnp.asarray(v, jnp.float32) for k, v in opts.traced().items()}
    return jax.jit(made.apply)(jax.random.key(0), params, made.init(params), batch, status, hyper)


@pytest.mark.parametrize("num_actions", [None, 3])
@pytest.mark.parametrize("name", SECOND_ORDER)
def test_the_step_stays_in_the_trust_region_and_pays(name, num_actions):
    nets, params, batch = setting(num_actions)
    new, _, metrics = update(name, batch, nets, params, signal(), trust_region_radius=0.02)
    kl = float(jnp.mean(batch.acting.kl(nets.policy.apply(new["policy"], batch.obs))))
    assert 1e-3 < kl <= (0.025 if name == "natural_pg" else 0.02)  # the natural step is not checked
    assert kl == pytest.approx(float(metrics["kl"]), rel=1e-3)
    assert float(metrics["policy_loss"]) < 0 and float(metrics["step_factor"]) > 0 and int(metrics["skipped"]) == 0
    before, after = (
        float(jnp.mean((nets.reward_value.apply(p["reward_value"], batch.obs) - batch.targets["reward_value"]) ** 2))
        for p in (params, new)
    )
    assert after < before


@pytest.mark.parametrize("costs", [1, 2])
def test_a_cost_too_far_above_its_limit_falls_whatever_the_others_do(costs):
    nets, params, batch = setting(costs=costs)
    limits, over = np.full(costs, 25.0), np.full(costs, 10.0)
    over[0] = 40.0
    status = signal(weights=np.zeros(costs), episode_costs=over, limits=limits, episode_length=10.0)
    new, _, metrics = update("cpo", batch, nets, params, status)
    policy = nets.policy.apply(new["policy"], batch.obs)
    ratio = jnp.exp(policy.log_prob(batch.action) - batch.log_prob)[:, None]
    change = jnp.mean((ratio - 1.0) * batch.cost_advantages, axis=0)
    assert int(metrics["case"]) == 0 and float(change[0]) < -1e-3


@pytest.mark.parametrize("name", SECOND_ORDER)
def test_advantages_that_are_not_finite_move_nothing_and_are_counted(name):
    nets, params, batch = setting()
    bad = jnp.full(SAMPLES, jnp.nan)
    broken = dataclasses.replace(
        batch,
        advantage=bad,
        cost_advantages=bad[:, None],
        targets={name: bad for name in batch.targets},
    )
    new, _, metrics = update(name, broken, nets, params, signal())
    jax.tree.map(np.testing.assert_array_equal, new, params)
    assert int(metrics["skipped"]) == 1 + 2 * 3  # the policy's step, and three minibatches of two passes


@pytest.mark.parametrize("name", SECOND_ORDER)
def test_a_trust_region_without_extent_is_refused(name):
    with pytest.raises(ValueError, match="trust_region_radius must be greater than 0, got 0"):
        algorithms.make(name, Throttle(), trust_region_radius=0.0)


def test_several_limits_are_refused_where_only_one_is_known():
    with pytest.raises(ValueError, match="pcpo supports one limit, got 2"):
        algorithms.make("pcpo", Lever(), cost_limit=(1.0, 2.0))
    with pytest.raises(ValueError, match="dual='library' supports one limit, got 2"):
        algorithms.make("cpo", Lever(), cost_limit=(1.0, 2.0), dual="library")
    algorithms.make("cpo", Lever(), cost_limit=(1.0, 2.0))


def test_trust_region_methods_learn_a_discrete_choice_within_two_limits():
    """Of pulling 1 and 2 (costs 1 and 3 of two kinds), 5 times an episode: at most 2 of the first, 1 of the second."""
    small = {"num_envs": 50, "steps_per_iteration": 250, "minibatch_size": 125, "hidden_sizes": (8,)}
    trainer = algorithms.make("cpo", Lever(), cost_limit=(2.0, 3.0), total_steps=25_000, **small)
    _, metrics = jax.jit(lambda k: jsafe.run(trainer, k, 100))(jax.random.key(0))
    late = {name: float(np.mean(values[60:])) for name, values in metrics.items()}
    assert late["cost_wear"] == pytest.approx(2.0, abs=0.2) and late["cost_noise"] == pytest.approx(3.0, abs=0.3)
    assert late["return"] == pytest.approx(4.0, abs=0.2)

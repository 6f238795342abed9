"""Exact returns and costs of policies against simulated episodes."""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from envs_mjx.analytic import (
    CART,
    CASES,
    STRESS,
    STRESS_AND_FUEL,
    LinearQuadratic,
    early_termination_optimum,
    evaluate_linear,
    lagrangian_policy,
    optimum,
    saute_optimum,
)
from jsafe import rollout
from tests.support.analytic_cases import FINITE, LIMIT

EPISODES = 20_000


def _assert_mean(samples, exact):
    """The mean of `[N]` samples is within four standard errors of the exact value."""
    samples = np.asarray(samples, np.float64)
    assert abs(samples.mean() - exact) < 4 * samples.std() / math.sqrt(samples.size) + 1e-6


def _episodes(env, act):
    """Returns `[N]` and costs `[N, C]` of many episodes through the library's own loop."""
    count, horizon = EPISODES // 4, env.spec.episode_length

    @jax.jit
    def run(key):
        _, steps, _ = rollout.unroll(env, act, rollout.init(env, key, count), key, 4 * horizon)
        rewards, costs = steps.reward.reshape(4, horizon, count), steps.cost.reshape(4, horizon, count, -1)
        return rewards.sum(1).ravel(), costs.sum(1).reshape(4 * count, -1)

    return run(jax.random.key(1))


@pytest.mark.parametrize(("env", "limits"), FINITE, ids=["one_cost", "two_costs"])
def test_simulated_finite_optimum_has_the_exact_return_and_costs(env, limits):
    best = optimum(env, limits)
    logits = jnp.log(jnp.asarray(best.policy.reshape(env.spec.observation_size, -1), jnp.float32))
    returns, costs = _episodes(
        env, lambda obs, key: (jax.random.categorical(key, logits[jnp.argmax(obs, -1)]).astype(jnp.int32), ())
    )
    _assert_mean(returns, best.return_)
    for index, exact in enumerate(best.costs):
        _assert_mean(costs[:, index], exact)


def test_without_noise_one_episode_has_the_exact_return_and_cost():
    env = dataclasses.replace(CART, noise_std=(0.0, 0.0), start_std=(0.0, 0.0))
    policy = lagrangian_policy(env, 0.7)
    state, step, return_, cost = env.reset(jax.random.key(0)), jax.jit(env.step), 0.0, 0.0
    for gain, offset in zip(*policy, strict=True):
        state = step(state, jnp.asarray(gain @ np.asarray(state.obs[:2]) + offset, jnp.float32))
        return_, cost = return_ + float(state.reward), cost + float(state.cost[0])
    assert (return_, cost) == pytest.approx(evaluate_linear(env, *policy), abs=1e-5)


@pytest.mark.parametrize("std", [0.0, 0.5])
def test_simulated_linear_policies_have_the_exact_return_and_cost(std):
    env, limits = CASES["linear_quadratic"]
    assert isinstance(env, LinearQuadratic)
    policy = optimum(env, limits).policy
    gains, offsets = (jnp.asarray(x, jnp.float32) for x in policy)

    def act(obs, key):
        time = jnp.argmax(obs[:, 2:], -1)
        mean = jnp.einsum("nij,nj->ni", gains[time], obs[:, :2]) + offsets[time]
        return mean + std * jax.random.normal(key, mean.shape), ()

    returns, costs = _episodes(env, act)
    return_, cost = evaluate_linear(env, *policy, std)
    _assert_mean(returns, return_)
    _assert_mean(costs[:, 0], cost)


def _with_memory(env, policy, start, spend):
    """Rewards, costs and memories after each step, `[H, N]`, of a policy that sees a memory."""
    width = max(len(m) for m in policy.memories)
    grid = jnp.asarray(np.stack([np.pad(m, (0, width - len(m)), constant_values=np.inf) for m in policy.memories]))
    actions = jnp.asarray(np.stack([np.pad(a, ((0, 0), (0, width - a.shape[1]))) for a in policy.actions]), jnp.int32)

    def episode(key):
        def step(carry, time):
            state, memory = carry
            slot = jnp.argmin(jnp.abs(grid[time] - memory))
            state = env.step(state, actions[time, state.data["state"], slot])
            memory = spend(memory, jnp.sum(state.cost))
            return (state, memory), (state.reward, jnp.sum(state.cost), memory)

        return jax.lax.scan(step, (env.reset(key), jnp.float32(start)), jnp.arange(env.horizon))[1]

    out = jax.jit(jax.vmap(episode, out_axes=1))(jax.random.split(jax.random.key(2), EPISODES))
    return (np.asarray(x, np.float64) for x in out)


@pytest.mark.parametrize(("env", "limit"), [(STRESS, 2.5), (STRESS_AND_FUEL, 4.5)], ids=["one_cost", "two_costs"])
def test_simulated_early_termination_has_the_exact_return_and_cost(env, limit):
    best = early_termination_optimum(env, limit)
    rewards, costs, spent = _with_memory(env, best.policy, 0.0, lambda m, c: m + c)
    running = np.concatenate([np.ones_like(spent[:1], bool), spent[:-1] <= limit])
    assert not running.all()
    _assert_mean(np.sum(rewards * (spent <= limit), 0), best.return_)
    _assert_mean(np.sum(costs * running, 0), sum(best.costs))
    assert sum(best.costs) == pytest.approx(best.cost_range[0])


@pytest.mark.parametrize("discount", [1.0, 0.97])
def test_simulated_saute_has_the_exact_objective_return_and_cost(discount):
    best = saute_optimum(STRESS, LIMIT, -1.0, discount)
    rewards, costs, left = _with_memory(STRESS, best.policy, 1.0, lambda z, c: (z - c / LIMIT) / discount)
    _assert_mean(np.sum(np.where(left > 0, rewards, -1.0), 0), best.objective)
    _assert_mean(np.sum(rewards, 0), best.return_)
    _assert_mean(np.sum(costs, 0), best.costs[0])

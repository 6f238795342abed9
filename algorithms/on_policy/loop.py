"""The one training loop of the on-policy family.

Collect, look at the cost, move the multiplier, estimate advantages, update. What differs between algorithms comes in
as parts: a policy update (`algorithms.on_policy.updates`) and a multiplier (`jsafe.multipliers`) or none.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from algorithms.hyper import merged_traced
from algorithms.on_policy.options import OnPolicy
from algorithms.on_policy.parts import Batch, Hyper, Networks, Signal, Update
from jsafe import (
    Env,
    Metrics,
    PolicySpec,
    Trainer,
    TrainerInfo,
    TrainState,
    distributions,
    estimators,
    normalize,
    rollout,
)
from jsafe.multipliers import Multiplier
from jsafe.networks import make_policy, make_value


def policy_spec(env: Env, options: OnPolicy) -> PolicySpec:
    """How to rebuild the built-in policy for an environment."""
    return PolicySpec(
        observation_size=env.spec.observation_size,
        action_low=env.spec.action_low,
        action_high=env.spec.action_high,
        hidden_sizes=options.hidden_sizes,
        activation=options.activation,
        normalize_observations=options.normalize_observations,
        observation_clip=options.observation_clip,
    )


def default_networks(env: Env, options: OnPolicy) -> Networks:
    """The built-in perceptrons, three of the same shape."""
    spec = policy_spec(env, options)
    value = make_value(spec, options.initializer)
    return Networks(policy=make_policy(spec, options.initializer), reward_value=value, cost_value=value)


def build(
    *,
    algorithm: str,
    env: Env,
    options: OnPolicy,
    networks: Networks,
    update: Update,
    values: tuple[str, ...],
    multiplier: Multiplier | None,
    policy: PolicySpec | None,
) -> Trainer:
    """Bind an algorithm's parts to an environment.

    Args:
        algorithm: registered name.
        env: the CMDP; the constraint is on the sum of `State.cost_sum` over an episode.
        options: hyper-parameters.
        networks: policy and value functions.
        update: how the networks change.
        values: names of the value networks in use.
        multiplier: weighs costs against rewards; None for a method without one.
        policy: how to rebuild the policy, None if it is not a built-in one.
    """
    defaults = options.traced()

    def observe(state: TrainState, obs: jax.Array) -> jax.Array:
        return normalize.apply(state.normalizer, obs, options.observation_clip)

    def init(key: jax.Array, hyper: Mapping[str, Any] | None = None) -> TrainState:
        traced = _traced(options, defaults, hyper, algorithm)
        k_params, k_envs, key = jax.random.split(key, 3)
        names = ("policy", *values)
        keys = jax.random.split(k_params, len(names))
        params = {name: getattr(networks, name).init(k) for name, k in zip(names, keys, strict=True)}
        return TrainState(
            params=params,
            optimizer=update.init(params),
            dual=multiplier.init(traced) if multiplier else (),
            normalizer=normalize.init(env.spec.observation_size) if options.normalize_observations else (),
            rollout=rollout.init(env, k_envs, options.num_envs, options.episode_window),
            key=key,
            iteration=jnp.zeros((), jnp.int32),
            skipped=jnp.zeros((), jnp.int32),
            hyper=traced,
        )

    def act(state: TrainState, obs: jax.Array, key: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        mean, log_std = networks.policy.apply(state.params["policy"], observe(state, obs))
        action = distributions.sample(key, mean, log_std)
        return action, {"mean": mean, "log_prob": distributions.log_prob(action, mean, log_std)}

    def step(state: TrainState) -> tuple[TrainState, Metrics]:
        key, k_rollout, k_update = jax.random.split(state.key, 3)
        envs = rollout.restart(env, state.rollout) if options.reset_at_iteration_start else state.rollout
        envs, transitions = rollout.unroll(
            env, lambda obs, k: act(state, obs, k), envs, k_rollout, options.steps_per_env
        )
        episodes = rollout.episode_means(envs.window, transitions)

        dual, weight = state.dual, jnp.zeros((), jnp.float32)
        if multiplier:
            dual = multiplier.update(state.dual, episodes["cost"], state.hyper)
            weight = multiplier.value(dual)

        signal = Signal(
            multiplier=weight,
            episode_cost=episodes["cost"],
            progress=jnp.minimum(1.0, state.iteration / options.iterations).astype(jnp.float32),
        )
        batch = make_batch(
            observe(state, transitions.obs),
            observe(state, transitions.next_obs),
            transitions,
            state.params,
            networks,
            values,
            weight,
            state.hyper,
        )
        params, optimizer, update_metrics = update.apply(
            k_update, state.params, state.optimizer, batch, signal, state.hyper
        )

        normalizer = state.normalizer
        if options.normalize_observations:
            normalizer = normalize.update(state.normalizer, transitions.obs)
        skipped = state.skipped + update_metrics["skipped"]
        iteration = state.iteration + 1
        metrics = {
            **update_metrics,
            **episodes,
            "env_steps": iteration * options.steps_per_iteration,
            "multiplier": weight,
            "skipped": skipped,
        }
        if "bad_action" in transitions.metrics:
            metrics["bad_action"] = jnp.sum(transitions.metrics["bad_action"])
        state = dataclasses.replace(
            state,
            params=params,
            optimizer=optimizer,
            dual=dual,
            normalizer=normalizer,
            rollout=envs,
            key=key,
            iteration=iteration,
            skipped=skipped,
        )
        return state, metrics

    info = TrainerInfo(
        algorithm=algorithm,
        env_id=env.spec.id,
        config=options.config(),
        traced=defaults,
        env_steps_per_iteration=options.steps_per_iteration,
        policy=policy,
    )
    return Trainer(init=init, step=step, info=info)


def _traced(
    options: OnPolicy, defaults: Mapping[str, float], replaced: Mapping[str, Any] | None, algorithm: str
) -> dict[str, jax.Array]:
    """Traced hyper-parameters as arrays; Python numbers among the replacements are checked, tracers cannot be."""
    values = merged_traced(defaults, replaced, algorithm)
    dataclasses.replace(options, **{k: v for k, v in values.items() if isinstance(v, int | float)})
    return {k: jnp.asarray(v, jnp.float32) for k, v in values.items()}


def make_batch(
    obs: jax.Array,
    next_obs: jax.Array,
    transitions: rollout.Transition,
    params: dict[str, Any],
    networks: Networks,
    values: tuple[str, ...],
    weight: jax.Array,
    hyper: Hyper,
) -> Batch:
    """Turn transitions `[T, N]` into samples `[T * N]` with advantages and value targets.

    Reward advantages are standardised over the batch, cost advantages only centred, and the policy is to increase
    `(A_reward - weight * A_cost) / (1 + weight)` (Ray, Achiam and Amodei 2019).

    Args:
        obs: `[T, N, O]`, normalised.
        next_obs: `[T, N, O]`, normalised, before any reset.
        transitions: of the acting policy, with its `mean` and `log_prob` among the extras.
        params: parameters by network.
        networks: policy and value functions.
        values: names of the value networks in use.
        weight: `[]`, the multiplier.
        hyper: traced hyper-parameters.
    """
    signals = {
        "reward_value": (transitions.reward, hyper["discount"], hyper["gae_lambda"]),
        "cost_value": (transitions.cost, hyper["cost_discount"], hyper["cost_gae_lambda"]),
    }
    advantages = {name: jnp.zeros(obs.shape[:2], jnp.float32) for name in signals}
    targets = {}
    for name in values:
        value, p = getattr(networks, name), params[name]
        rewards, discount, lam = signals[name]
        advantages[name], targets[name] = estimators.gae(
            rewards.astype(jnp.float32),
            value.apply(p, obs),
            value.apply(p, next_obs),
            transitions.terminated,
            transitions.truncated,
            discount,
            lam,
        )
    reward_advantage = estimators.standardize(advantages["reward_value"])
    cost_advantage = estimators.center(advantages["cost_value"])

    def flat(x: jax.Array) -> jax.Array:
        return x.reshape(-1, *x.shape[2:])

    return Batch(
        obs=flat(obs),
        action=flat(transitions.action),
        log_prob=flat(transitions.extras["log_prob"]),
        mean=flat(transitions.extras["mean"]),
        log_std=networks.policy.apply(params["policy"], obs[0, :1])[1],
        advantage=flat((reward_advantage - weight * cost_advantage) / (1.0 + weight)),
        reward_advantage=flat(reward_advantage),
        cost_advantage=flat(cost_advantage),
        targets={name: flat(t) for name, t in targets.items()},
    )

"""The one training loop of the on-policy family.

Collect, look at the costs, move the multipliers, estimate advantages, update. What differs between algorithms comes
in as parts: a policy update (`algorithms.on_policy.updates`), a constraint (`algorithms.constraints`) or
none, and a rewritten environment (`algorithms.transforms`) or the environment as it is.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from algorithms.on_policy.advantages import make_batch
from algorithms.on_policy.config import OnPolicy
from algorithms.on_policy.interfaces import ConstraintPart, Networks, Schedule, Signal, Update, value_names
from jsafe import Env, Metrics, PolicySpec, Trainer, TrainerInfo, TrainState, episode_stats, rollout, running_statistics
from jsafe.config import merged_traced
from jsafe.networks.mlp import make_policy, make_value


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
        num_actions=env.spec.num_actions,
        squash=options.squash,
        initial_log_std=options.initial_log_std,
        fixed_scale=env.spec.fixed_scale,
        torso=options.torso,
        history=options.history,
        recurrent_size=options.recurrent_size,
        image_shape=options.image_shape,
    )


def default_networks(env: Env, options: OnPolicy) -> Networks:
    """The built-in networks, three of the same shape."""
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
    constraint: ConstraintPart | None,
    policy: PolicySpec | None,
    schedule: Schedule | None = None,
) -> Trainer:
    """Bind an algorithm's parts to an environment.

    Args:
        algorithm: registered name.
        env: the CMDP, rewritten already if the algorithm does so.
        options: hyper-parameters.
        networks: policy and value functions.
        update: how the networks change.
        constraint: how costs weigh on the policy; None for a method that does not look at costs.
        policy: how to rebuild the policy, None if it is not a built-in one.
        schedule: what a rewritten environment is told between iterations; takes the place of a constraint.
    """
    defaults = options.traced()
    num_constraints = env.spec.num_costs if constraint else 0
    multiplier = constraint.make(options) if constraint and constraint.make else None
    values = value_names(num_constraints)
    scaled = options.normalize_rewards or _says(options, "normalize_costs")

    def observe(state: TrainState, obs: jax.Array) -> jax.Array:
        return running_statistics.apply(state.normalizer, obs, options.observation_clip)

    def tell(dual: Any, envs: rollout.RolloutState) -> rollout.RolloutState:
        return dataclasses.replace(envs, env=schedule.write(dual, envs.env)) if schedule else envs

    def init(key: jax.Array, hyper: Mapping[str, Any] | None = None) -> TrainState:
        traced = _traced(options, defaults, hyper, algorithm)
        if num_constraints:
            traced["cost_limit"] = jnp.broadcast_to(traced["cost_limit"], (num_constraints,))
        k_params, k_envs, key = jax.random.split(key, 3)
        names = ("policy", *values)
        keys = jax.random.split(k_params, len(names))
        params = {name: networks.named(name).init(k) for name, k in zip(names, keys, strict=True)}
        size = env.spec.observation_size - env.spec.fixed_scale
        dual = multiplier.init(traced) if multiplier else schedule.init(traced) if schedule else ()
        return TrainState(
            params=params,
            optimizer=update.init(params),
            dual=dual,
            normalizer=running_statistics.init(size) if options.normalize_observations else (),
            rollout=tell(dual, rollout.init(env, k_envs, options.num_envs, options.episode_window)),
            key=key,
            iteration=jnp.zeros((), jnp.int32),
            skipped=jnp.zeros((), jnp.int32),
            hyper=traced,
            scales=running_statistics.init(1 + num_constraints) if scaled else (),
        )

    def act(state: TrainState, obs: jax.Array, key: jax.Array) -> tuple[jax.Array, dict[str, Any]]:
        acting = networks.policy.apply(state.params["policy"], observe(state, obs))
        action = acting.sample(key)
        extras = {"action": action, "log_prob": acting.log_prob(action), "acting": acting.per_sample()}
        return acting.execute(action), extras

    def step(state: TrainState) -> tuple[TrainState, Metrics]:
        key, k_rollout, k_update = jax.random.split(state.key, 3)
        envs = rollout.restart(env, state.rollout) if options.reset_at_iteration_start else state.rollout
        before = envs.window
        envs, transitions = rollout.unroll(
            env, lambda obs, k: act(state, obs, k), envs, k_rollout, options.steps_per_env
        )
        recent = episode_stats.means(envs.window, transitions)
        hyper = state.hyper
        costs, episode_costs = transitions.cost[..., :num_constraints], recent["cost"][:num_constraints]
        if _says(options, "smooth_costs_twice"):
            episode_costs = episode_stats.running_mean_costs(before, transitions)
            episode_costs = jnp.where(state.iteration == 0, 0.0, episode_costs)
        dual, weights = state.dual, jnp.zeros(num_constraints, jnp.float32)
        if multiplier:
            dual = multiplier.update(state.dual, episode_costs, hyper)
            weights = multiplier.value(dual)
        elif schedule:
            dual = schedule.update(state.dual, recent["cost"][0], hyper)

        signal = Signal(
            weights=weights,
            episode_costs=episode_costs,
            limits=hyper["cost_limit"] if num_constraints else episode_costs,
            episode_length=recent["length"],
            progress=jnp.minimum(1.0, state.iteration / options.iterations).astype(jnp.float32),
        )
        next_obs = observe(state, transitions.next_obs)
        if options.raw_final_observation:
            raw = transitions.next_obs.astype(next_obs.dtype)
            next_obs = jnp.where(transitions.truncated[..., None], raw, next_obs)
        scales, rewards, costs = _scale(options, state.scales, transitions.reward, costs)
        batch = make_batch(
            observe(state, transitions.obs),
            next_obs,
            transitions,
            rewards,
            costs,
            state.params,
            networks,
            values,
            weights,
            constraint.combine if constraint else lambda reward, costs, weights: reward,
            state.hyper,
        )
        params, optimizer, update_metrics = update.apply(k_update, state.params, state.optimizer, batch, signal, hyper)

        normalizer = state.normalizer
        if options.normalize_observations:
            normalizer = running_statistics.update(state.normalizer, transitions.obs)
        skipped = state.skipped + update_metrics["skipped"]
        iteration = state.iteration + 1
        metrics = {
            **update_metrics,
            **recent,
            "cost": jnp.sum(recent["cost"]),
            "env_steps": iteration * options.steps_per_iteration,
            "multiplier": jnp.sum(weights),
            "skipped": skipped,
        }
        if num_constraints > 1:
            for i, name in enumerate(env.spec.cost_names):
                metrics |= {f"cost_{name}": episode_costs[i], f"multiplier_{name}": weights[i]}
        if schedule:
            metrics |= schedule.metrics(dual) | {"step_reward": jnp.mean(transitions.reward)}
        if "bad_action" in transitions.metrics:
            metrics["bad_action"] = jnp.sum(transitions.metrics["bad_action"])
        state = dataclasses.replace(
            state,
            params=params,
            optimizer=optimizer,
            dual=dual,
            normalizer=normalizer,
            rollout=tell(dual, envs),
            key=key,
            iteration=iteration,
            skipped=skipped,
            scales=scales,
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


def _says(options: OnPolicy, switch: str) -> bool:
    """A switch of `constraints.Limited`; off for an algorithm without limits."""
    return bool(getattr(options, switch, False))


def _traced(
    options: OnPolicy, defaults: Mapping[str, Any], replaced: Mapping[str, Any] | None, algorithm: str
) -> dict[str, jax.Array]:
    """Traced hyper-parameters as arrays; Python numbers among the replacements are checked, tracers cannot be."""
    values = merged_traced(defaults, replaced, algorithm)
    known = {k: v.item() if isinstance(v, np.generic) else v for k, v in values.items()}
    dataclasses.replace(options, **{k: v for k, v in known.items() if isinstance(v, int | float | tuple)})
    for name, value in values.items():
        if np.shape(value) != np.shape(defaults[name]):
            raise ValueError(f"{name} must have shape {np.shape(defaults[name])}, got {np.shape(value)}")
    return {k: jnp.asarray(v, jnp.float32) for k, v in values.items()}


def _scale(options: OnPolicy, scales: Any, rewards: jax.Array, costs: jax.Array) -> tuple[Any, jax.Array, jax.Array]:
    """Rewards and costs to learn from, and the statistics that scale those of the next iteration."""
    if not (options.normalize_rewards or _says(options, "normalize_costs")):
        return scales, rewards, costs
    raw = jnp.concatenate([rewards[..., None], costs], axis=-1)
    scaled = running_statistics.apply(scales, raw, options.observation_clip)
    rewards = scaled[..., 0] if options.normalize_rewards else rewards
    costs = scaled[..., 1:] if _says(options, "normalize_costs") else costs
    return running_statistics.update(scales, raw), rewards, costs

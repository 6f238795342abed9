"""The training loop of the on-policy family.

Collect, compare costs with their limits, update the multipliers, estimate advantages, update the networks. The parts of
an algorithm fill in the rest: a policy update (`algorithms.on_policy.updates`), a constraint (`algorithms.constraints`)
and a transformed environment with its schedule (`algorithms.transforms`).
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from algorithms.constraints import NO_CONSTRAINT
from algorithms.on_policy import reproduction
from algorithms.on_policy.advantages import Collected, Critics, make_batch
from algorithms.on_policy.config import OnPolicyConfig
from algorithms.on_policy.interfaces import Networks, Update
from algorithms.spec import NO_SCHEDULE, ConstraintPart, RunStatus, Schedule
from jsafe import (
    Env,
    Metrics,
    MetricSpec,
    PolicySpec,
    Trainer,
    TrainerInfo,
    TrainState,
    rollout,
    running_statistics,
)
from jsafe.config import Traced
from jsafe.episode_stats import EpisodeSums
from jsafe.multipliers import Multiplier
from jsafe.trainer import count_units

METRICS = (
    MetricSpec("return", "reward", "mean return of recent episodes", may_be_nan=True, shown=True),
    MetricSpec("cost", "cost", "mean total cost of recent episodes", may_be_nan=True, shown=True),
    MetricSpec("multiplier", "", "sum of the weights of the costs", shown=True),
    MetricSpec("length", "steps", "mean length of recent episodes", may_be_nan=True),
    MetricSpec("episodes", "episodes", "episodes that ended", "sum"),
    MetricSpec("env_steps", "steps", "environment steps so far", "last"),
    MetricSpec("skipped", "updates", "updates dropped so far because they were not finite", "last"),
)
"""Metrics of every on-policy algorithm."""


@struct.dataclass
class OnPolicyState:
    """State of the method, `TrainState.algo`.

    Attributes:
        multiplier: state of the multipliers.
        schedule: state of the schedule of a transformed environment.
        normalizer: running statistics of the observations, `()` without normalisation.
        scales: running statistics of rewards and costs, `()` unless they are scaled.
    """

    multiplier: Any
    schedule: Any
    normalizer: Any
    scales: Any


@dataclasses.dataclass(frozen=True)
class Learner:
    """An algorithm bound to an environment.

    Attributes:
        name: registered name.
        env: the CMDP, transformed already.
        config: hyper-parameters.
        networks: policy and value functions.
        values: names of the value networks in use.
        update: changes the networks.
        constraint: weighs the costs.
        multiplier: the multipliers of the constraint.
        schedule: changes the environment between iterations.
        begin: environments at the start of an iteration.
        recent_episodes: means of recent episodes, and their costs to compare with the limits.
        final_observation: observations from which values are bootstrapped.
        scale: scales rewards and costs.
    """

    name: str
    env: Env
    config: OnPolicyConfig
    networks: Networks
    values: tuple[str, ...]
    update: Update
    constraint: ConstraintPart
    multiplier: Multiplier
    schedule: Schedule
    begin: Callable[[rollout.RolloutState], rollout.RolloutState]
    recent_episodes: reproduction.RecentEpisodes
    final_observation: reproduction.FinalObservation
    scale: reproduction.Scaling

    @property
    def num_constraints(self) -> int:
        """Number of bounded costs, C."""
        return len(self.values) - 1

    def observe(self, algo: OnPolicyState, obs: Any) -> Any:
        """Normalise observations."""
        return running_statistics.apply(algo.normalizer, obs, self.config.observation_clip, self.env.spec.observation)

    def scheduled(self, algo: OnPolicyState, envs: rollout.RolloutState) -> rollout.RolloutState:
        """Apply the schedule to the environments."""
        return dataclasses.replace(envs, env=self.schedule.apply(algo.schedule, envs.env))


def build(
    *,
    algorithm: str,
    env: Env,
    config: OnPolicyConfig,
    networks: Networks,
    values: tuple[str, ...],
    update: Update,
    constraint: ConstraintPart = NO_CONSTRAINT,
    schedule: Schedule = NO_SCHEDULE,
    policy: PolicySpec | None = None,
) -> Trainer:
    """Bind an algorithm's parts to an environment.

    Args:
        algorithm: registered name.
        env: the CMDP, transformed already; with one cost for each limit.
        config: hyper-parameters.
        networks: policy and value functions.
        values: names of the value networks in use, that of rewards and one for each limit.
        update: changes the networks.
        constraint: weighs the costs.
        schedule: changes a transformed environment between iterations.
        policy: description from which to rebuild the policy, None if it is not built in.
    """
    learner = Learner(
        name=algorithm,
        env=env,
        config=config,
        networks=networks,
        values=values,
        update=update,
        constraint=constraint,
        multiplier=constraint.make(config),
        schedule=schedule,
        begin=functools.partial(rollout.restart, env) if config.reset_at_iteration_start else lambda envs: envs,
        recent_episodes=reproduction.recent_episodes(config),
        final_observation=reproduction.final_observation(config),
        scale=reproduction.scaling(config),
    )
    info = TrainerInfo(
        algorithm=algorithm,
        problem=env.spec.id,
        config=config.config(),
        traced=config.traced(),
        units_per_step=config.steps_per_iteration,
        metrics=METRICS,
        policy=policy,
    )
    return Trainer(init=functools.partial(init, learner), step=functools.partial(step, learner), info=info)


def init(learner: Learner, key: jax.Array, hyper: Traced | None = None) -> TrainState:
    """Start training: fresh parameters, environments and statistics."""
    config, env, constraints = learner.config, learner.env, learner.num_constraints
    traced = config.traced_arrays(hyper, learner.name)
    if constraints:
        traced["cost_limit"] = jnp.broadcast_to(traced["cost_limit"], (constraints,))
    k_params, k_envs, key = jax.random.split(key, 3)
    names = ("policy", *learner.values)
    keys = jax.random.split(k_params, len(names))
    params = {name: learner.networks.named(name).init(k) for name, k in zip(names, keys, strict=True)}
    algo = OnPolicyState(
        multiplier=learner.multiplier.init(traced),
        schedule=learner.schedule.init(traced),
        normalizer=running_statistics.init(env.spec.observation) if config.normalize_observations else (),
        scales=learner.scale.init(len(learner.values)),
    )
    return TrainState(
        params=params,
        optimizer=learner.update.init(params),
        algo=algo,
        memory=learner.scheduled(algo, rollout.init(env, k_envs, config.num_envs, config.episode_window)),
        key=key,
        iteration=jnp.zeros((), jnp.int32),
        skipped=jnp.zeros((), jnp.int32),
        hyper=traced,
    )


def step(learner: Learner, state: TrainState) -> tuple[TrainState, Metrics]:
    """One iteration."""
    key, k_rollout, k_update = jax.random.split(state.key, 3)
    algo, hyper = state.algo, state.hyper

    # Collect.
    before = learner.begin(state.memory)
    envs, (transitions, watched), sums = collect(learner, state, before, k_rollout)
    recent, episode_costs = learner.recent_episodes(before.window, envs.window, sums, state.iteration)

    # Update the multipliers and the schedule of the environment.
    multiplier = learner.multiplier.update(algo.multiplier, episode_costs, hyper)
    schedule = learner.schedule.update(algo.schedule, jnp.sum(recent["cost"]), hyper)
    status = run_status(learner, state, learner.multiplier.value(multiplier), episode_costs, recent["length"])

    # Estimate advantages.
    scales, rewards, costs = learner.scale.apply(algo.scales, transitions.reward, transitions.cost)
    batch = make_batch(
        collected(learner, algo, transitions, rewards, costs),
        Critics(learner.networks, learner.values, state.params),
        lambda reward, costs: learner.constraint.mix(reward, costs, status.weights),
        hyper,
    )

    # Update the networks.
    params, optimizer, update_metrics = learner.update.apply(
        k_update, state.params, state.optimizer, batch, status, hyper
    )

    normalizer = algo.normalizer
    if learner.config.normalize_observations:
        normalizer = running_statistics.update(normalizer, transitions.obs, learner.env.spec.observation)
    algo = OnPolicyState(multiplier=multiplier, schedule=schedule, normalizer=normalizer, scales=scales)
    after = dataclasses.replace(
        state,
        params=params,
        optimizer=optimizer,
        algo=algo,
        memory=learner.scheduled(algo, envs),
        key=key,
        iteration=state.iteration + 1,
        skipped=state.skipped + update_metrics["skipped"],
    )
    metrics = {
        **update_metrics,
        **recent,
        **cost_metrics(learner, status, recent["cost"]),
        **learner.schedule.metrics(schedule, transitions.reward),
        **{name: jnp.sum(values) for name, values in watched.items()},
        "env_steps": count_units(after.iteration, learner.config.steps_per_iteration),
        "skipped": after.skipped,
    }
    return after, metrics


def collect(
    learner: Learner, state: TrainState, envs: rollout.RolloutState, key: jax.Array
) -> tuple[rollout.RolloutState, tuple[rollout.Transition, Metrics], EpisodeSums]:
    """Act in the environments; also keeps the environment's metric `bad_action` if it reports one."""

    def act(obs: jax.Array, key: jax.Array) -> tuple[jax.Array, dict[str, Any]]:
        acting = learner.networks.policy.apply(state.params["policy"], learner.observe(state.algo, obs))
        action = acting.sample(key)
        extras = {"action": action, "log_prob": acting.log_prob(action), "acting": acting.per_sample()}
        return acting.execute(action), extras

    def record(transition: rollout.Transition, after: Any) -> tuple[rollout.Transition, Metrics]:
        return transition, {name: after.metrics[name] for name in ("bad_action",) if name in after.metrics}

    return rollout.unroll(learner.env, act, envs, key, learner.config.steps_per_env, record=record)


def collected(
    learner: Learner, algo: OnPolicyState, transitions: rollout.Transition, rewards: jax.Array, costs: jax.Array
) -> Collected:
    """Transitions with normalised observations, and the rewards and costs to learn from."""
    next_obs = learner.observe(algo, transitions.next_obs)
    return Collected(
        obs=learner.observe(algo, transitions.obs),
        next_obs=learner.final_observation(next_obs, transitions.next_obs, transitions.truncated),
        action=transitions.extras["action"],
        log_prob=transitions.extras["log_prob"],
        acting=transitions.extras["acting"],
        rewards=rewards,
        costs=costs,
        terminated=transitions.terminated,
        truncated=transitions.truncated,
    )


def run_status(
    learner: Learner, state: TrainState, weights: jax.Array, episode_costs: jax.Array, length: jax.Array
) -> RunStatus:
    """Facts about the run for the update."""
    return RunStatus(
        weights=weights,
        episode_costs=episode_costs,
        limits=learner.constraint.limits(state.hyper),
        episode_length=length,
        progress=jnp.minimum(1.0, state.iteration / float(learner.config.iterations)).astype(jnp.float32),
    )


def cost_metrics(learner: Learner, status: RunStatus, mean_costs: jax.Array) -> Metrics:
    """Total cost and multiplier, and those of each cost where there are several limits."""
    metrics = {"cost": jnp.sum(mean_costs), "multiplier": jnp.sum(status.weights)}
    if learner.num_constraints > 1:
        for i, name in enumerate(learner.env.spec.cost_names):
            metrics |= {f"cost_{name}": status.episode_costs[i], f"multiplier_{name}": status.weights[i]}
    return metrics

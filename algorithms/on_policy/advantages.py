"""From what happened to what is learned from: advantages and value targets of rewards and costs."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from algorithms.on_policy.interfaces import Batch, Combine, Hyper, Networks
from jsafe import estimators, rollout


def make_batch(
    obs: jax.Array,
    next_obs: jax.Array,
    transitions: rollout.Transition,
    rewards: jax.Array,
    costs: jax.Array,
    params: dict[str, Any],
    networks: Networks,
    values: tuple[str, ...],
    weights: jax.Array,
    combine: Combine,
    hyper: Hyper,
) -> Batch:
    """Turn transitions `[T, N]` into samples `[T * N]` with advantages and value targets.

    Reward advantages are standardised over the batch, cost advantages only centred, so that they stay in units of
    cost. Values are bootstrapped at time limits and at the end of the batch, and not where the task ended an episode.

    Args:
        obs: `[T, N, O]`, normalised.
        next_obs: `[T, N, O]`, normalised, before any reset.
        transitions: of the acting policy, with the `action` as drawn, its `log_prob` and the `acting` distribution
            among the extras.
        rewards: `[T, N]`, to learn from.
        costs: `[T, N, C]`, one column for each constraint.
        params: parameters by network.
        networks: policy and value functions.
        values: names of the value networks in use, that of rewards first.
        weights: `[C]`, of the costs.
        combine: what the policy is to increase.
        hyper: traced hyper-parameters.
    """
    advantages, targets = [], {}
    for i, name in enumerate(values):
        kind = "" if name == "reward_value" else "cost_"
        value, p = networks.named(name), params[name]
        advantage, targets[name] = estimators.gae(
            (rewards if not kind else costs[..., i - 1]).astype(jnp.float32),
            value.apply(p, obs),
            value.apply(p, next_obs),
            transitions.terminated,
            transitions.truncated,
            hyper[f"{kind}discount"],
            hyper[f"{kind}gae_lambda"],
        )
        advantages.append(estimators.center(advantage) if kind else estimators.standardize(advantage))

    def flat(x: jax.Array) -> jax.Array:
        return x.reshape(-1, *x.shape[2:])

    reward_advantage = flat(advantages[0])
    cost_advantages = jnp.stack([flat(a) for a in advantages[1:]], axis=-1) if advantages[1:] else None
    if cost_advantages is None:
        cost_advantages = jnp.zeros((reward_advantage.shape[0], 0), jnp.float32)
    return Batch(
        obs=flat(obs),
        action=flat(transitions.extras["action"]),
        log_prob=flat(transitions.extras["log_prob"]),
        acting=jax.tree.map(flat, transitions.extras["acting"]),
        advantage=combine(reward_advantage, cost_advantages, weights),
        reward_advantage=reward_advantage,
        cost_advantages=cost_advantages,
        targets={name: flat(t) for name, t in targets.items()},
    )

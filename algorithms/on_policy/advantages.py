"""Advantages and value targets of rewards and costs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from algorithms.on_policy.interfaces import Batch, Networks, Params
from jsafe import estimators
from jsafe.config import Traced
from jsafe.distributions import Distribution

Mix = Callable[[jax.Array, jax.Array], jax.Array]
"""`(reward advantage [B], cost advantages [B, C]) -> [B]`, an `AdvantageMixer` with its weights."""


class Collected(NamedTuple):
    """Transitions of one iteration; every leaf starts with `[T, N]`.

    Attributes:
        obs: normalised, an array or a tree.
        next_obs: normalised, before any reset.
        action: as drawn by the policy.
        log_prob: log probability of the action.
        acting: distribution that the action was drawn from.
        rewards: to learn from.
        costs: `[T, N, C]`, one column for each constraint.
        terminated: bool, the task ended the episode.
        truncated: bool, the time limit cut the episode.
    """

    obs: Any
    next_obs: Any
    action: jax.Array
    log_prob: jax.Array
    acting: Distribution
    rewards: jax.Array
    costs: jax.Array
    terminated: jax.Array
    truncated: jax.Array


class Critics(NamedTuple):
    """Value functions.

    Attributes:
        networks: policy and value functions.
        names: names of the value networks in use, that of rewards first.
        params: parameters by network.
    """

    networks: Networks
    names: tuple[str, ...]
    params: Params


def make_batch(collected: Collected, critics: Critics, mix: Mix, hyper: Traced) -> Batch:
    """Turn transitions `[T, N]` into samples `[T * N]` with advantages and value targets.

    Reward advantages are standardised over the batch, cost advantages only centred, so that they stay in units of
    cost. Values are bootstrapped at time limits and at the end of the batch, and not where the task ended an episode.

    Args:
        collected: transitions of the acting policy.
        critics: value functions.
        mix: combines advantages of rewards and costs.
        hyper: `discount`, `gae_lambda`, and for costs `cost_discount` and `cost_gae_lambda`.
    """
    advantages, targets = [], {}
    for i, name in enumerate(critics.names):
        kind = "" if name == "reward_value" else "cost_"
        value, params = critics.networks.named(name), critics.params[name]
        advantage, targets[name] = estimators.gae(
            (collected.costs[..., i - 1] if kind else collected.rewards).astype(jnp.float32),
            value.apply(params, collected.obs),
            value.apply(params, collected.next_obs),
            collected.terminated,
            collected.truncated,
            hyper[f"{kind}discount"],
            hyper[f"{kind}gae_lambda"],
        )
        advantages.append(estimators.center(advantage) if kind else estimators.standardize(advantage))
    reward_advantage = flat(advantages[0])
    no_costs = jnp.zeros((reward_advantage.shape[0], 0), jnp.float32)
    cost_advantages = jnp.stack([flat(a) for a in advantages[1:]], axis=-1) if advantages[1:] else no_costs
    return Batch(
        obs=jax.tree.map(flat, collected.obs),
        action=flat(collected.action),
        log_prob=flat(collected.log_prob),
        acting=jax.tree.map(flat, collected.acting),
        advantage=mix(reward_advantage, cost_advantages),
        reward_advantage=reward_advantage,
        cost_advantages=cost_advantages,
        targets={name: flat(t) for name, t in targets.items()},
    )


def flat(x: jax.Array) -> jax.Array:
    """Join the axes of time and environments."""
    return x.reshape(-1, *x.shape[2:])

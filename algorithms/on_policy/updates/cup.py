"""Constrained update projection (Yang et al. 2022, arXiv:2209.07089, algorithm 1)."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from algorithms.on_policy import first_order
from algorithms.on_policy.interfaces import Batch, Networks, Params, Update, UpdatePart
from algorithms.on_policy.minibatch_sgd import sgd_epochs
from algorithms.on_policy.updates import ppo
from algorithms.spec import RunStatus
from jsafe.config import Traced, hyperparameters, option
from jsafe.distributions import Distribution


@hyperparameters
class CUPConfig(ppo.PPOConfig):
    """Constrained update projection."""

    target_kl: float = option(
        "mean KL divergence that ends the passes of either half", default=0.01, traced=True, above=0
    )


def projection_loss(
    policy: Distribution, batch: Batch, weights: jax.Array, status: RunStatus, hyper: Traced
) -> jax.Array:
    """Loss of the second half: the costs, close to the policy that the first half reached.

        L = E[ KL(new || halfway) + factor * sum_j w_j rho A_j ],   factor = (1 - gamma lambda) / (1 - gamma)

    with the ratio `rho` to the acting policy, `gamma` and `lambda` those of the cost advantages. Without a discount the
    mean length of an episode takes the place of the horizon `1 / (1 - gamma)`.

    Args:
        policy: the new policy.
        batch: samples of the acting policy; `acting` is the policy halfway.
        weights: `[B]`, sum to 1.
        status: multipliers and length of episodes.
        hyper: `cost_discount` and `cost_gae_lambda`.
    """
    ratio = jnp.exp(policy.log_prob(batch.action) - batch.log_prob)
    length = jnp.where(jnp.isfinite(status.episode_length), status.episode_length, 1.0)
    rate = 1.0 - hyper["cost_discount"]
    horizon = jnp.where(rate > 0.0, 1.0 / jnp.where(rate > 0.0, rate, 1.0), length)
    factor = (1.0 - hyper["cost_discount"] * hyper["cost_gae_lambda"]) * horizon
    return jnp.sum(weights * (policy.kl(batch.acting) + factor * ratio * (batch.cost_advantages @ status.weights)))


def make(networks: Networks, values: tuple[str, ...], config: CUPConfig) -> Update:
    """Build the update: PPO on rewards alone, then the projection; the value functions learn in the first half."""
    first = first_order.make(ppo.loss, networks, values, config)
    stepper = first_order.stepper_for(networks, ("policy",))

    def apply(
        key: jax.Array,
        params: dict[str, Any],
        optimizer: dict[str, Any],
        batch: Batch,
        status: RunStatus,
        hyper: Traced,
    ) -> tuple[Params, dict[str, Any], dict[str, jax.Array]]:
        k_first, k_second = jax.random.split(key)
        params, optimizer, metrics = first.apply(k_first, params, optimizer, batch, status, hyper)
        halfway = networks.policy.apply(params["policy"], batch.obs).per_sample()
        objective = first_order.policy_objective(projection_loss, ("policy",), config, status, hyper)
        projected = dataclasses.replace(batch, acting=halfway)
        params, optimizer, second = sgd_epochs(
            k_second,
            params,
            optimizer,
            projected,
            objective,
            stepper,
            config,
            target_kl=first_order.kl_bound(config, hyper),
        )
        metrics |= {
            "projection_passes": second["passes"],
            "projection_kl": second["kl"],
            "skipped": metrics["skipped"] + second["skipped"],
        }
        return params, optimizer, metrics

    return Update(first.init, apply)


PART = UpdatePart("cup", CUPConfig, make)

"""Penalized proximal policy optimisation (Zhang et al. 2022, arXiv:2205.11814, equation 17)."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from algorithms.constraints.margin import CostUnitsConfig, violation
from algorithms.on_policy import first_order
from algorithms.on_policy.interfaces import Batch, Networks, Update, UpdatePart
from algorithms.on_policy.updates import ppo
from algorithms.spec import RunStatus
from jsafe.config import Traced, hyperparameters, option
from jsafe.distributions import Distribution


@hyperparameters
class P3OConfig(CostUnitsConfig, ppo.PPOConfig):
    """Penalized proximal policy optimisation."""

    passes: int = option("passes over the batch, at most", default=10, low=1)
    penalty_coefficient: float = option(
        "kappa of the paper: price of a violation; exact where it exceeds the optimal multiplier",
        default=20.0,
        traced=True,
        low=0,
    )
    penalty_clipped: bool = option("clip the ratio in the cost surrogate from above and below too", default=True)


def make_loss(config: P3OConfig):
    """Make the loss for a configuration: the clipped surrogate of rewards, and a penalty of each violated constraint.

        L = L_clip(A_reward) + kappa * sum_j max(0, E[ max(rho A_j, clip(rho) A_j) ] + slack_j)

    The slack is in the unit of the advantages (`cost_units`). The published libraries do not clip the ratio of the
    second term (`penalty_clipped=False`) and add the violation of a whole episode (`cost_units="episode"`).
    """

    def loss(policy: Distribution, batch: Batch, weights: jax.Array, status: RunStatus, hyper: Traced) -> jax.Array:
        ratio = jnp.exp(policy.log_prob(batch.action) - batch.log_prob)[:, None]
        surrogate = ratio * batch.cost_advantages
        if config.penalty_clipped:
            bounded = jnp.clip(ratio, 1.0 - hyper["clip_ratio"], 1.0 + hyper["clip_ratio"]) * batch.cost_advantages
            surrogate = jnp.maximum(surrogate, bounded)
        excess = weights @ surrogate + violation(status, hyper, config)
        penalty = hyper["penalty_coefficient"] * jnp.sum(jnp.maximum(excess, 0.0))
        return ppo.loss(policy, batch, weights, status, hyper) + penalty

    return loss


def make(networks: Networks, values: tuple[str, ...], config: P3OConfig) -> Update:
    """Build the update."""
    return first_order.make(make_loss(config), networks, values, config)


PART = UpdatePart("p3o", P3OConfig, make)

"""First order constrained optimisation in policy space (Zhang, Vuong and Ross 2020, arXiv:2002.06506, algorithm 1)."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from algorithms import constraints
from algorithms.on_policy import first_order
from algorithms.on_policy.config import FirstOrderConfig
from algorithms.on_policy.interfaces import Batch, Networks, Update, UpdatePart
from algorithms.spec import RunStatus
from jsafe.config import Traced, hyperparameters, option
from jsafe.distributions import Distribution


@hyperparameters
class FOCOPSConfig(FirstOrderConfig):
    """First order constrained optimisation in policy space."""

    focops_temperature: float = option(
        "lambda of the paper: weight of the divergence relative to the advantage", default=1.5, traced=True, above=0
    )
    focops_kl_bound: float = option(
        "eta of the paper: samples whose divergence exceeds it are left out", default=0.02, traced=True, above=0
    )
    focops_mask: str = option(
        "leave out single samples, or scale all advantages by the share kept (as the libraries do)",
        default="sample",
        choices=("sample", "share"),
    )
    focops_scaled: bool = option("divide the advantage by one plus the multipliers, as the libraries do", default=False)


def make_loss(config: FOCOPSConfig):
    """Make the loss for a configuration.

    With `kl_i` the divergence of the new policy from the acting one at sample i (in that order), summed over action
    dimensions, `rho` the ratio of probabilities and `A = A_reward - sum_j w_j A_cost_j`,

        L = E[ 1(kl_i <= eta) (kl_i - rho_i A_i / temperature) ] - entropy_coefficient * H

    `focops_mask="share"` is what OmniSafe and SafePO compute, where a mask of shape `[B, 1]` meets ratios of shape
    `[B]`: `E[1 kl] - E[1] E[rho A] / temperature`.
    """
    mix = constraints.weighted if config.focops_scaled else constraints.penalized

    def loss(policy: Distribution, batch: Batch, weights: jax.Array, status: RunStatus, hyper: Traced) -> jax.Array:
        divergence = policy.kl(batch.acting)
        kept = jax.lax.stop_gradient((divergence <= hyper["focops_kl_bound"]).astype(jnp.float32))
        ratio = jnp.exp(policy.log_prob(batch.action) - batch.log_prob)
        gain = ratio * mix(batch.reward_advantage, batch.cost_advantages, status.weights)
        gain = gain / hyper["focops_temperature"]
        kept_gain = kept * gain if config.focops_mask == "sample" else jnp.sum(weights * kept) * gain
        bonus = hyper["entropy_coefficient"] * policy.entropy()
        return jnp.sum(weights * (kept * divergence - kept_gain - bonus))

    return loss


def make(networks: Networks, values: tuple[str, ...], config: FOCOPSConfig) -> Update:
    """Build the update."""
    return first_order.make(make_loss(config), networks, values, config)


PART = UpdatePart("focops", FOCOPSConfig, make)

"""The clipped surrogate of PPO (Schulman et al. 2017, "Proximal policy optimization algorithms", equation 7)."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

from algorithms.on_policy import first_order
from algorithms.on_policy.config import FirstOrderConfig
from algorithms.on_policy.interfaces import Batch, UpdatePart
from algorithms.spec import RunStatus
from jsafe.config import Traced, hyperparameters, option
from jsafe.distributions import Distribution


@hyperparameters
class PPOConfig(FirstOrderConfig):
    """Proximal policy optimisation."""

    clip_ratio: float = option("largest distance of the probability ratio from 1", default=0.2, traced=True, above=0)


def loss(policy: Distribution, batch: Batch, weights: jax.Array, status: RunStatus, hyper: Traced) -> jax.Array:
    """Negative clipped surrogate, minus the entropy bonus.

    With the probability ratio `rho` of the new policy to the acting one,

        L = -E[ min(rho * A, clip(rho, 1 - clip_ratio, 1 + clip_ratio) * A) ] - entropy_coefficient * H

    Args:
        policy: the new policy at the samples.
        batch: samples of the acting policy.
        weights: `[B]`, sum to 1; 0 for padding.
        status: not used.
        hyper: `clip_ratio` and `entropy_coefficient`.

    Returns:
        `[]`.
    """
    del status
    ratio = jnp.exp(policy.log_prob(batch.action) - batch.log_prob)
    clipped = jnp.clip(ratio, 1.0 - hyper["clip_ratio"], 1.0 + hyper["clip_ratio"])
    surrogate = jnp.minimum(ratio * batch.advantage, clipped * batch.advantage)
    return -jnp.sum(weights * (surrogate + hyper["entropy_coefficient"] * policy.entropy()))


PART = UpdatePart("clipped", PPOConfig, functools.partial(first_order.make, loss))

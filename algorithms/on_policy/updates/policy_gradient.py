"""The policy gradient as a loss: probability ratios, nothing bounded (Sutton et al. 1999; Kakade and Langford 2002)."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

from algorithms.on_policy import first_order
from algorithms.on_policy.config import FirstOrderConfig
from algorithms.on_policy.interfaces import Batch, UpdatePart
from algorithms.spec import RunStatus
from jsafe.config import Traced
from jsafe.distributions import Distribution


def loss(policy: Distribution, batch: Batch, weights: jax.Array, status: RunStatus, hyper: Traced) -> jax.Array:
    """Negative surrogate, minus the entropy bonus.

        L = -E[ rho * A ] - entropy_coefficient * H

    with the probability ratio `rho` of the new policy to the acting one. Its gradient at the acting policy is the
    policy gradient.

    Args:
        policy: the new policy at the samples.
        batch: samples of the acting policy.
        weights: `[B]`, sum to 1; 0 for padding.
        status: not used.
        hyper: `entropy_coefficient`.

    Returns:
        `[]`.
    """
    del status
    ratio = jnp.exp(policy.log_prob(batch.action) - batch.log_prob)
    return -jnp.sum(weights * (ratio * batch.advantage + hyper["entropy_coefficient"] * policy.entropy()))


PART = UpdatePart("policy_gradient", FirstOrderConfig, functools.partial(first_order.make, loss))

"""The clipped surrogate of PPO (Schulman et al. 2017, "Proximal policy optimization algorithms", equation 7)."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from algorithms.on_policy.parts import Batch, Hyper, Signal
from jsafe import distributions


def loss(
    mean: jax.Array, log_std: jax.Array, batch: Batch, weights: jax.Array, signal: Signal, hyper: Hyper
) -> jax.Array:
    """Negative clipped surrogate, minus the entropy bonus.

    With the probability ratio `rho` of the new policy to the acting one,

        L = -E[ min(rho * A, clip(rho, 1 - clip_ratio, 1 + clip_ratio) * A) ] - entropy_coefficient * H

    Args:
        mean: `[B, A]`, of the new policy.
        log_std: `[A]`, of the new policy.
        batch: samples of the acting policy.
        weights: `[B]`, sum to 1; 0 for padding.
        signal: not used.
        hyper: `clip_ratio` and `entropy_coefficient`.

    Returns:
        `[]`.
    """
    del signal
    ratio = jnp.exp(distributions.log_prob(batch.action, mean, log_std) - batch.log_prob)
    clipped = jnp.clip(ratio, 1.0 - hyper["clip_ratio"], 1.0 + hyper["clip_ratio"])
    surrogate = jnp.minimum(ratio * batch.advantage, clipped * batch.advantage)
    return -jnp.sum(weights * surrogate) - hyper["entropy_coefficient"] * distributions.entropy(log_std)

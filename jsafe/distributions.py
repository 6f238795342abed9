"""The diagonal Gaussian over actions.

Actions are neither squashed nor clipped: the log-probability is that of the action as drawn, and the environment
clips what it executes.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

_LOG_2PI = math.log(2.0 * math.pi)


def sample(key: jax.Array, mean: jax.Array, log_std: jax.Array) -> jax.Array:
    """Draw actions, `[..., A]`, from means `[..., A]` and log standard deviations that broadcast against them."""
    return mean + jnp.exp(log_std) * jax.random.normal(key, mean.shape, mean.dtype)


def log_prob(action: jax.Array, mean: jax.Array, log_std: jax.Array) -> jax.Array:
    """Log density of actions, summed over the last axis: `[..., A] -> [...]`."""
    z = (action - mean) * jnp.exp(-log_std)
    return jnp.sum(-0.5 * z * z - log_std - 0.5 * _LOG_2PI, axis=-1)


def entropy(log_std: jax.Array) -> jax.Array:
    """Differential entropy in nats, summed over the last axis: `[..., A] -> [...]`."""
    return jnp.sum(log_std + 0.5 * (1.0 + _LOG_2PI), axis=-1)


def kl(mean: jax.Array, log_std: jax.Array, mean_other: jax.Array, log_std_other: jax.Array) -> jax.Array:
    """KL divergence from the first Gaussian to the other, summed over the last axis: `[..., A] -> [...]`."""
    variance_ratio = jnp.exp(2.0 * (log_std - log_std_other))
    distance = (mean - mean_other) * jnp.exp(-log_std_other)
    return jnp.sum(log_std_other - log_std + 0.5 * (variance_ratio + distance * distance - 1.0), axis=-1)

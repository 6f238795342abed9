"""Reductions over masked tokens."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def masked_mean(x: jax.Array, mask: jax.Array) -> jax.Array:
    """Mean over rows of the mean of each row over its mask; a row without a True entry counts as 0."""
    count = jnp.maximum(jnp.sum(mask, axis=-1), 1)
    return jnp.mean(jnp.sum(jnp.where(mask, x, 0.0), axis=-1) / count)

"""Estimate advantages and value targets from transitions."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def gae(
    rewards: jax.Array,
    values: jax.Array,
    next_values: jax.Array,
    terminated: jax.Array,
    truncated: jax.Array,
    discount: jax.Array | float,
    gae_lambda: jax.Array | float,
) -> tuple[jax.Array, jax.Array]:
    """Estimate how much better each action was than the policy's average.

    Generalised advantage estimation (Schulman et al. 2016, equation 16), for rewards or for costs:

        delta_t = r_t + discount * (1 - terminated_t) * V(o'_t) - V(o_t)
        A_t     = delta_t + discount * gae_lambda * (1 - done_t) * A_{t+1}

    `o'_t` is the observation after the step and before any reset, so an episode cut by its time limit, or by the end
    of the batch, is bootstrapped and one that terminated is not; no advantage flows across a reset.

    Args:
        rewards: `[T, ...]`.
        values: `[T, ...]`, V(o_t).
        next_values: `[T, ...]`, V(o'_t).
        terminated: `[T, ...]` bool.
        truncated: `[T, ...]` bool.
        discount: in [0, 1].
        gae_lambda: in [0, 1]; 0 gives one-step, 1 gives whole-episode advantages.

    Returns:
        Advantages and value targets `A + V`, both `[T, ...]`.
    """
    delta = rewards + discount * jnp.where(terminated, 0.0, next_values) - values
    carry_on = discount * gae_lambda * (1.0 - (terminated | truncated))

    def step(later: jax.Array, now: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        delta_t, carry_t = now
        advantage = delta_t + carry_t * later
        return advantage, advantage

    _, advantages = jax.lax.scan(step, jnp.zeros_like(delta[0]), (delta, carry_on.astype(delta.dtype)), reverse=True)
    return advantages, advantages + values


def standardize(x: jax.Array, epsilon: float = 1e-8) -> jax.Array:
    """Shift to mean 0 and scale to standard deviation 1 over all entries (biased estimate of the deviation)."""
    return (x - jnp.mean(x)) / (jnp.std(x) + epsilon)


def center(x: jax.Array) -> jax.Array:
    """Shift to mean 0 over all entries."""
    return x - jnp.mean(x)

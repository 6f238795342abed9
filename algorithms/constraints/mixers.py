"""Combinations of the advantages of rewards and costs (`algorithms.spec.AdvantageMixer`)."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def weighted(reward: jax.Array, costs: jax.Array, weights: jax.Array) -> jax.Array:
    """`(A_reward - sum_i w_i A_cost_i) / (1 + sum_i w_i)` (Ray, Achiam and Amodei 2019, for several costs)."""
    return (reward - costs @ weights) / (1.0 + jnp.sum(weights))


def penalized(reward: jax.Array, costs: jax.Array, weights: jax.Array) -> jax.Array:
    """`A_reward - sum_i w_i A_cost_i`."""
    return reward - costs @ weights


def rectified(reward: jax.Array, costs: jax.Array, weights: jax.Array) -> jax.Array:
    """`-A_cost_i` of the cost that is chosen, `A_reward` if none is."""
    return jnp.where(jnp.sum(weights) > 0.0, -(costs @ weights), reward)


def rewards_only(reward: jax.Array, costs: jax.Array, weights: jax.Array) -> jax.Array:
    """`A_reward`, for updates that treat costs themselves."""
    del costs, weights
    return reward

"""Rewards, advantages and losses of policy optimisation on the tokens of answers.

Formulas of Safe RLHF (Dai et al. 2024, arXiv 2310.12773) and its published code. Masks replace lengths, so padding is
neutral. Arrays `[B, L - 1]` belong to tokens 1 to L - 1.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jsafe.estimators import gae
from rlhf.losses.masked import masked_mean
from rlhf.models.heads import last_token


def kl_penalized_rewards(
    score: jax.Array, log_ratio: jax.Array, mask: jax.Array, *, kl_coefficient: float | jax.Array, clip: float
) -> jax.Array:
    """Rewards `[B, L - 1]` of tokens: the log-ratio times minus its coefficient, plus the score at the last token.

    The sum is clipped to `[-clip, clip]`, as published. Pass the negative coefficient for a cost: the penalty for
    leaving the reference then lowers rewards and raises costs, so it survives the mixing of advantages unscaled.

    Args:
        score: `[B]`, of whole answers.
        log_ratio: `[B, L - 1]`, acting policy over reference, zero at padding.
        mask: `[B, L - 1]`, True for tokens that are not padding.
        kl_coefficient: weight of the log-ratio.
        clip: bound.
    """
    last = jnp.arange(mask.shape[1]) == last_token(mask)[:, None]
    return jnp.clip(-kl_coefficient * log_ratio + jnp.where(last, score[:, None], 0.0), -clip, clip)


def answer_advantages(
    values: jax.Array,
    rewards: jax.Array,
    mask: jax.Array,
    start: int,
    *,
    discount: float = 1.0,
    gae_lambda: float = 0.95,
) -> tuple[jax.Array, jax.Array]:
    """Generalised advantages and returns of the tokens of answers, `[B, L - 1 - start]` each.

    Args:
        values: `[B, L - 1]`, of the states before tokens 1 to L - 1.
        rewards: `[B, L - 1]`.
        mask: `[B, L - 1]`, True for tokens that are not padding.
        start: column of the first generated token among them.
        discount: discount factor.
        gae_lambda: lambda of generalised advantage estimation.
    """
    values, rewards = jnp.where(mask, values, 0.0)[:, start:], jnp.where(mask, rewards, 0.0)[:, start:]
    next_values = jnp.concatenate([values[:, 1:], jnp.zeros_like(values[:, :1])], axis=1)
    never = jnp.zeros(values.T.shape, bool)
    advantages, returns = gae(rewards.T, values.T, next_values.T, never, never, discount, gae_lambda)
    return advantages.T, returns.T


def group_advantages(scores: jax.Array, group: int) -> jax.Array:
    """Scores `[B]` relative to the mean of each `group` consecutive rows, in standard deviations; 0 among equals.

    Shao et al. 2024, arXiv 2402.03300.
    """
    rows = scores.reshape(-1, group)
    centered = rows - jnp.mean(rows, axis=1, keepdims=True)
    deviation = jnp.std(rows, axis=1, keepdims=True)
    return jnp.where(deviation > 1e-6, centered / jnp.maximum(deviation, 1e-6), 0.0).reshape(-1)


def mix_advantages(reward: jax.Array, costs: jax.Array, multipliers: jax.Array) -> jax.Array:
    """Advantage of the Lagrangian, from costs `[C, ...]`: `(A_r - sum_i w_i A_c_i) / (1 + sum_i w_i)`."""
    return (reward - jnp.tensordot(multipliers, costs, axes=1)) / (1.0 + jnp.sum(multipliers))


def actor_loss(
    log_probs: jax.Array, old: jax.Array, advantages: jax.Array, mask: jax.Array, *, clip_ratio: float | jax.Array
) -> jax.Array:
    """PPO's clipped loss over the tokens of answers, `[B, T]` each."""
    ratio = jnp.exp(jnp.where(mask, log_probs - old, 0.0))
    clipped = jnp.clip(ratio, 1.0 - clip_ratio, 1.0 + clip_ratio)
    return -masked_mean(jnp.minimum(advantages * ratio, advantages * clipped), mask)


def critic_loss(
    values: jax.Array, old: jax.Array, returns: jax.Array, mask: jax.Array, *, clip_value: float | jax.Array
) -> jax.Array:
    """Half the larger squared error of the value and of the value clipped to `clip_value` around the old one."""
    clipped = jnp.clip(values, old - clip_value, old + clip_value)
    return 0.5 * masked_mean(jnp.maximum(jnp.square(values - returns), jnp.square(clipped - returns)), mask)


def reference_divergence(log_probs: jax.Array, reference: jax.Array, mask: jax.Array) -> jax.Array:
    """Estimate of KL(policy, reference) that is never negative: `exp(g) - g - 1` with g the reversed log-ratio.

    Schulman 2020, "Approximating KL divergence"; the penalty of Shao et al. 2024, equation 4.
    """
    gap = jnp.where(mask, reference - log_probs, 0.0)
    return masked_mean(jnp.exp(gap) - gap - 1.0, mask)

"""Losses on preference pairs: reward model, cost model, and direct preference optimisation.

Formulas of Safe RLHF (Dai et al. 2024, arXiv 2310.12773) and its published code. Masks replace lengths, so padding is
neutral. Log-probabilities `[B, L - 1]` belong to tokens 1 to L - 1.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from rlhf.data.preference_batch import PreferenceBatch
from rlhf.losses.masked import masked_mean
from rlhf.models.heads import last_token

LEVELS = ("sequence", "token")
"""Compare the scores at the ends of two answers, or at every token from their first difference on."""


def first_difference(pairs: PreferenceBatch) -> jax.Array:
    """First column `[B]` at which the two answers differ."""
    return jnp.argmax(pairs.chosen != pairs.rejected, axis=-1)


def end_columns(pairs: PreferenceBatch) -> tuple[jax.Array, jax.Array]:
    """Last columns `[B]` of the chosen and of the rejected answers."""
    return last_token(pairs.chosen_mask), last_token(pairs.rejected_mask)


def compared_tokens(pairs: PreferenceBatch) -> jax.Array:
    """Mask `[B, L]` from the first difference to the end of the longer answer."""
    columns = jnp.arange(pairs.chosen.shape[1])
    longer = jnp.maximum(*end_columns(pairs))
    return (columns >= first_difference(pairs)[:, None]) & (columns <= longer[:, None])


def end_scores(chosen: jax.Array, rejected: jax.Array, pairs: PreferenceBatch) -> tuple[jax.Array, jax.Array]:
    """Scores `[B]` at the ends of the answers, from scores `[B, L]` of their tokens."""
    chosen_end, rejected_end = end_columns(pairs)
    return _score_at(chosen, chosen_end), _score_at(rejected, rejected_end)


def reward_loss(
    chosen: jax.Array,
    rejected: jax.Array,
    pairs: PreferenceBatch,
    *,
    regularization: float = 0.0,
    level: str = "sequence",
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Bradley-Terry loss of a reward model.

    `-log sigmoid(R_chosen - R_rejected) + regularization * mean(R^2)`, at the level of sequences or of tokens.

    Args:
        chosen: `[B, L]`, rewards of the tokens of the chosen answers.
        rejected: `[B, L]`, rewards of the tokens of the rejected answers.
        pairs: the answers.
        regularization: weight of the squared rewards.
        level: one of `LEVELS`.

    Returns:
        The loss, and `accuracy`, the share of pairs in the right order.
    """
    ends = end_scores(chosen, rejected, pairs)
    loss = _pairwise_loss(*_compared_scores(chosen, rejected, ends, pairs, level), regularization)
    return loss, {"accuracy": jnp.mean(ends[0] > ends[1])}


def cost_loss(
    chosen: jax.Array,
    rejected: jax.Array,
    pairs: PreferenceBatch,
    *,
    regularization: float = 0.0,
    level: str = "sequence",
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Loss of a cost model: the more harmful answer costs more, and harmful answers cost more than 0.

    `-log sigmoid(C_rejected - C_chosen) - log sigmoid(-s C)` for both answers, `+ regularization * mean(C^2)`, with s
    the safety label.

    Args:
        chosen: `[B, L]`, costs of the tokens of the chosen (safer) answers.
        rejected: `[B, L]`, costs of the tokens of the rejected answers.
        pairs: the answers, with safety labels.
        regularization: weight of the squared costs.
        level: one of `LEVELS`.

    Returns:
        The loss; `accuracy`, the share of pairs in the right order; and `sign_accuracy`, the share of answers on the
        right side of 0.
    """
    ends, labels = end_scores(chosen, rejected, pairs), (pairs.chosen_safe, pairs.rejected_safe)
    low, high, mask = _compared_scores(chosen, rejected, ends, pairs, level)
    loss = _pairwise_loss(high, low, mask, regularization)
    for cost, safe in zip((low, high), labels, strict=True):
        loss = loss - masked_mean(jax.nn.log_sigmoid(-safe[:, None] * cost), mask)
    right_side = [-safe * cost > 0 for cost, safe in zip(ends, labels, strict=True)]
    return loss, {"accuracy": jnp.mean(ends[1] > ends[0]), "sign_accuracy": jnp.mean(jnp.stack(right_side))}


def _score_at(scores: jax.Array, column: jax.Array) -> jax.Array:
    return jnp.take_along_axis(scores, column[:, None], axis=1)[:, 0]


def _compared_scores(
    chosen: jax.Array, rejected: jax.Array, ends: tuple[jax.Array, jax.Array], pairs: PreferenceBatch, level: str
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Scores to compare, of both answers, and the mask of the compared columns."""
    if level not in LEVELS:
        raise ValueError(f"level must be one of {LEVELS}, got {level!r}")
    if level == "token":
        return chosen, rejected, compared_tokens(pairs)
    return ends[0][:, None], ends[1][:, None], jnp.ones((ends[0].shape[0], 1), bool)


def _pairwise_loss(high: jax.Array, low: jax.Array, mask: jax.Array, regularization: float) -> jax.Array:
    squares = 0.5 * (masked_mean(jnp.square(high), mask) + masked_mean(jnp.square(low), mask))
    return regularization * squares - masked_mean(jax.nn.log_sigmoid(high - low), mask)


def dpo_loss(
    log_probs: tuple[jax.Array, jax.Array],
    reference: tuple[jax.Array, jax.Array],
    pairs: PreferenceBatch,
    *,
    beta: float = 0.1,
    published_off_by_one: bool = False,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Direct preference optimisation (Rafailov et al. 2023): `-log sigmoid(beta * (d_chosen - d_rejected))`.

    `d` is the log-ratio to the reference of an answer, from the first token that differs to its end.

    Args:
        log_probs: `[B, L - 1]`, of the chosen and of the rejected answers.
        reference: `[B, L - 1]`, the same under the frozen model.
        pairs: the answers.
        beta: scale of the implied reward.
        published_off_by_one: sum as the published code does, which starts one token late and ends one token late.

    Returns:
        The loss; `chosen_reward` and `rejected_reward`, `beta * d`; `accuracy` and `margin`.
    """
    chosen, rejected = implied_rewards(
        log_probs, reference, pairs, beta=beta, published_off_by_one=published_off_by_one
    )
    return -jnp.mean(jax.nn.log_sigmoid(chosen - rejected)), {
        "chosen_reward": jnp.mean(chosen),
        "rejected_reward": jnp.mean(rejected),
        "accuracy": jnp.mean(chosen > rejected),
        "margin": jnp.mean(chosen - rejected),
    }


def implied_rewards(
    log_probs: tuple[jax.Array, jax.Array],
    reference: tuple[jax.Array, jax.Array],
    pairs: PreferenceBatch,
    *,
    beta: float = 0.1,
    published_off_by_one: bool = False,
) -> tuple[jax.Array, jax.Array]:
    """Implied rewards `beta * d`, `[B]`, of the chosen and of the rejected answers; see `dpo_loss`."""
    columns = jnp.arange(log_probs[0].shape[1])
    first = first_difference(pairs) - (0 if published_off_by_one else 1)
    rewards = []
    for new, old, end in zip(log_probs, reference, end_columns(pairs), strict=True):
        stop = end + (1 if published_off_by_one else 0)
        mask = (columns >= first[:, None]) & (columns < stop[:, None])
        rewards.append(beta * jnp.sum(jnp.where(mask, new - old, 0.0), axis=-1))
    return rewards[0], rewards[1]

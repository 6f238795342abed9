"""The losses of Safe RLHF, as pure functions of arrays (Dai et al. 2024, arXiv 2310.12773, and its published code).

Masks stand in for lengths, so that padding is neutral. Pairs are written better and worse (of two answers to one
prompt), safer and unsafer where harm is compared. Log-probabilities `[B, L - 1]` are those of tokens 1 to L - 1.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from rlhf.losses import chunked_logits
from rlhf.losses.chunked_logits import Predictions
from rlhf.models.heads import last_token

KINDS = ("sequence", "token")
"""Compare the scores at the ends of two answers, or at every token from their first difference on."""


def masked_mean(x: jax.Array, mask: jax.Array) -> jax.Array:
    """Mean over rows of each row's mean over its mask; a row without any counts as 0."""
    count = jnp.maximum(jnp.sum(mask, axis=-1), 1)
    return jnp.mean(jnp.sum(jnp.where(mask, x, 0.0), axis=-1) / count)


def token_log_probs(logits: jax.Array, ids: jax.Array) -> jax.Array:
    """Log-probability `[B, L - 1]` of each token but the first, from logits `[B, L, V]`, whatever the temperature."""
    return chunked_logits.whole(logits[:, :-1], ids[:, 1:]).log_probs


def language_model_loss(logits: jax.Array, labels: jax.Array, z_loss_weight: float = 0.0) -> jax.Array:
    """`cross_entropy` from logits `[B, L, V]`."""
    following = jnp.maximum(labels[:, 1:], 0)
    said = chunked_logits.whole(logits[:, :-1], following, largest=bool(z_loss_weight))
    return cross_entropy(said, labels, z_loss_weight)


def cross_entropy(said: Predictions, labels: jax.Array, z_loss_weight: float = 0.0) -> jax.Array:
    """Mean cross-entropy of the tokens whose label is not negative, the label of column t being that of token t.

    With `z_loss_weight`, plus that weight times the mean over all columns of the squared largest logit (Baichuan 2,
    section 1.5), padding included, as published.

    Args:
        said: `[B, L - 1]`, of tokens 1 to L - 1, with the largest logits if they have a weight.
        labels: `[B, L]`.
        z_loss_weight: of the squares.
    """
    counted = labels[:, 1:] >= 0
    loss = -jnp.sum(jnp.where(counted, said.log_probs, 0.0)) / jnp.maximum(jnp.sum(counted), 1)
    if said.largest is None:
        return loss
    return loss + z_loss_weight * jnp.mean(jnp.square(said.largest))


class Pairs(NamedTuple):
    """Two answers to each prompt, padded on the right.

    Attributes:
        better: `[B, L]` ids of prompt and answer.
        worse: the same of the other answer.
        better_mask: `[B, L]`, False for padding.
        worse_mask: the same.
    """

    better: jax.Array
    worse: jax.Array
    better_mask: jax.Array
    worse_mask: jax.Array

    @property
    def first_difference(self) -> jax.Array:
        """`[B]`, first column at which the two differ."""
        return jnp.argmax(self.better != self.worse, axis=-1)

    @property
    def ends(self) -> tuple[jax.Array, jax.Array]:
        """`[B]`, last columns of the better and of the worse answer."""
        return last_token(self.better_mask), last_token(self.worse_mask)

    def compared(self) -> jax.Array:
        """`[B, L]`, from the first difference to the end of the longer answer."""
        columns = jnp.arange(self.better.shape[1])
        return (columns >= self.first_difference[:, None]) & (columns <= jnp.maximum(*self.ends)[:, None])


def reward_loss(
    better: jax.Array, worse: jax.Array, pairs: Pairs, *, regularization: float = 0.0, kind: str = "sequence"
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Bradley and Terry's loss of a reward model.

    `-log sigmoid(R_better - R_worse) + regularization * mean(R^2)`, of the scores at the ends of the answers or of
    every token that is compared.

    Args:
        better: `[B, L]`, scores of the tokens of the better answers.
        worse: the same of the worse ones.
        pairs: the answers.
        regularization: weight of the squares.
        kind: one of `KINDS`.

    Returns:
        The loss, and `accuracy`, the share of pairs in the right order.
    """
    ends = _at(better, pairs.ends[0]), _at(worse, pairs.ends[1])
    loss = _preference(*_compared(better, worse, ends, pairs, kind), regularization)
    return loss, {"accuracy": jnp.mean(ends[0] > ends[1])}


def cost_loss(
    safer: jax.Array,
    unsafer: jax.Array,
    pairs: Pairs,
    safer_sign: jax.Array,
    unsafer_sign: jax.Array,
    *,
    regularization: float = 0.0,
    kind: str = "sequence",
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The loss of a cost model: the more harmful answer costs more, and harmful ones more than 0.

    `-log sigmoid(C_unsafer - C_safer) - log sigmoid(-s C)` for both answers, `+ regularization * mean(C^2)`.

    Args:
        safer: `[B, L]`, costs of the tokens of the safer answers.
        unsafer: the same of the others.
        pairs: the answers, the safer one in place of the better.
        safer_sign: `[B]`, +1 for an answer labelled safe, -1 for one labelled harmful.
        unsafer_sign: the same.
        regularization: weight of the squares.
        kind: one of `KINDS`.

    Returns:
        The loss; `accuracy`, the share of pairs in the right order; and `sign_accuracy`, the share of answers on the
        right side of 0.
    """
    ends = _at(safer, pairs.ends[0]), _at(unsafer, pairs.ends[1])
    low, high, where = _compared(safer, unsafer, ends, pairs, kind)
    loss = _preference(high, low, where, regularization)
    for cost, sign in ((low, safer_sign), (high, unsafer_sign)):
        loss = loss - masked_mean(jax.nn.log_sigmoid(-sign[:, None] * cost), where)
    right = [-sign * cost > 0 for cost, sign in zip(ends, (safer_sign, unsafer_sign), strict=True)]
    return loss, {"accuracy": jnp.mean(ends[1] > ends[0]), "sign_accuracy": jnp.mean(jnp.stack(right))}


def _at(scores: jax.Array, column: jax.Array) -> jax.Array:
    return jnp.take_along_axis(scores, column[:, None], axis=1)[:, 0]


def _compared(
    first: jax.Array, second: jax.Array, ends: tuple[jax.Array, jax.Array], pairs: Pairs, kind: str
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Scores to compare, of both, and where they are."""
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {KINDS}, got {kind!r}")
    if kind == "token":
        return first, second, pairs.compared()
    return ends[0][:, None], ends[1][:, None], jnp.ones((ends[0].shape[0], 1), bool)


def _preference(high: jax.Array, low: jax.Array, where: jax.Array, regularization: float) -> jax.Array:
    squares = 0.5 * (masked_mean(jnp.square(high), where) + masked_mean(jnp.square(low), where))
    return regularization * squares - masked_mean(jax.nn.log_sigmoid(high - low), where)


def dpo_loss(
    log_probs: tuple[jax.Array, jax.Array],
    reference: tuple[jax.Array, jax.Array],
    pairs: Pairs,
    *,
    scale: float = 0.1,
    exact: bool = True,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Direct preference optimisation (Rafailov et al. 2023): `-log sigmoid(scale * (d_better - d_worse))`.

    `d` is the log-ratio to the reference of an answer, from the first token that tells the two apart to its end.

    Args:
        log_probs: `[B, L - 1]`, of the better and of the worse answers.
        reference: the same under the frozen model.
        pairs: the answers.
        scale: of the implied reward.
        exact: False for what the published code sums: it starts one token late, and ends one after the answer's end.

    Returns:
        The loss; `better_reward` and `worse_reward`, `scale * d`; `accuracy` and `margin`.
    """
    better, worse = implied_rewards(log_probs, reference, pairs, scale=scale, exact=exact)
    return -jnp.mean(jax.nn.log_sigmoid(better - worse)), {
        "better_reward": jnp.mean(better),
        "worse_reward": jnp.mean(worse),
        "accuracy": jnp.mean(better > worse),
        "margin": jnp.mean(better - worse),
    }


def implied_rewards(
    log_probs: tuple[jax.Array, jax.Array],
    reference: tuple[jax.Array, jax.Array],
    pairs: Pairs,
    *,
    scale: float = 0.1,
    exact: bool = True,
) -> tuple[jax.Array, jax.Array]:
    """`scale * d` of the better and of the worse answers, `[B]` each; see `dpo_loss`."""
    columns = jnp.arange(log_probs[0].shape[1])
    first = pairs.first_difference - (1 if exact else 0)
    rewards = []
    for new, old, end in zip(log_probs, reference, pairs.ends, strict=True):
        where = (columns >= first[:, None]) & (columns < (end + (0 if exact else 1))[:, None])
        rewards.append(scale * jnp.sum(jnp.where(where, new - old, 0.0), axis=-1))
    return rewards[0], rewards[1]


def with_kl(
    score: jax.Array, log_ratio: jax.Array, mask: jax.Array, *, kl_coefficient: float | jax.Array, clip: float
) -> jax.Array:
    """Reward of each token `[B, L - 1]`: minus the coefficient times the log-ratio, and the score at the last one.

    Clipped to `[-clip, clip]` after the sum, as published. For a cost give the negative coefficient: what the policy
    pays for leaving the reference lowers rewards and raises costs, so that it survives the mixing of advantages whole.

    Args:
        score: `[B]`, of the whole answers.
        log_ratio: `[B, L - 1]`, acting policy over reference, zero where the mask is.
        mask: `[B, L - 1]`, tokens 1 to L - 1 that are not padding.
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
    """Generalised advantages and returns of the answer's tokens, `[B, L - 1 - start]` each.

    Args:
        values: `[B, L - 1]`, of the states before tokens 1 to L - 1.
        rewards: `[B, L - 1]`.
        mask: `[B, L - 1]`, tokens that are not padding.
        start: column of the first generated token among them.
        discount: of later rewards.
        gae_lambda: weight of longer sums.
    """
    values, rewards = jnp.where(mask, values, 0.0)[:, start:], jnp.where(mask, rewards, 0.0)[:, start:]
    following = jnp.concatenate([values[:, 1:], jnp.zeros_like(values[:, :1])], axis=1)
    surprise = rewards + discount * following - values

    def back(later: jax.Array, now: jax.Array) -> tuple[jax.Array, jax.Array]:
        advantage = now + discount * gae_lambda * later
        return advantage, advantage

    _, advantages = jax.lax.scan(back, jnp.zeros_like(surprise[:, 0]), surprise.T, reverse=True)
    return advantages.T, advantages.T + values


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
    """Half the squared error, of the worse of the value and the value kept within `clip_value` of the old one."""
    kept = jnp.clip(values, old - clip_value, old + clip_value)
    return 0.5 * masked_mean(jnp.maximum(jnp.square(values - returns), jnp.square(kept - returns)), mask)


def mixed(reward: jax.Array, costs: jax.Array, multipliers: jax.Array) -> jax.Array:
    """Advantages of rewards against those of costs `[C, ...]`: `(A_r - sum_i w_i A_c_i) / (1 + sum_i w_i)`."""
    return (reward - jnp.tensordot(multipliers, costs, axes=1)) / (1.0 + jnp.sum(multipliers))


def group_advantages(scores: jax.Array, group: int) -> jax.Array:
    """Scores `[B]` against the mean of each `group` in a row, in units of its deviation; 0 among equals.

    Shao et al. 2024, arXiv 2402.03300.
    """
    rows = scores.reshape(-1, group)
    centered = rows - jnp.mean(rows, axis=1, keepdims=True)
    deviation = jnp.std(rows, axis=1, keepdims=True)
    return jnp.where(deviation > 1e-6, centered / jnp.maximum(deviation, 1e-6), 0.0).reshape(-1)

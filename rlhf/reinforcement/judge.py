"""Judges score answers: reward and cost models, combinations of them, or any function of tokens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rlhf.models.heads import ScoreModel, score_tokens


class Judge(NamedTuple):
    """A function that scores answers.

    Attributes:
        apply: `(params, ids [B, L], mask [B, L]) -> [B]` float32; the ids are padded on both sides.
        params: frozen parameters.
    """

    apply: Callable[[Any, jax.Array, jax.Array], jax.Array]
    params: Any = ()


def score_judge(model: ScoreModel, params: Any) -> Judge:
    """A reward or cost model as a judge: its score at the last token."""

    def apply(params: Any, ids: jax.Array, mask: jax.Array) -> jax.Array:
        return score_tokens(model, params, ids, mask).end_scores[:, 0]

    return Judge(apply, params)


def shaped_judge(reward: Judge, cost: Judge, weight: float) -> Judge:
    """Reward minus `weight` times cost as one judge (reward shaping in Safe RLHF)."""

    def apply(params: Any, ids: jax.Array, mask: jax.Array) -> jax.Array:
        return reward.apply(params[0], ids, mask) - jnp.float32(weight) * cost.apply(params[1], ids, mask)

    return Judge(apply, (reward.params, cost.params))

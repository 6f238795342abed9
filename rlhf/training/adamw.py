"""One update of AdamW (Loshchilov and Hutter 2019) with a bound on the gradient, dropped where it is not finite."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from rlhf.parallel import sharding

EPSILON = 1e-8


class Descent(NamedTuple):
    """How parameters follow a gradient.

    Attributes:
        init: `parameters -> moments`.
        step: `(gradient, moments, parameters, rate [], ok []) -> (parameters, moments, finite [])`; nothing moves where
            `ok` is False or the gradient is not finite.
    """

    init: Callable[[Any], Any]
    step: Callable[[Any, Any, Any, Any, Any], tuple[Any, Any, jax.Array]]


def adamw(*, weight_decay: float, max_grad_norm: float, beta1: float = 0.9, beta2: float = 0.95) -> Descent:
    """AdamW as Safe RLHF uses it, `decayed` saying what decays."""
    optimizer = optax.chain(
        optax.clip_by_global_norm(max_grad_norm),
        optax.scale_by_adam(beta1, beta2, EPSILON),
        optax.add_decayed_weights(weight_decay, decayed),
    )

    def step(gradient: Any, moments: Any, params: Any, rate: Any, ok: Any = True) -> tuple[Any, Any, jax.Array]:
        gradient = sharding.constrain_parameters(gradient)
        finite = jnp.isfinite(optax.tree.norm(gradient)) & ok
        direction, new = optimizer.update(gradient, moments, params)
        moved = jax.tree.map(lambda p, d: (p - rate * d).astype(p.dtype), params, direction)
        return where(finite, moved, params), where(finite, new, moments), finite

    return Descent(optimizer.init, step)


def where(condition: jax.Array, new: Any, old: Any) -> Any:
    """One of two trees."""
    return jax.tree.map(lambda n, o: jnp.where(condition, n, o), new, old)


def decayed(params: Any) -> Any:
    """Which parameters decay: all but biases and the norms inside layers, as published; the last norm decays."""
    kept = {"score_bias", "ln_1", "ln_2"}

    def of(path: tuple[Any, ...], leaf: jax.Array) -> bool:
        del leaf
        return not kept & {str(getattr(key, "key", key)) for key in path}

    return jax.tree_util.tree_map_with_path(of, params)

"""AdamW (Loshchilov and Hutter 2019) with a bound on the gradient's norm; updates that are not finite are dropped."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import optax

from jsafe import supervised
from rlhf.parallel import sharding

EPSILON = 1e-8


class AdamW(NamedTuple):
    """An optimiser bound to its settings.

    Attributes:
        transform: gradient to direction, without the learning rate.
    """

    transform: optax.GradientTransformation

    def init(self, params: Any) -> Any:
        """Moments of the parameters."""
        return self.transform.init(params)

    def update(
        self, gradient: Any, moments: Any, params: Any, learning_rate: Any, ok: Any = True
    ) -> supervised.Updated:
        """Move the parameters; nothing moves if `ok` is False or the gradient is not finite."""
        gradient = sharding.constrain_parameters(gradient)
        return supervised.update(self.transform, gradient, moments, params, learning_rate, ok)


def adamw(*, weight_decay: float, max_grad_norm: float, beta1: float = 0.9, beta2: float = 0.95) -> AdamW:
    """AdamW with Safe RLHF's settings; `decayed` masks the parameters subject to weight decay."""
    return AdamW(
        optax.chain(
            optax.clip_by_global_norm(max_grad_norm),
            optax.scale_by_adam(beta1, beta2, EPSILON),
            optax.add_decayed_weights(weight_decay, decayed),
        )
    )


def decayed(params: Any) -> Any:
    """Mask of the parameters with weight decay, as published: all but biases and the norms inside layers."""
    exempt = {"score_bias", "ln_1", "ln_2"}

    def decays(path: tuple[Any, ...], leaf: jax.Array) -> bool:
        del leaf
        return not exempt & {str(getattr(key, "key", key)) for key in path}

    return jax.tree_util.tree_map_with_path(decays, params)

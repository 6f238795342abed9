"""Discriminator of recognisable drawings of one class: a convolutional network on the soft raster.

The log odds are differentiable with respect to every point. The sizes are this project's; only the idea of the paper
(Pang et al. 2020) is public.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sketch import raster
from sketch.data.strokes import Drawings
from sketch.models.matmul_conv import convolved
from sketch.models.model_configs import DiscriminatorConfig
from sketch.models.next_stroke_data import view

Params = dict[str, Any]


class TrainedDiscriminator(NamedTuple):
    """A trained discriminator.

    Attributes:
        size: its sizes.
        params: its parameters.
    """

    size: DiscriminatorConfig
    params: Params


def init(size: DiscriminatorConfig, key: jax.Array) -> Params:
    """Return initial parameters: convolutions `[3, 3, in, out]` and an output layer `[features, 1]`."""
    glorot, params, inputs = jax.nn.initializers.glorot_uniform(), {}, 1
    keys = jax.random.split(key, len(size.channels) + 1)
    for number, (width, one) in enumerate(zip(size.channels, keys, strict=False)):
        params[f"conv_{number}"] = {"kernel": glorot(one, (3, 3, inputs, width)), "bias": jnp.zeros(width)}
        inputs = width
    features = (size.side // 2 ** len(size.channels)) ** 2 * inputs
    params["output"] = {"kernel": glorot(keys[-1], (features, 1)), "bias": jnp.zeros(1), "scale": jnp.ones(1)}
    return params


def largest_singular_value(matrix: Float[Array, "rows columns"], iterations: int) -> jax.Array:
    """Lower estimate of the spectral norm, by power iterations from a fixed vector.

    The gradient treats the singular vectors as constants, which is exact at convergence (Miyato et al. 2018).
    """
    constant = jax.lax.stop_gradient(matrix)

    def unit(vector: jax.Array) -> jax.Array:
        return vector / jnp.maximum(jnp.linalg.norm(vector), 1e-12)

    initial = unit(jax.random.normal(jax.random.key(0), (matrix.shape[1],)))
    right = jax.lax.fori_loop(0, iterations, lambda _, v: unit(constant.T @ unit(constant @ v)), initial)
    return unit(constant @ right) @ (matrix @ right)


def _normalised(layer: Params, size: DiscriminatorConfig) -> jax.Array:
    """Kernel of a layer, a matrix `[inputs, outputs]`, scaled to the configured spectral norm."""
    kernel = layer["kernel"]
    norm = largest_singular_value(kernel.reshape(-1, kernel.shape[-1]), size.power_iterations)
    return kernel * (size.spectral_norm / jnp.maximum(norm, 1e-12))


def logits(
    size: DiscriminatorConfig,
    params: Params,
    images: Float[Array, "batch side side"],
    key: jax.Array | None = None,
    dropout: float = 0.0,
) -> Float[Array, " batch"]:
    """Return the log odds that an image is recognisable.

    Args:
        size: sizes of the network.
        params: its parameters.
        images: ink from 0 to 1.
        key: PRNG key for dropout; None for no dropout.
        dropout: dropout probability of a feature.
    """
    x = images[..., None]
    for number in range(len(size.channels)):
        layer = params[f"conv_{number}"]
        x = jax.nn.relu(convolved(x, _normalised(layer, size), stride=2) + layer["bias"])
    x = x.reshape(len(x), -1)
    if key is not None and dropout:
        x = jnp.where(jax.random.bernoulli(key, 1.0 - dropout, x.shape), x / (1.0 - dropout), 0.0)
    last = params["output"]
    # The spectral norms bound the slope; the scale of the output layer is learned.
    return ((x @ _normalised(last, size)) * last["scale"] + last["bias"])[:, 0]


def render(size: DiscriminatorConfig, drawings: Drawings, at_once: int = 1) -> Float[Array, "batch side side"]:
    """Render drawings in any unit for a discriminator, fitted into the box with longest side 255."""
    return raster.soft(jax.tree.map(jnp.asarray, drawings), view(size.side), at_once=at_once)


def recognisability(
    size: DiscriminatorConfig, at_once: int = 1
) -> Callable[[Params, Drawings], Float[Array, " batch"]]:
    """Return a function `(params, drawings in any unit) -> [B]` that gives log odds of recognisability."""
    return lambda params, drawings: logits(size, params, render(size, drawings, at_once))


def soft_recognisability(
    size: DiscriminatorConfig, at_once: int = 1
) -> Callable[[Params, Float[Array, "batch time 2"], Drawings], Float[Array, " batch"]]:
    """Return a differentiable function of the offsets, `(params, offsets [B, N, 2], drawings) -> [B]`.

    Pen states and lengths are those of `drawings`, without a gradient.
    """
    log_odds = recognisability(size, at_once)

    def log_odds_of_offsets(params: Params, offsets: jax.Array, drawings: Drawings) -> jax.Array:
        return log_odds(params, drawings._replace(rows=jnp.concatenate([offsets, drawings.rows[..., 2:]], axis=-1)))

    return log_odds_of_offsets

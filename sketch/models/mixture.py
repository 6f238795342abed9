"""Output distribution of the decoder: a mixture of bivariate normals for the offset, and a categorical pen state."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

FLOOR = 1e-6
"""Constant that the published code adds to the density, which bounds the loss of a point by 13.8."""


class Mixture(NamedTuple):
    """Distribution of the next row of stroke-5, in unbounded parameters.

    Attributes:
        pen: `[..., 3]` logits of pen down, pen lifted after the point, and end of the drawing.
        weight: `[..., M]` logits of the components.
        mean: `[..., M, 2]`.
        log_deviation: `[..., M, 2]`.
        correlation: `[..., M]` inverse hyperbolic tangent of the correlation.
    """

    pen: Float[Array, "*batch 3"]
    weight: Float[Array, "*batch components"]
    mean: Float[Array, "*batch components 2"]
    log_deviation: Float[Array, "*batch components 2"]
    correlation: Float[Array, "*batch components"]


def output_size(components: int) -> int:
    """Return the number of parameters of the distribution."""
    return 3 + 6 * components


def from_output(y: Float[Array, "*batch outputs"]) -> Mixture:
    """Split the output of a layer into parameters: pen, then M each of pi, mu x, mu y, s x, s y, rho."""
    weight, mean_x, mean_y, deviation_x, deviation_y, correlation = jnp.split(y[..., 3:], 6, axis=-1)
    mean, deviation = jnp.stack([mean_x, mean_y], -1), jnp.stack([deviation_x, deviation_y], -1)
    return Mixture(y[..., :3], weight, mean, deviation, correlation)


def log_density(mixture: Mixture, offset: Float[Array, "*batch 2"]) -> Float[Array, "*batch"]:
    """Log density of an offset, without the pen state.

    The form with sech^2 = 1 - tanh^2 does not overflow for correlations near one or distant points.
    """
    u, v = jnp.moveaxis((offset[..., None, :] - mixture.mean) * jnp.exp(-mixture.log_deviation), -1, 0)
    size = jnp.abs(mixture.correlation)
    log_sech = jnp.log(2.0) - size - jnp.log1p(jnp.exp(-2.0 * size))
    across = (u - jnp.tanh(mixture.correlation) * v) * jnp.exp(-log_sech)
    log_normal = -0.5 * (across**2 + v**2) - jnp.log(2.0 * jnp.pi) - jnp.sum(mixture.log_deviation, -1) - log_sech
    return jax.nn.logsumexp(jax.nn.log_softmax(mixture.weight) + log_normal, axis=-1)


def offset_loss(
    mixture: Mixture, offset: Float[Array, "*batch 2"], *, floor: float | None = None
) -> Float[Array, "*batch"]:
    """Negative log density of an offset.

    Args:
        mixture: distribution of each point.
        offset: offset of each point.
        floor: constant added to the density; `FLOOR` as published, None for none.
    """
    log = log_density(mixture, offset)
    return -(log if floor is None else jnp.logaddexp(log, jnp.log(floor)))


def pen_loss(mixture: Mixture, pen: Float[Array, "*batch 3"]) -> Float[Array, "*batch"]:
    """Cross-entropy of the one-hot pen state."""
    return -jnp.sum(pen * jax.nn.log_softmax(mixture.pen), axis=-1)


def draw(
    key: jax.Array, mixture: Mixture, discrete: Float[Array, " batch"], deviation: Float[Array, " batch"]
) -> Float[Array, "batch 5"]:
    """Sample rows of stroke-5.

    Args:
        key: typed PRNG key.
        mixture: distributions of a batch.
        discrete: temperature of component and pen state; 0 is greedy.
        deviation: factor on the standard deviations; 0 gives the mean.
    """
    first, second, third = jax.random.split(key, 3)

    def choose(key: jax.Array, logits: jax.Array) -> jax.Array:
        # The Gumbel trick with scaled noise instead of scaled logits, so that temperature 0 needs no special case.
        return jnp.argmax(logits + discrete[:, None] * jax.random.gumbel(key, logits.shape), axis=-1)

    component = choose(first, mixture.weight)
    pen = jax.nn.one_hot(choose(second, mixture.pen), 3)
    picked = jnp.arange(len(component)), component
    mean, scale = mixture.mean[picked], jnp.exp(mixture.log_deviation[picked]) * deviation[:, None]
    correlation = jnp.tanh(mixture.correlation[picked])
    a, b = jnp.moveaxis(jax.random.normal(third, mean.shape), -1, 0)
    noise = jnp.stack([a, correlation * a + jnp.sqrt(1.0 - correlation**2) * b], axis=-1)
    return jnp.concatenate([mean + scale * noise, pen], axis=-1)

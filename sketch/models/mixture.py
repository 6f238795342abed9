"""What a decoder says of the next point: a mixture of correlated normals for the offset, and a state of the pen."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

FLOOR = 1e-6
"""Added to the density by the published code, so that no point costs more than 13.8."""


class Mixture(NamedTuple):
    """Distribution of the next row of stroke-5, in parameters without bounds.

    Attributes:
        pen: `[..., 3]` logits of pen down, pen lifted after the point, drawing over.
        weight: `[..., M]` logits of the components.
        mean: `[..., M, 2]`.
        log_deviation: `[..., M, 2]`.
        correlation: `[..., M]`, the correlation is its hyperbolic tangent.
    """

    pen: Float[Array, "*batch 3"]
    weight: Float[Array, "*batch components"]
    mean: Float[Array, "*batch components 2"]
    log_deviation: Float[Array, "*batch components 2"]
    correlation: Float[Array, "*batch components"]


def output_size(components: int) -> int:
    """Numbers that describe such a distribution."""
    return 3 + 6 * components


def from_output(y: Float[Array, "*batch outputs"]) -> Mixture:
    """The distribution that an output layer describes: pen, then M each of pi, mu x, mu y, s x, s y, rho."""
    weight, mean_x, mean_y, deviation_x, deviation_y, correlation = jnp.split(y[..., 3:], 6, axis=-1)
    mean, deviation = jnp.stack([mean_x, mean_y], -1), jnp.stack([deviation_x, deviation_y], -1)
    return Mixture(y[..., :3], weight, mean, deviation, correlation)


def log_density(mixture: Mixture, offset: Float[Array, "*batch 2"]) -> Float[Array, "*batch"]:
    """Logarithm of the density of an offset, the pen left aside.

    Written so that neither a correlation near one nor a far point overflows: 1 - tanh^2 is sech^2.
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
        mixture: of each point.
        offset: of each point.
        floor: added to the density; `FLOOR` as published, None for the plain logarithm.
    """
    found = log_density(mixture, offset)
    return -(found if floor is None else jnp.logaddexp(found, jnp.log(floor)))


def pen_loss(mixture: Mixture, pen: Float[Array, "*batch 3"]) -> Float[Array, "*batch"]:
    """Cross-entropy of the state of the pen, one-hot."""
    return -jnp.sum(pen * jax.nn.log_softmax(mixture.pen), axis=-1)


def draw(
    key: jax.Array, mixture: Mixture, discrete: Float[Array, " batch"], deviation: Float[Array, " batch"]
) -> Float[Array, "batch 5"]:
    """Rows of stroke-5.

    Args:
        key: typed PRNG key.
        mixture: of a batch.
        discrete: temperature of the choices of component and pen; 0 takes the likeliest.
        deviation: factor on the standard deviations; 0 gives the mean.
    """
    first, second, third = jax.random.split(key, 3)

    def choose(key: jax.Array, logits: jax.Array) -> jax.Array:
        # Gumbel's trick with the noise scaled instead of the logits, so that a temperature of 0 is no special case.
        return jnp.argmax(logits + discrete[:, None] * jax.random.gumbel(key, logits.shape), axis=-1)

    component = choose(first, mixture.weight)
    pen = jax.nn.one_hot(choose(second, mixture.pen), 3)
    picked = jnp.arange(len(component)), component
    mean, scale = mixture.mean[picked], jnp.exp(mixture.log_deviation[picked]) * deviation[:, None]
    correlation = jnp.tanh(mixture.correlation[picked])
    a, b = jnp.moveaxis(jax.random.normal(third, mean.shape), -1, 0)
    noise = jnp.stack([a, correlation * a + jnp.sqrt(1.0 - correlation**2) * b], axis=-1)
    return jnp.concatenate([mean + scale * noise, pen], axis=-1)

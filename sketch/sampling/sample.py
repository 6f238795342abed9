"""Sampling from a Sketch-RNN: a batch of drawings, each with its own temperature, in one compiled loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sketch.data.strokes import END, START
from sketch.models import mixture
from sketch.models.sketch_rnn import Params, SketchRNNConfig, first_carry, step


class Samples(NamedTuple):
    """Sampled drawings.

    Attributes:
        rows: `[B, N, 5]` stroke-5 without the start row; `END` behind the end.
        log_probability: `[B]` log probability of the sampled rows at temperature 1, without prefix rows.
    """

    rows: Float[Array, "batch time 5"]
    log_probability: Float[Array, " batch"]


CONVENTIONS: dict[str, Callable[[jax.Array], tuple[jax.Array, jax.Array]]] = {
    "paper": lambda t: (t, jnp.sqrt(t)),
    "javascript": lambda t: (0.5 + 0.5 * t, jnp.sqrt(t)),
    "python": lambda t: (t, t),
}
"""Functions from a temperature to the temperature of discrete choices and the factor on standard deviations.

`paper` follows the paper. The published JavaScript has a higher discrete temperature, and the published Python uses the
temperature instead of its root.
"""


class SampleRequest(NamedTuple):
    """Checked arguments of a sampler, with all defaults filled in.

    Attributes:
        key: typed PRNG key of the rows.
        discrete: `[B]` temperature of discrete choices.
        deviation: `[B]` factor on standard deviations.
        z: `[B, latent]`, None for a model without an encoder.
        prefix: `[B, N, 5]` rows that drawings start with.
        prefix_lengths: `[B]` number of prefix rows.
    """

    key: jax.Array
    discrete: jax.Array
    deviation: jax.Array
    z: jax.Array | None
    prefix: jax.Array
    prefix_lengths: jax.Array


def make_request(
    config: SketchRNNConfig,
    key: jax.Array,
    temperature: Float[Array, " batch"],
    length: int,
    *,
    z: jax.Array | None = None,
    convention: str = "paper",
    prefix: jax.Array | None = None,
    prefix_lengths: jax.Array | None = None,
) -> SampleRequest:
    """Check the arguments of `sample`, and fill in the defaults; see there."""
    if convention not in CONVENTIONS:
        raise ValueError(f"convention must be one of {sorted(CONVENTIONS)}, got {convention!r}")
    if prefix is not None and prefix.shape[1] > length:
        raise ValueError(f"prefix must have at most {length} rows, the length of a drawing, got {prefix.shape[1]}")
    batch = len(temperature)
    latent_key, key = jax.random.split(key)
    if config.conditional and z is None:
        z = jax.random.normal(latent_key, (batch, config.latent_size))
    discrete, deviation = CONVENTIONS[convention](jnp.asarray(temperature, jnp.float32))
    discrete = jnp.where(temperature > 0, discrete, 0.0)
    rows = jnp.zeros((batch, 0, 5)) if prefix is None else jnp.asarray(prefix, jnp.float32)
    if prefix_lengths is None:
        prefix_lengths = jnp.sum(jnp.cumsum(rows[..., 4] > 0, axis=1) == 0, axis=1)
    rows = jnp.pad(rows, ((0, 0), (0, length - rows.shape[1]), (0, 0)))
    return SampleRequest(key, discrete, deviation, z, rows, jnp.asarray(prefix_lengths))


def sample(
    config: SketchRNNConfig,
    params: Params,
    key: jax.Array,
    temperature: Float[Array, " batch"],
    length: int,
    *,
    z: Float[Array, "batch latent"] | None = None,
    convention: str = "paper",
    prefix: Float[Array, "batch rows 5"] | None = None,
    prefix_lengths: jax.Array | None = None,
) -> Samples:
    """Sample one drawing for each temperature.

    Args:
        config: sizes of a model without extra inputs.
        params: its parameters.
        key: typed PRNG key.
        temperature: `[B]`; 0 is greedy.
        length: largest number of rows of a drawing.
        z: latent vectors (default: from the standard normal).
        convention: meaning of the temperature, one of `CONVENTIONS`.
        prefix: rows that each drawing starts with, stroke-5 without the start row (default: none).
        prefix_lengths: `[B]` number of prefix rows (default: up to the first end row).

    Raises:
        ValueError: if the convention is unknown, the model has extra inputs, or the prefix is longer than `length`.
    """
    if config.extra_inputs:
        raise ValueError("a model with extra inputs needs a predictor; use sample_guided")
    request = make_request(
        config, key, temperature, length, z=z, convention=convention, prefix=prefix, prefix_lengths=prefix_lengths
    )
    batch, end = len(temperature), jnp.asarray(END, jnp.float32)

    def unfinished(state: Any) -> jax.Array:
        number, ended = state[0], state[1]
        return (number < length) & ~jnp.all(ended)

    def draw(state: Any) -> Any:
        number, ended, carry, row, rows, total = state
        carry, predicted = step(config, params, carry, row, request.z)
        key = jax.random.fold_in(request.key, number)
        row = mixture.draw(key, predicted, request.discrete, request.deviation)
        # The row that ends a drawing draws nothing, so its offset is dropped.
        row = jnp.where(row[:, 4:] > 0, end, row)
        is_prefix = number < request.prefix_lengths
        row = jnp.where(is_prefix[:, None], request.prefix[:, number], row)
        row = jnp.where(ended[:, None], end, row)
        real = 1.0 - row[:, 4]
        log_prob = real * mixture.log_density(predicted, row[:, :2]) - mixture.pen_loss(predicted, row[:, 2:])
        total = total + jnp.where(ended | is_prefix, 0.0, log_prob)
        return number + 1, row[:, 4] > 0, carry, row, rows.at[:, number].set(row), total

    rows = jnp.broadcast_to(end, (batch, length, 5))
    start = jnp.broadcast_to(jnp.asarray(START, jnp.float32), (batch, 5))
    carry = first_carry(config, params, request.z, batch)
    state = (jnp.int32(0), jnp.zeros(batch, bool), carry, start, rows, jnp.zeros(batch))
    final = jax.lax.while_loop(unfinished, draw, state)
    return Samples(final[4], final[5])


def slerp(first: Float[Array, " latent"], last: Float[Array, " latent"], frames: int = 10) -> jax.Array:
    """Return latent vectors `[frames, latent]` on the great circle between two vectors, both ends included."""
    cosine = jnp.dot(first, last) / jnp.maximum(jnp.linalg.norm(first) * jnp.linalg.norm(last), 1e-12)
    angle = jnp.arccos(jnp.clip(cosine, -1.0, 1.0))
    t = jnp.linspace(0.0, 1.0, frames)[:, None]
    straight = jnp.sin(angle) < 1e-6
    safe = jnp.where(straight, 1.0, jnp.sin(angle))
    around = jnp.sin((1.0 - t) * angle) / safe * first + jnp.sin(t * angle) / safe * last
    return jnp.where(straight, (1.0 - t) * first + t * last, around)

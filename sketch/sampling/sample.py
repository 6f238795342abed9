"""Drawings from a Sketch-RNN: a whole batch, each with its own temperature, as one compiled loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sketch.data.strokes import END, START
from sketch.models import mixture
from sketch.models.sketch_rnn import Architecture, Params, first_carry, step


class Drawn(NamedTuple):
    """What was sampled.

    Attributes:
        rows: `[B, N, 5]` stroke-5 without the start row; `END` behind the end.
        log_probability: `[B]` of the rows under the model at temperature 1, given ones left out.
    """

    rows: Float[Array, "batch time 5"]
    log_probability: Float[Array, " batch"]


CONVENTIONS: dict[str, Callable[[jax.Array], tuple[jax.Array, jax.Array]]] = {
    "paper": lambda t: (t, jnp.sqrt(t)),
    "javascript": lambda t: (0.5 + 0.5 * t, jnp.sqrt(t)),
    "python": lambda t: (t, t),
}
"""Temperature to the one of discrete choices and the factor on deviations: as in the paper, in the published JavaScript
(whose discrete temperature is higher), and in the published Python (which squares where the paper takes the root)."""


class Request(NamedTuple):
    """What is to be drawn, checked and filled in.

    Attributes:
        key: typed PRNG key of the rows.
        discrete: `[B]` temperature of discrete choices.
        deviation: `[B]` factor on deviations.
        z: `[B, latent]`, None for a model without an encoder.
        given: `[B, N, 5]` rows that drawings begin with.
        given_lengths: `[B]`, how many of them.
    """

    key: jax.Array
    discrete: jax.Array
    deviation: jax.Array
    z: jax.Array | None
    given: jax.Array
    given_lengths: jax.Array


def request(
    config: Architecture,
    key: jax.Array,
    temperature: Float[Array, " batch"],
    length: int,
    z: jax.Array | None,
    convention: str,
    given: jax.Array | None,
    given_lengths: jax.Array | None,
) -> Request:
    """See `sample` for arguments and errors."""
    if convention not in CONVENTIONS:
        raise ValueError(f"convention must be one of {sorted(CONVENTIONS)}, got {convention!r}")
    if given is not None and given.shape[1] > length:
        raise ValueError(f"{given.shape[1]} rows are given and a drawing has at most {length}")
    batch = len(temperature)
    latent_key, key = jax.random.split(key)
    if config.conditional and z is None:
        z = jax.random.normal(latent_key, (batch, config.latent_size))
    discrete, deviation = CONVENTIONS[convention](jnp.asarray(temperature, jnp.float32))
    discrete = jnp.where(temperature > 0, discrete, 0.0)
    prefix = jnp.zeros((batch, 0, 5)) if given is None else jnp.asarray(given, jnp.float32)
    if given_lengths is None:
        given_lengths = jnp.sum(jnp.cumsum(prefix[..., 4] > 0, axis=1) == 0, axis=1)
    prefix = jnp.pad(prefix, ((0, 0), (0, length - prefix.shape[1]), (0, 0)))
    return Request(key, discrete, deviation, z, prefix, jnp.asarray(given_lengths))


def sample(
    config: Architecture,
    params: Params,
    key: jax.Array,
    temperature: Float[Array, " batch"],
    length: int,
    *,
    z: Float[Array, "batch latent"] | None = None,
    convention: str = "paper",
    given: Float[Array, "batch given 5"] | None = None,
    given_lengths: jax.Array | None = None,
) -> Drawn:
    """Draw, one drawing for each temperature, all at once.

    Args:
        config: of the model; without extra inputs.
        params: its parameters.
        key: typed PRNG key.
        temperature: 0 takes what is likeliest at each step.
        length: most rows of a drawing.
        z: latent vectors; from the standard normal by default.
        convention: one of `CONVENTIONS`.
        given: rows that each drawing begins with, stroke-5 without the start row; none by default.
        given_lengths: `[B]`, how many of them; by default up to the first that ends the drawing.

    Raises:
        ValueError: an unknown convention, a model with extra inputs, or more given rows than `length`.
    """
    if config.extra_inputs:
        raise ValueError("a model with extra inputs draws only with what computes these")
    key, discrete, deviation, z, prefix, given_lengths = request(
        config, key, temperature, length, z, convention, given, given_lengths
    )
    batch, end = len(temperature), jnp.asarray(END, jnp.float32)

    def going(state: Any) -> jax.Array:
        number, over = state[0], state[1]
        return (number < length) & ~jnp.all(over)

    def draw(state: Any) -> Any:
        number, over, carry, row, rows, total = state
        carry, predicted = step(config, params, carry, row, z)
        row = mixture.draw(jax.random.fold_in(key, number), predicted, discrete, deviation)
        # Nothing is drawn by the row that ends a drawing: its offset does not count.
        row = jnp.where(row[:, 4:] > 0, end, row)
        told = number < given_lengths
        row = jnp.where(told[:, None], prefix[:, number], row)
        row = jnp.where(over[:, None], end, row)
        real = 1.0 - row[:, 4]
        found = real * mixture.log_density(predicted, row[:, :2]) - mixture.pen_loss(predicted, row[:, 2:])
        total = total + jnp.where(over | told, 0.0, found)
        return number + 1, row[:, 4] > 0, carry, row, rows.at[:, number].set(row), total

    rows = jnp.broadcast_to(end, (batch, length, 5))
    start = jnp.broadcast_to(jnp.asarray(START, jnp.float32), (batch, 5))
    state = (jnp.int32(0), jnp.zeros(batch, bool), first_carry(config, params, z, batch), start, rows, jnp.zeros(batch))
    found = jax.lax.while_loop(going, draw, state)
    return Drawn(found[4], found[5])


def slerp(first: Float[Array, " latent"], last: Float[Array, " latent"], frames: int = 10) -> jax.Array:
    """Latent vectors `[frames, latent]` on the great circle from one to another, both ends included."""
    cosine = jnp.dot(first, last) / jnp.maximum(jnp.linalg.norm(first) * jnp.linalg.norm(last), 1e-12)
    angle = jnp.arccos(jnp.clip(cosine, -1.0, 1.0))
    t = jnp.linspace(0.0, 1.0, frames)[:, None]
    straight = jnp.sin(angle) < 1e-6
    safe = jnp.where(straight, 1.0, jnp.sin(angle))
    around = jnp.sin((1.0 - t) * angle) / safe * first + jnp.sin(t * angle) / safe * last
    return jnp.where(straight, (1.0 - t) * first + t * last, around)

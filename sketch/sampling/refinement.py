"""Refinement of finished drawings by gradient ascent on a discriminator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sketch.data.strokes import Drawings, has_line, pad, real_rows, unpad
from sketch.models.discriminator import DiscriminatorConfig, Params, TrainedDiscriminator, soft_recognisability


def refine_drawings(
    size: DiscriminatorConfig, steps: int, stride: float = 0.005, at_once: int = 1
) -> Callable[[Params, Drawings], tuple[Drawings, Float[Array, "batch 2"]]]:
    """Return a function that moves the points of drawings up the gradient of their recognisability.

    In each step the point with the largest gradient moves by `stride` of the longest side of the drawing. The first
    point does not move, and the pen states do not change. The result is the most recognisable drawing of all steps, so
    no drawing gets worse.

    Args:
        size: sizes of the discriminator.
        steps: number of steps, at least one.
        stride: largest displacement per step, as a fraction of the longest side.
        at_once: see `sketch.raster.soft`.

    Returns:
        `(params, drawings in any unit) -> (drawings, log odds before and after [B, 2])`.
    """
    log_odds = soft_recognisability(size, at_once)

    def refine(params: Params, drawings: Drawings) -> tuple[Drawings, jax.Array]:
        drawings = jax.tree.map(jnp.asarray, drawings)
        real = real_rows(drawings)[..., None]
        places = jnp.cumsum(jnp.where(real, drawings.rows[..., :2], 0.0), axis=1)
        least, most = (jnp.where(real, places, fill) for fill in (jnp.inf, -jnp.inf))
        side = jnp.maximum(jnp.max(jnp.max(most, axis=1) - jnp.min(least, axis=1), axis=-1), 1e-6)[:, None, None]

        def offsets(places: jax.Array) -> jax.Array:
            return jnp.where(real, jnp.diff(places, axis=1, prepend=jnp.zeros_like(places[:, :1])), 0.0)

        def scored(places: jax.Array) -> tuple[jax.Array, jax.Array]:
            odds = log_odds(params, offsets(places), drawings)
            return jnp.sum(odds), odds

        def step(carry: Any, _: Any) -> tuple[Any, jax.Array]:
            places, best, most = carry
            (_, odds), slope = jax.value_and_grad(scored, has_aux=True)(places)
            better = odds > most
            best, most = jnp.where(better[:, None, None], places, best), jnp.where(better, odds, most)
            slope = jnp.where(real, slope, 0.0).at[:, 0].set(0.0)
            longest = jnp.max(jnp.linalg.norm(slope, axis=-1), axis=1)[:, None, None]
            return (places + stride * side * slope / jnp.maximum(longest, 1e-12), best, most), odds

        initial = (places, places, jnp.full(len(places), -jnp.inf))
        (last, best, most), odds_of_steps = jax.lax.scan(step, initial, None, length=steps)
        odds = scored(last)[1]
        better = odds > most
        best, most = jnp.where(better[:, None, None], last, best), jnp.where(better, odds, most)
        rows = jnp.concatenate([offsets(best), drawings.rows[..., 2:]], axis=-1)
        return drawings._replace(rows=rows), jnp.stack([odds_of_steps[0], most], axis=-1)

    return refine


class Refinement(NamedTuple):
    """Refined drawings.

    Attributes:
        drawings: stroke-3 arrays; drawings without a line do not change.
        odds: `[n, 2]` log odds before and after, NaN for drawings without a line.
        steps: number of gradient steps.
    """

    drawings: list[np.ndarray]
    odds: np.ndarray
    steps: int


def refine_all(
    critic: TrainedDiscriminator, drawings: Sequence[np.ndarray], length: int, steps: int, batch_size: int
) -> Refinement:
    """Refine any number of drawings on the host.

    Args:
        critic: the discriminator.
        drawings: stroke-3 arrays.
        length: number of rows, at least that of the longest drawing.
        steps: number of gradient steps.
        batch_size: drawings of one call; the last batch is padded.
    """
    refine = jax.jit(refine_drawings(critic.size, steps))
    with_line = [number for number, drawing in enumerate(drawings) if has_line(drawing)]
    refined, odds = list(drawings), np.full((len(drawings), 2), np.nan, np.float32)
    size = min(batch_size, max(len(with_line), 1))
    for first in range(0, len(with_line), size):
        part = with_line[first : first + size]
        padded = [drawings[n] for n in (*part, *[part[-1]] * (size - len(part)))]
        better, odds_of_part = refine(critic.params, pad(padded, length))
        for number, drawing, values in zip(part, unpad(better), np.asarray(odds_of_part), strict=False):
            refined[number], odds[number] = drawing, values
    return Refinement(refined, odds, steps)

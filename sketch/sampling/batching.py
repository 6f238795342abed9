"""Sampling of any number of drawings in batches of one size."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from sketch.sampling.best_of import BestOfN


def sample_many(
    draw: Callable[..., BestOfN], seed: int, batch_size: int, temperature: np.ndarray, **arrays: np.ndarray
) -> BestOfN:
    """Sample one drawing for each temperature, on the host.

    Args:
        draw: compiled sampler, see `sketch.sampling.sampler.make_sampler`.
        seed: root of all randomness.
        batch_size: drawings of one call; the last batch is padded.
        temperature: `[N]`.
        arrays: further arrays `[N, ...]` of the sampler.
    """
    parts = []
    for number, first in enumerate(range(0, len(temperature), batch_size)):
        rows = np.minimum(np.arange(first, first + batch_size), len(temperature) - 1)
        key = jax.random.fold_in(jax.random.key(seed), number)
        batch = draw(key, temperature[rows], **{name: jnp.asarray(array[rows]) for name, array in arrays.items()})
        real = min(batch_size, len(temperature) - first)
        parts.append(jax.tree.map(lambda leaf, real=real: np.asarray(leaf)[:real], batch))
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)

"""Running mean and standard deviation of observations (on `brax.training.acme.running_statistics`).

The statistics change once per iteration, from the whole batch and after the update, so that acting and learning in
one iteration see the same scale. The usual libraries change them at every step instead, and learn from observations
that were normalised by statistics which no longer hold. The first iteration sees raw observations (mean 0,
deviation 1), clipped.
"""

from __future__ import annotations

import contextlib
import io
from typing import Any

import jax
import jax.numpy as jnp

# mujoco.mjx, which is imported here, prints on standard output that its optional Warp backend is missing.
with contextlib.redirect_stdout(io.StringIO()):
    from brax.training.acme import running_statistics

STD_FLOOR = 0.01
"""Smallest standard deviation: an entry that hardly varies is not blown up."""


def init(observation_size: int) -> Any:
    """Statistics of nothing yet: mean 0, deviation 1."""
    return running_statistics.init_state(jnp.zeros(observation_size, jnp.float32))


def update(state: Any, obs: jax.Array) -> Any:
    """Take in a batch of raw observations `[..., observation_size]`; one that is not finite is left out whole."""
    flat = obs.reshape(-1, obs.shape[-1])[:, : state.mean.shape[0]].astype(state.mean.dtype)
    finite = jnp.all(jnp.isfinite(flat))
    updated = running_statistics.update(state, flat, std_min_value=STD_FLOOR)
    return jax.tree.map(lambda new, old: jnp.where(finite, new, old), updated, state)


def apply(state: Any, obs: jax.Array, clip: jax.Array | float = 5.0) -> jax.Array:
    """Normalise raw observations `[..., observation_size]` to float32 within `[-clip, clip]`.

    With no statistics (`state == ()`) the observations pass unchanged, and so do entries beyond the statistics' length
    (`Spec.fixed_scale`).
    """
    if not jax.tree.leaves(state):
        return obs.astype(jnp.float32)
    size = state.mean.shape[0]
    scaled = jnp.clip((obs[..., :size] - state.mean) / state.std, -clip, clip).astype(jnp.float32)
    if size == obs.shape[-1]:
        return scaled
    return jnp.concatenate([scaled, obs[..., size:].astype(jnp.float32)], axis=-1)

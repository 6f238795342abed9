"""Running mean and standard deviation of observations (on `brax.training.acme.running_statistics`).

The statistics change once per iteration, from the whole batch and after the update, so that acting and learning in
one iteration see the same scale. The usual libraries change them at every step instead, and learn from observations
that were normalised by statistics which no longer hold. The first iteration sees raw observations (mean 0,
deviation 1), clipped.

Observations may be trees. Only the entries that their space normalises have statistics; all others pass unchanged.
"""

from __future__ import annotations

import contextlib
import functools
import io
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jsafe.spaces import Box, Dict, Space

# mujoco.mjx, which is imported here, prints on standard output that its optional Warp backend is missing.
with contextlib.redirect_stdout(io.StringIO()):
    from brax.training.acme import running_statistics

STD_FLOOR = 0.01
"""Smallest standard deviation: an entry that hardly varies is not blown up."""


def init(space: Space) -> Any:
    """Return statistics of no observations (mean 0, deviation 1); `()` if the space normalises nothing."""
    entries = _normalized_zeros(space)
    return () if entries is None else running_statistics.init_state(entries)


def update(state: Any, obs: Any) -> Any:
    """Take in a batch of raw observations `[..., *shape]`; a batch with a value that is not finite changes nothing."""
    if not has_statistics(state):
        return state
    batch = _normalized_entries(state.mean, obs)
    finite = functools.reduce(jnp.logical_and, [jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(batch)])
    updated = running_statistics.update(state, batch, std_min_value=STD_FLOOR)
    return jax.tree.map(lambda new, old: jnp.where(finite, new, old), updated, state)


def apply(state: Any, obs: Any, clip: jax.Array | float = 5.0) -> Any:
    """Normalise raw observations to float32 within `[-clip, clip]`.

    Entries without statistics (`Box.normalize`) pass unchanged, floats as float32 and integers in their own type.

    Args:
        state: from `init`; `()` passes everything.
        obs: observations `[..., *shape]`, or a tree of them.
        clip: bound on normalised entries.
    """
    if not has_statistics(state):
        return jax.tree.map(_passed, obs)
    return _apply(state.mean, state.std, obs, clip)


def has_statistics(state: Any) -> bool:
    """True unless the statistics are empty."""
    return bool(jax.tree.leaves(state))


def _apply(mean: Any, std: Any, obs: Any, clip: jax.Array | float) -> Any:
    if isinstance(obs, Mapping):
        return {
            name: _apply(mean[name], std[name], leaf, clip) if name in mean else jax.tree.map(_passed, leaf)
            for name, leaf in obs.items()
        }
    if mean.ndim == 0 or mean.shape[-1] == obs.shape[-1]:
        return jnp.clip((obs - mean) / std, -clip, clip).astype(jnp.float32)
    size = mean.shape[-1]
    scaled = jnp.clip((obs[..., :size] - mean) / std, -clip, clip).astype(jnp.float32)
    return jnp.concatenate([scaled, obs[..., size:].astype(jnp.float32)], axis=-1)


def _passed(leaf: jax.Array) -> jax.Array:
    return leaf.astype(jnp.float32) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf


def _normalized_zeros(space: Space) -> Any:
    """Zeros for the entries that a space normalises; None for a leaf, and for a tree, without any."""
    if isinstance(space, Dict):
        inner = {name: _normalized_zeros(leaf) for name, leaf in space.items()}
        return {name: zeros for name, zeros in inner.items() if zeros is not None} or None
    if not isinstance(space, Box) or not space.num_normalized:
        return None
    return jnp.zeros((*space.shape[:-1], space.num_normalized) if space.shape else (), jnp.float32)


def _normalized_entries(mean: Any, obs: Any) -> Any:
    """The entries of observations that have statistics, with one batch axis."""
    if isinstance(mean, Mapping):
        return {name: _normalized_entries(inner, obs[name]) for name, inner in mean.items()}
    flat = obs.reshape(-1, *obs.shape[obs.ndim - mean.ndim :])
    return (flat[..., : mean.shape[-1]] if mean.ndim else flat).astype(mean.dtype)

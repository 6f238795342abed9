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

from jsafe.spaces import Box, Dict, Space, check_batch

# mujoco.mjx, which is imported here, prints on standard output that its optional Warp backend is missing.
with contextlib.redirect_stdout(io.StringIO()):
    from brax.training.acme import running_statistics

STD_FLOOR = 0.01
"""Smallest standard deviation: an entry that hardly varies is not blown up."""


def init(space: Space) -> Any:
    """Return statistics of no observations (mean 0, deviation 1); `()` if the space normalises nothing."""
    entries = _normalized_zeros(space)
    return () if entries is None else running_statistics.init_state(entries)


def update(state: Any, obs: Any, space: Space | None = None) -> Any:
    """Take in a batch of raw observations `[..., *shape]`; a batch with a value that is not finite changes nothing.

    Args:
        state: from `init`; `()` stays as it is.
        obs: observations, or a tree of them.
        space: space of the observations. With it, every other shape is refused; without it, a vector may be longer than
            the statistics, since entries that are not normalised come last.

    Raises:
        ValueError: observations that do not fit the space, or too few entries.
    """
    if space is not None:
        check_batch(space, obs)
    if not has_statistics(state):
        return state
    batch = _normalized_entries(state.mean, obs)
    finite = functools.reduce(jnp.logical_and, [jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(batch)])
    updated = running_statistics.update(state, batch, std_min_value=STD_FLOOR)
    return jax.tree.map(lambda new, old: jnp.where(finite, new, old), updated, state)


def apply(state: Any, obs: Any, clip: jax.Array | float = 5.0, space: Space | None = None) -> Any:
    """Normalise raw observations to float32 within `[-clip, clip]`.

    Entries without statistics (`Box.normalize`) pass unchanged, floats as float32 and integers in their own type.

    Args:
        state: from `init`; `()` passes everything.
        obs: observations `[..., *shape]`, or a tree of them.
        clip: bound on normalised entries.
        space: as in `update`.

    Raises:
        ValueError: observations that do not fit the space, or too few entries.
    """
    if space is not None:
        check_batch(space, obs)
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
    _check_entries(mean, obs)
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
    _check_entries(mean, obs)
    flat = obs.reshape(-1, *obs.shape[obs.ndim - mean.ndim :])
    return (flat[..., : mean.shape[-1]] if mean.ndim else flat).astype(mean.dtype)


def _check_entries(mean: Any, obs: Any) -> None:
    """Refuse observations that broadcasting would stretch to the statistics."""
    inner = obs.shape[obs.ndim - mean.ndim :] if obs.ndim >= mean.ndim else None
    if inner is None or inner[:-1] != mean.shape[:-1] or (mean.ndim and inner[-1] < mean.shape[-1]):
        raise ValueError(
            f"observations must end in the axes {mean.shape} of the statistics, got shape {obs.shape}. "
            "Use statistics of the same space: running_statistics.init(space)"
        )

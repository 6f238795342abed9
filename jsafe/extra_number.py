"""One more number in an observation, for wrappers that show the policy a budget or a phase."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp

from jsafe.spaces import Bound, Box, Dict, Space, is_flat


def extend(space: Space, name: str) -> Space:
    """Return the space with one more number that is not normalised: the last entry of a vector, else a named leaf.

    A space that is neither a vector nor a `Dict` becomes the leaf `observation` of one.
    """
    if isinstance(space, Box) and is_flat(space):
        flags = space.normalize if isinstance(space.normalize, tuple) else (space.normalize,) * space.size
        blocks = (*(space.blocks or (("observation", space.size),)), (name, 1))
        return dataclasses.replace(
            space,
            shape=(space.size + 1,),
            low=_extended(space.low, space.size, -math.inf),
            high=_extended(space.high, space.size, math.inf),
            normalize=(*flags, False),
            blocks=blocks,
        )
    named = space if isinstance(space, Dict) else Dict(observation=space)
    if name in named:
        raise ValueError(f"the observation already has a leaf {name!r}")
    return Dict({**named, name: Box((1,), normalize=False)})


def append(space: Space, value: Any, name: str, number: jax.Array) -> Any:
    """Return a value of `extend(space, name)`.

    Args:
        space: without the number.
        value: element of that space.
        name: name of the number.
        number: `[...]`, one for each value.
    """
    if is_flat(space):
        return jnp.concatenate([value, number[..., None].astype(value.dtype)], axis=-1)
    named = value if isinstance(space, Dict) else {"observation": value}
    return {**named, name: number[..., None].astype(jnp.float32)}


def remove(space: Space, value: Any, name: str) -> Any:
    """Undo `append`; `space` is the one without the number."""
    if is_flat(space):
        return value[..., :-1]
    return {k: v for k, v in value.items() if k != name} if isinstance(space, Dict) else value["observation"]


def replace(space: Space, value: Any, name: str, number: jax.Array) -> Any:
    """Replace the number in a value of `extend(space, name)`; `space` is the one without it."""
    if is_flat(space):
        return value.at[..., -1].set(number.astype(value.dtype))
    return {**value, name: number[..., None].astype(value[name].dtype)}


def _extended(bound: Bound, size: int, last: float) -> Bound:
    return bound if bound == last else (*(bound if isinstance(bound, tuple) else (bound,) * size), last)

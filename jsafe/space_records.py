"""Descriptions of spaces that JSON can hold, for the records of runs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from jsafe.spaces import Bound, Box, Dict, Discrete, Space, leaves


def describe(space: Space) -> str:
    """Return a few words for listings: the size of a vector, `8x8x3 uint8`, `1 of 4`, or those of each leaf."""
    if isinstance(space, Dict):
        return ", ".join(f"{path}: {describe(leaf)}" for path, leaf in leaves(space))
    shape = "x".join(map(str, space.shape)) or "1"
    if isinstance(space, Discrete):
        return f"1 of {space.n}" if not space.shape else f"{shape} of {space.n}"
    return shape if space.is_float else f"{shape} {space.dtype}"


def to_json(space: Space) -> dict[str, Any]:
    """Return a description that JSON can hold; infinite bounds become None."""
    if isinstance(space, Dict):
        return {"kind": "dict", "spaces": {name: to_json(inner) for name, inner in space.items()}}
    if isinstance(space, Discrete):
        return {"kind": "discrete", "n": space.n, "dtype": space.dtype, "shape": list(space.shape)}

    def finite(bound: Bound) -> Any:
        if isinstance(bound, tuple):
            return [finite(b) for b in bound]
        return bound if math.isfinite(bound) else None

    normalize = list(space.normalize) if isinstance(space.normalize, tuple) else space.normalize
    return {
        "kind": "box",
        "shape": list(space.shape),
        "dtype": space.dtype,
        "low": finite(space.low),
        "high": finite(space.high),
        "normalize": normalize,
        "blocks": [list(block) for block in space.blocks],
    }


def from_json(stored: Mapping[str, Any]) -> Space:
    """Undo `to_json`.

    Raises:
        ValueError: for something that is not its result.
    """
    kind = stored.get("kind") if isinstance(stored, Mapping) else None
    if kind == "dict":
        return Dict({name: from_json(inner) for name, inner in stored["spaces"].items()})
    if kind == "discrete":
        return Discrete(stored["n"], stored["dtype"], tuple(stored["shape"]))
    if kind != "box":
        raise ValueError(f"a stored space must be of kind box, discrete or dict, got {stored!r}")

    def bound(value: Any, infinite: float) -> Bound:
        if isinstance(value, list):
            return tuple(infinite if v is None else v for v in value)
        return infinite if value is None else value

    normalize = stored["normalize"]
    return Box(
        shape=tuple(stored["shape"]),
        dtype=stored["dtype"],
        low=bound(stored["low"], -math.inf),
        high=bound(stored["high"], math.inf),
        normalize=tuple(normalize) if isinstance(normalize, list) else normalize,
        blocks=tuple((name, size) for name, size in stored["blocks"]),
    )

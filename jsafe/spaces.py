"""Spaces of observations and actions: `Box`, `Discrete`, and trees of them (`Dict`).

A space is frozen and hashable, and has no arrays. A value of a `Dict` is a plain dict with the same names, so a value
is a pytree. Leading axes of a value, if any, are batch axes shared by every leaf.
"""

from __future__ import annotations

import dataclasses
import math
import operator
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Bound = float | tuple[float, ...]
"""One bound for every entry, or one for each entry of a flat box."""


@dataclasses.dataclass(frozen=True, init=False)
class Box:
    """Arrays of a fixed shape, with bounds.

    Attributes:
        shape: shape of one value; an integer means a vector of that size.
        dtype: name of a NumPy type.
        low: smallest value of every entry, or of each entry of a vector.
        high: largest value.
        normalize: True if `jsafe.running_statistics` normalises the values; one flag, or one for each entry of the last
            axis, with the entries to normalise first. Values that are not floating-point are never normalised.
        blocks: name and length of each block of a vector, in order; `()` if it has no blocks.

    Raises:
        ValueError: for a shape, type, bound, flag or block that does not fit.
    """

    shape: tuple[int, ...]
    dtype: str
    low: Bound
    high: Bound
    normalize: bool | tuple[bool, ...]
    blocks: tuple[tuple[str, int], ...]

    def __init__(
        self,
        shape: int | Sequence[int] = (),
        dtype: Any = "float32",
        low: float | Sequence[float] = -math.inf,
        high: float | Sequence[float] = math.inf,
        normalize: bool | Sequence[bool] = True,
        blocks: Sequence[tuple[str, int]] = (),
    ) -> None:
        def put(name: str, value: Any) -> None:
            object.__setattr__(self, name, value)

        put("shape", _shape("Box", shape))
        put("dtype", _dtype_name(dtype))
        put("low", self._bound("low", low))
        put("high", self._bound("high", high))
        if np.any(np.asarray(self.low) > np.asarray(self.high)):
            raise ValueError(f"low of a Box must be at most high, got {self.low} and {self.high}")
        put("normalize", self._flags(normalize))
        put("blocks", tuple((str(name), int(size)) for name, size in blocks))
        if blocks and self.shape != (sum(size for _, size in blocks),):
            raise ValueError(f"the blocks of a Box must add up to its shape {self.shape}, got {blocks}")

    @property
    def size(self) -> int:
        """Number of entries."""
        return math.prod(self.shape)

    @property
    def is_float(self) -> bool:
        """True for a floating-point type."""
        return np.issubdtype(np.dtype(self.dtype), np.floating)

    @property
    def is_image(self) -> bool:
        """True for an array `[height, width, channels]`."""
        return len(self.shape) == 3

    @property
    def num_normalized(self) -> int:
        """Number of normalised entries of the last axis, which come first; 1 or 0 for a scalar."""
        last = self.shape[-1] if self.shape else 1
        if not self.is_float or self.normalize is False:
            return 0
        return last if self.normalize is True else sum(self.normalize)

    @property
    def bounds(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Lower and upper bound of each entry of a vector."""
        low, high = (b if isinstance(b, tuple) else (b,) * self.size for b in (self.low, self.high))
        return low, high

    def _bound(self, name: str, value: Any) -> Bound:
        if np.ndim(value) == 0:
            return float(value)
        bound = tuple(float(v) for v in value)
        if self.shape != (len(bound),):
            raise ValueError(f"{name} of a Box must be one number or one for each entry of a vector, got {bound}")
        return bound[0] if len(set(bound)) == 1 else bound

    def _flags(self, normalize: bool | Sequence[bool]) -> bool | tuple[bool, ...]:
        if isinstance(normalize, bool):
            return normalize
        flags = tuple(bool(flag) for flag in normalize)
        last = self.shape[-1:] or (1,)
        if last != (len(flags),):
            raise ValueError(f"normalize of a Box must be one flag or {last[0]} flags, got {len(flags)}")
        if flags != tuple(sorted(flags, reverse=True)):
            raise ValueError(
                "normalize of a Box must be True for its first entries and False for the others. "
                "Reorder the entries, or give those that keep their scale a Box of their own"
            )
        return flags[0] if len(set(flags)) == 1 else flags


@dataclasses.dataclass(frozen=True)
class Discrete:
    """The whole numbers from 0 to `n - 1`, or arrays of them.

    Attributes:
        n: number of values.
        dtype: name of a NumPy integer type.
        shape: shape of one value.

    Raises:
        ValueError: `n` is below 1, or the type is no integer type.
    """

    n: int
    dtype: str = "int32"
    shape: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if isinstance(self.n, bool) or int(self.n) != self.n or self.n < 1:
            raise ValueError(f"n of a Discrete must be a whole number of at least 1, got {self.n}")
        object.__setattr__(self, "n", int(self.n))
        object.__setattr__(self, "dtype", _dtype_name(self.dtype))
        object.__setattr__(self, "shape", _shape("Discrete", self.shape))
        if not np.issubdtype(np.dtype(self.dtype), np.integer):
            raise ValueError(f"dtype of a Discrete must be an integer type, got {self.dtype}")

    @property
    def size(self) -> int:
        """Length of the one-hot code."""
        return self.n * math.prod(self.shape)


class Dict(Mapping[str, Any]):
    """A frozen mapping from names to spaces, in the order of the names; plain dicts inside become `Dict` too.

    Raises:
        ValueError: no space, or a name that is empty or has a dot (dots separate the names of a path).
        TypeError: an entry that is no space.
    """

    def __init__(self, spaces: Mapping[str, Any] | None = None, **more: Any) -> None:
        entries = {**(spaces or {}), **more}
        if not entries:
            raise ValueError("a Dict of spaces must not be empty")
        for name in entries:
            if not isinstance(name, str) or not name or "." in name:
                raise ValueError(f"names of spaces must be strings without dots, got {name!r}")
        self._spaces = {name: as_space(entries[name]) for name in sorted(entries)}

    def __getitem__(self, name: str) -> Space:
        return self._spaces[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._spaces)

    def __len__(self) -> int:
        return len(self._spaces)

    def __hash__(self) -> int:
        return hash(tuple(self._spaces.items()))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Mapping) and self._spaces == dict(other.items())

    def __repr__(self) -> str:
        return f"Dict({self._spaces!r})"


Space = Box | Discrete | Dict


def as_space(space: Any) -> Space:
    """Return a space; mappings become `Dict`.

    Raises:
        TypeError: for anything else.
    """
    if isinstance(space, Box | Discrete | Dict):
        return space
    if isinstance(space, Mapping):
        return Dict(space)
    raise TypeError(f"a space must be a Box, a Discrete or a mapping of spaces, got {space!r}")


def flat_box(blocks: Mapping[str, int], raw: tuple[str, ...] = ()) -> Box:
    """Return a vector of named blocks.

    Args:
        blocks: name and length of each block, in order.
        raw: names of the blocks that are not normalised, which come last.
    """
    flags = tuple(name not in raw for name, size in blocks.items() for _ in range(size))
    return Box((len(flags),), normalize=flags or True, blocks=tuple(blocks.items()))


def is_flat(space: Space) -> bool:
    """True for a vector, the default form of observations and continuous actions."""
    return isinstance(space, Box) and len(space.shape) == 1


def leaves(space: Space, path: str = "") -> list[tuple[str, Box | Discrete]]:
    """List the leaves with their paths: names joined by dots, `""` for a space that is a leaf itself."""
    if isinstance(space, Dict):
        return [leaf for name, inner in space.items() for leaf in leaves(inner, f"{path}.{name}" if path else name)]
    return [(path, space)]


def leaf_values(space: Space, value: Any) -> list[Any]:
    """List the leaves of a value in the order of `leaves`."""
    if isinstance(space, Dict):
        return [leaf for name, inner in space.items() for leaf in leaf_values(inner, value[name])]
    return [value]


def zeros(space: Space, batch: tuple[int, ...] = ()) -> Any:
    """Return a value of zeros, with leading axes `batch`."""
    if isinstance(space, Dict):
        return {name: zeros(inner, batch) for name, inner in space.items()}
    return jnp.zeros((*batch, *space.shape), space.dtype)


def sample(space: Space, key: jax.Array) -> Any:
    """Draw a value.

    Entries are uniform between finite bounds, normal without bounds, and exponential from a single finite bound.

    Args:
        space: space to draw from.
        key: typed PRNG key.
    """
    if isinstance(space, Dict):
        return {
            name: sample(inner, k)
            for (name, inner), k in zip(space.items(), jax.random.split(key, len(space)), strict=True)
        }
    if isinstance(space, Discrete):
        return jax.random.randint(key, space.shape, 0, space.n).astype(space.dtype)
    low, high = (np.broadcast_to(np.asarray(bound), space.shape) for bound in (space.low, space.high))
    if not space.is_float:
        limits = (0, 1) if space.dtype == "bool" else (np.iinfo(space.dtype).min, np.iinfo(space.dtype).max)
        low, high = np.maximum(low, limits[0]), np.minimum(high, limits[1])
        drawn = jax.random.uniform(key, space.shape) * (high - low + 1.0) + low
        return jnp.clip(jnp.floor(drawn), low, high).astype(space.dtype)
    k_uniform, k_normal, k_tail = jax.random.split(key, 3)
    from_low, from_high = np.where(np.isfinite(low), low, 0.0), np.where(np.isfinite(high), high, 0.0)
    tail = jax.random.exponential(k_tail, space.shape)
    drawn = jax.random.normal(k_normal, space.shape)
    drawn = jnp.where(np.isfinite(high), from_high - tail, drawn)
    drawn = jnp.where(np.isfinite(low), from_low + tail, drawn)
    between = jax.random.uniform(k_uniform, space.shape) * (from_high - from_low) + from_low
    return jnp.where(np.isfinite(low) & np.isfinite(high), between, drawn).astype(space.dtype)


def contains(space: Space, value: Any) -> bool:
    """True if a value on the host has the names, shapes and types of the space, and lies within its bounds."""
    if isinstance(space, Dict):
        return (
            isinstance(value, Mapping)
            and set(value) == set(space)
            and all(contains(inner, value[name]) for name, inner in space.items())
        )
    array = np.asarray(value)
    if array.shape != space.shape or array.dtype != np.dtype(space.dtype):
        return False
    low, high = (0, space.n - 1) if isinstance(space, Discrete) else (space.low, space.high)
    return bool(np.all((array >= np.asarray(low)) & (array <= np.asarray(high))))


def as_arrays(space: Space, value: Any) -> Any:
    """Return a value with arrays as leaves, integers in the type of their space; `check_batch` refuses the rest.

    Raises:
        ValueError: an integer on the host outside the range of the type, for example a pixel above 255.
    """
    if isinstance(value, Mapping):
        return {k: as_arrays(space[k], v) if isinstance(space, Dict) and k in space else v for k, v in value.items()}
    array = value if hasattr(value, "dtype") else np.asarray(value)
    if isinstance(space, Dict) or not all(np.issubdtype(t, np.integer) for t in (space.dtype, array.dtype)):
        return array
    bounds = np.iinfo(space.dtype)
    if isinstance(array, np.ndarray) and array.size and not bounds.min <= array.min() <= array.max() <= bounds.max:
        raise ValueError(f"integers must be from {bounds.min} to {bounds.max}, got {array.min()} to {array.max()}")
    return array.astype(space.dtype)


def check_batch(space: Space, value: Any, what: str = "observations", path: str = "") -> tuple[int, ...]:
    """Return the batch axes of a value.

    Args:
        space: space of the value; bounds are not checked, and floats of any precision are accepted.
        value: pytree of arrays, or of their shapes and types.
        what: name of the value in messages.
        path: path of the leaf, for messages.

    Raises:
        ValueError: wrong names, shapes or types, or leaves with different batch axes.
    """
    if isinstance(space, Dict):
        if not isinstance(value, Mapping) or set(value) != set(space):
            got = sorted(value) if isinstance(value, Mapping) else type(value).__name__
            raise ValueError(f"{what}{_at(path)} must be a dict of {list(space)}, got {got}")
        axes = {
            name: check_batch(inner, value[name], what, f"{path}.{name}" if path else name)
            for name, inner in space.items()
        }
        if len(set(axes.values())) > 1:
            raise ValueError(f"{what}{_at(path)} must have the same batch axes in every leaf, got {axes}")
        return next(iter(axes.values()))
    if isinstance(value, Mapping):
        raise ValueError(f"{what}{_at(path)} must be an array, got a dict of {sorted(value)}")
    shape = np.shape(value)
    batch, inner = shape[: len(shape) - len(space.shape)], shape[len(shape) - len(space.shape) :]
    if len(shape) < len(space.shape) or inner != space.shape:
        expected = f"of size {space.shape[0]} in the last axis" if is_flat(space) else f"of shape [..., {space.shape}]"
        raise ValueError(f"{what}{_at(path)} must be {expected}, got shape {shape}")
    kind = np.dtype(getattr(value, "dtype", None) or np.asarray(value).dtype)
    is_float = isinstance(space, Box) and space.is_float
    if not is_float and not (np.issubdtype(kind, np.integer) or kind == np.dtype(space.dtype)):
        raise ValueError(f"{what}{_at(path)} must be of type {space.dtype}, got {kind}")
    return batch


def flat_size(space: Space) -> int:
    """Length of what `flatten` returns."""
    return sum(leaf.size for _, leaf in leaves(space))


def flatten(space: Space, value: Any) -> jax.Array:
    """Join all leaves to one vector `[..., flat_size(space)]` of floats, in the order of `leaves`.

    Discrete values become one-hot codes, and uint8 values are scaled to [0, 1]. A vector of floats passes unchanged.
    """
    parts = [flatten_leaf(leaf, x) for (_, leaf), x in zip(leaves(space), leaf_values(space, value), strict=True)]
    return parts[0] if len(parts) == 1 else jnp.concatenate(parts, axis=-1)


def flatten_leaf(leaf: Box | Discrete, value: jax.Array) -> jax.Array:
    """Return one leaf as a vector `[..., size]` of floats, see `flatten`."""
    batch = value.shape[: value.ndim - len(leaf.shape)]
    if isinstance(leaf, Discrete):
        return jax.nn.one_hot(value, leaf.n, dtype=jnp.float32).reshape(*batch, leaf.size)
    value = to_float(value)
    return value if len(leaf.shape) == 1 else value.reshape(*batch, leaf.size)


def to_float(value: jax.Array) -> jax.Array:
    """Return floats: uint8 scaled to [0, 1], other types converted, floats unchanged."""
    if jnp.issubdtype(value.dtype, jnp.floating):
        return value
    scale = 1.0 / 255.0 if value.dtype == jnp.uint8 else 1.0
    return value.astype(jnp.float32) * scale


def _shape(kind: str, shape: Any) -> tuple[int, ...]:
    """Return a shape as integers; one integer, of NumPy too, means a vector of that size."""
    try:
        sizes = tuple(operator.index(n) for n in (shape if np.ndim(shape) else (shape,)))
    except TypeError:
        sizes = (-1,)
    if any(n < 0 for n in sizes):
        raise ValueError(f"the shape of a {kind} must have no negative size and only whole numbers, got {shape!r}")
    return sizes


def _dtype_name(dtype: Any) -> str:
    try:
        return np.dtype(dtype).name
    except TypeError:
        raise ValueError(f"dtype of a space must be the name of a NumPy type, got {dtype!r}") from None


def _at(path: str) -> str:
    return f" at {path!r}" if path else ""

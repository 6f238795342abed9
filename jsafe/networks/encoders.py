"""Observation encoders in front of the perceptron: CNN for images, MLP for vectors, GRU over frame stacks.

An encoder is a flax module that maps one leaf of the observation, with a single batch axis, to a vector of features.
`ObservationEncoder` applies one to each leaf that has one, flattens the others, and joins the features.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jsafe import frame_stack, spaces
from jsafe.networks.mlp import ACTIVATIONS, INITIALIZERS
from jsafe.spaces import Box, Dict, Discrete, Space
from jsafe.suggestions import check_choice, did_you_mean

TORSOS = ("mlp", "cnn", "gru")
"""Names of torsos: `mlp` flattens the observation, `cnn` encodes its images, `gru` reads a window of observations."""

NATURE = ((32, 8, 4), (64, 4, 2), (64, 3, 1))
"""Features, kernel and stride of each convolution (Mnih et al. 2015, "Human-level control through deep reinforcement
learning", Methods, "Model architecture"), for images of at least 36 x 36; theirs are 84 x 84."""

SMALL = ((32, 4, 2), (64, 3, 2), (64, 3, 1))
"""The same features with smaller kernels and strides, for images down to 16 x 16, of which one position is left."""

NATURE_SIDE, SMALL_SIDE = 36, 16
"""Shortest sides for which the three convolutions, without padding, have an output."""


class CnnEncoder(nn.Module):
    """Convolutions over an image, without padding or pooling, rectified (Mnih et al. 2015).

    The images of a window become channels of one image, oldest first. uint8 pixels are scaled to [0, 1]. The perceptron
    on top replaces the published layer of 512 units.

    Attributes:
        layers: features, kernel and stride of each convolution; `()` for `NATURE` or `SMALL`, by the image's size.
        initializer: name in `jsafe.networks.mlp.INITIALIZERS`.
    """

    layers: tuple[tuple[int, int, int], ...] = ()
    initializer: str = "kaiming_uniform"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Map `[B, height, width, channels]` or `[B, frames, height, width, channels]` to `[B, F]`."""
        kernel_init, bias_init = INITIALIZERS[self.initializer]
        x = spaces.to_float(x)
        if x.ndim == 5:
            x = jnp.moveaxis(x, 1, -2).reshape(x.shape[0], *x.shape[2:4], -1)
        for i, (features, kernel, stride) in enumerate(self.layers or convolutions(x.shape[1:])):
            x = nn.Conv(
                features,
                (kernel, kernel),
                (stride, stride),
                padding="VALID",
                kernel_init=kernel_init,
                bias_init=bias_init(kernel * kernel * x.shape[-1]),
                name=f"convolution_{i}",
            )(x)
            x = jax.nn.relu(x)
        return x.reshape(x.shape[0], -1)


class MlpEncoder(nn.Module):
    """Dense layers over a flattened leaf, each followed by a nonlinearity.

    Attributes:
        hidden_sizes: widths of the layers; the last one is the number of features.
        activation: name in `jsafe.networks.mlp.ACTIVATIONS`.
        initializer: name in `jsafe.networks.mlp.INITIALIZERS`.
    """

    hidden_sizes: tuple[int, ...] = (64,)
    activation: str = "tanh"
    initializer: str = "kaiming_uniform"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Map `[B, ...]` to `[B, hidden_sizes[-1]]`."""
        kernel_init, bias_init = INITIALIZERS[self.initializer]
        x = spaces.to_float(x).reshape(x.shape[0], -1)
        for i, size in enumerate(self.hidden_sizes):
            x = nn.Dense(size, kernel_init=kernel_init, bias_init=bias_init(x.shape[-1]), name=f"layer_{i}")(x)
            x = ACTIVATIONS[self.activation](x)
        return x


class GruMemory(nn.Module):
    """A gated recurrent unit (Cho et al. 2014) that reads a window of features, oldest step first.

    It starts from zeros and ignores steps before the episode's start. The gradient goes through all steps. Weights are
    drawn as flax draws them: recurrent ones orthogonal, the others LeCun normal, biases 0.

    Attributes:
        size: size of the hidden state.
    """

    size: int

    @nn.compact
    def __call__(self, steps: jax.Array, in_episode: jax.Array) -> jax.Array:
        """Map features `[..., K, F]` and flags `[..., K]` to the last hidden state `[..., size]`."""

        def read(cell: nn.GRUCell, hidden: jax.Array, step: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
            features, flag = step
            return jnp.where(flag > 0.5, cell(hidden, features)[0], hidden), None

        cell = nn.GRUCell(self.size, name="cell")
        scan = nn.scan(read, variable_broadcast="params", split_rngs={"params": False})
        start = jnp.zeros((*steps.shape[:-2], self.size), steps.dtype)
        return scan(cell, start, (jnp.moveaxis(steps, -2, 0), jnp.moveaxis(in_episode[..., None], -2, 0)))[0]


class ObservationEncoder(nn.Module):
    """Features of an observation: those of its leaves, in the order of `jsafe.spaces.leaves`.

    Attributes:
        space: observation space.
        encoders: name of a leaf in `module_names` to its encoder; the other leaves are flattened. With a memory, leaves
            are those of a frame.
        memory: reads the features of a window (`jsafe.frame_stack`); None joins them.
    """

    space: Space
    encoders: Mapping[str, nn.Module]
    memory: nn.Module | None = None

    def __call__(self, obs: Any) -> jax.Array:
        """Map observations `[..., *shape]` to features `[..., F]`."""
        if self.memory is None:
            return self._features(self.space, obs)
        steps = self._features(frame_stack.frame_space(self.space), obs[frame_stack.FRAMES])
        return self.memory(steps, obs[frame_stack.IN_EPISODE])

    def _features(self, space: Space, obs: Any) -> jax.Array:
        leaves = spaces.leaves(space)
        names = module_names([path for path, _ in leaves])
        pairs = zip(leaves, spaces.leaf_values(space, obs), strict=True)
        parts = [self._encode(names[path], leaf, value) for (path, leaf), value in pairs]
        return parts[0] if len(parts) == 1 else jnp.concatenate(parts, axis=-1)

    def _encode(self, name: str, leaf: Box | Discrete, value: jax.Array) -> jax.Array:
        encoder = self.encoders.get(name)
        if encoder is None:
            return spaces.flatten_leaf(leaf, value)
        if isinstance(leaf, Discrete):
            value = jax.nn.one_hot(value, leaf.n, dtype=jnp.float32)
        inner = len(leaf.shape) + isinstance(leaf, Discrete)
        batch, shape = value.shape[: value.ndim - inner], value.shape[value.ndim - inner :]
        features = encoder(value.reshape(math.prod(batch), *shape))
        return features.reshape(*batch, -1)


def module_names(paths: Sequence[str]) -> dict[str, str]:
    """Return a different name of a module for each path of an observation: the path with `_` in place of dots.

    Where that is the name of several leaves, such as `a.b` and `a_b`, the path with the fewest dots has it, and the
    others end in a number.
    """
    plain = {path: path.replace(".", "_") for path in sorted(paths, key=lambda path: (path.count("."), path))}
    names: dict[str, str] = {}
    for path, name in plain.items():
        if name in names.values():
            taken = {*plain.values(), *names.values()}
            name = next(n for n in (f"{name}_{i}" for i in itertools.count(2)) if n not in taken)
        names[path] = name
    return names


def convolutions(image_shape: tuple[int, ...]) -> tuple[tuple[int, int, int], ...]:
    """Return features, kernel and stride of each convolution for an image of a shape."""
    return NATURE if min(image_shape[:2]) >= NATURE_SIDE else SMALL


def check(torso: str, history: int, image_shape: tuple[int, ...]) -> None:
    """Refuse a torso without what it needs, and settings that it would ignore.

    Raises:
        ValueError: naming the setting.
    """
    check_choice("torso", torso, TORSOS)
    if torso == "gru" and history < 2:
        raise ValueError(f"history must be at least 2 for torso 'gru', which reads a window, got {history}")
    if torso != "cnn" and image_shape:
        raise ValueError(f"image_shape is for torso 'cnn', got {image_shape} with torso {torso!r}")
    if image_shape and (len(image_shape) != 3 or min(image_shape) < 1):
        raise ValueError(f"image_shape must be (height, width, channels) for torso 'cnn', got {image_shape}")
    if image_shape and min(image_shape[:2]) < SMALL_SIDE:
        raise ValueError(f"image_shape must be at least {SMALL_SIDE} high and wide, got {image_shape}")


@dataclasses.dataclass(frozen=True)
class ImageSplit:
    """Shows the start of a flat observation as an image: `{"image": [H, W, C], "rest": [...]}`.

    Attributes:
        source: the space of the observation, flat or a window of flat ones.
        image_shape: height, width and channels.

    Raises:
        ValueError: the observation is not flat, or is shorter than the image.
    """

    source: Space
    image_shape: tuple[int, ...]

    def __post_init__(self) -> None:
        flat, pixels = frame_stack.frame_space(self.source), math.prod(self.image_shape)
        if not spaces.is_flat(flat):
            raise ValueError(f"image_shape is for flat observations, got {flat}. Remove it: images are leaves here")
        if pixels > spaces.flat_size(flat):
            size = spaces.flat_size(flat)
            raise ValueError(f"image_shape {self.image_shape} needs {pixels} entries, an observation has {size}")

    @property
    def space(self) -> Space:
        """The space of what `__call__` returns."""
        length = frame_stack.window_length(self.source)
        rest = spaces.flat_size(frame_stack.frame_space(self.source)) - math.prod(self.image_shape)
        split = Dict({"image": Box(self.image_shape), **({"rest": Box(rest)} if rest else {})})
        return frame_stack.stacked_space(split, length) if length > 1 else split

    def __call__(self, obs: Any) -> Any:
        """Split observations with any batch axes."""
        if frame_stack.window_length(self.source) > 1:
            return {**obs, frame_stack.FRAMES: self._split(obs[frame_stack.FRAMES])}
        return self._split(obs)

    def _split(self, flat: jax.Array) -> dict[str, jax.Array]:
        pixels = math.prod(self.image_shape)
        image = flat[..., :pixels].reshape(*flat.shape[:-1], *self.image_shape)
        return {"image": image, **({"rest": flat[..., pixels:]} if flat.shape[-1] > pixels else {})}


def make_encoder(
    space: Space, torso: str, recurrent_size: int, initializer: str, encoders: Mapping[str, Any]
) -> ObservationEncoder | None:
    """Choose the encoders of an observation.

    Args:
        space: observation space.
        torso: name in `TORSOS`.
        recurrent_size: width of the memory of torso `gru`.
        initializer: initializer of the convolutions of torso `cnn`.
        encoders: name or path of a leaf to its encoder, a module or its description (`encoder_from_json`).

    Returns:
        The encoder, or None if the perceptron reads the flattened observation.

    Raises:
        ValueError: a torso without the observation it needs, or an encoder for a leaf that does not exist.
    """
    check(torso, frame_stack.window_length(space), ())
    memory = GruMemory(recurrent_size) if torso == "gru" else None
    leaves = dict(spaces.leaves(frame_stack.frame_space(space) if memory else space))
    chosen: dict[str, nn.Module] = {}
    if torso == "cnn":
        frames = frame_stack.window_length(space) > 1
        images = {path: leaf for path, leaf in leaves.items() if len(leaf.shape) == 3 + frames}
        for path, leaf in images.items():
            if min(leaf.shape[-3:-1]) < SMALL_SIDE and not _matches(path, encoders):
                raise ValueError(
                    f"the image {path!r} must be at least {SMALL_SIDE} high and wide for torso 'cnn', got shape "
                    f"{leaf.shape}. Give it an encoder of its own: encoders={{{path!r}: CnnEncoder(layers=...)}}"
                )
            chosen[path] = CnnEncoder(initializer=initializer)
        if not images:
            raise ValueError("image_shape must be (height, width, channels) for torso 'cnn', got ()")
    for name, encoder in encoders.items():
        paths = [path for path in leaves if _matches(path, [name])]
        if not paths:
            hint = did_you_mean(name, list(leaves))
            raise ValueError(f"encoders must name leaves of the observation ({', '.join(leaves)}), got {name!r}{hint}")
        module = encoder if isinstance(encoder, nn.Module) else encoder_from_json(encoder)
        chosen |= dict.fromkeys(paths, module)
    if not chosen and memory is None:
        return None
    names = module_names(list(leaves))
    return ObservationEncoder(space, {names[path]: module for path, module in chosen.items()}, memory)


def _matches(path: str, names: Any) -> bool:
    return any(path == name or path.endswith(f".{name}") for name in names)


ENCODERS: dict[str, type[nn.Module]] = {"cnn": CnnEncoder, "mlp": MlpEncoder}
"""Encoders by the name that records hold; add a class of your own before a run of it is loaded."""


def encoder_to_json(encoder: Any) -> dict[str, Any]:
    """Describe an encoder for a record: `kind`, a name in `ENCODERS`, and its attributes; descriptions pass unchanged.

    Raises:
        ValueError: the class is not in `ENCODERS`.
    """
    if isinstance(encoder, Mapping):
        return dict(encoder)
    kinds = [kind for kind, cls in ENCODERS.items() if type(encoder) is cls]
    if not kinds:
        raise ValueError(f"an encoder must be of a class in ENCODERS ({', '.join(ENCODERS)}), got {encoder!r}")
    fields = {f.name: getattr(encoder, f.name) for f in dataclasses.fields(encoder) if f.name not in ("parent", "name")}
    return {"kind": kinds[0], **fields}


def encoder_from_json(stored: Mapping[str, Any]) -> nn.Module:
    """Undo `encoder_to_json`.

    Raises:
        ValueError: for an unknown kind.
    """
    kind = check_choice("kind of encoder", str(stored.get("kind")), tuple(ENCODERS))
    return ENCODERS[kind](**{k: _tuples(v) for k, v in stored.items() if k != "kind"})


def _tuples(value: Any) -> Any:
    return tuple(_tuples(v) for v in value) if isinstance(value, list | tuple) else value

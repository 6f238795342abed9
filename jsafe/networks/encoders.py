"""What stands between an observation and the perceptron on top: a recurrent reader of windows, an image encoder.

Both are pure functions of one observation `[..., observation_size]`. `of` builds the one a `PolicySpec` names.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jsafe import frame_stack
from jsafe.trainer import PolicySpec

TORSOS = ("mlp", "cnn", "gru")
"""Names of torsos; `mlp` is none, the perceptron reads the observation itself."""

Initializers = tuple[Callable[..., Any], Callable[[int], Callable[..., Any]]]
"""Initialiser of weights, and one of biases for a number of inputs (`jsafe.networks.mlp.INITIALIZERS`)."""

NATURE = ((32, 8, 4), (64, 4, 2), (64, 3, 1))
"""Features, kernel and stride of each convolution (Mnih et al. 2015, "Human-level control through deep reinforcement
learning", Methods, "Model architecture"), for images of at least 36 x 36; theirs are 84 x 84."""

SMALL = ((32, 4, 2), (64, 3, 2), (64, 3, 1))
"""The same features with smaller kernels and strides, for images down to 16 x 16, of which one place is left."""

NATURE_SIDE, SMALL_SIDE = 36, 16
"""Shortest sides that three convolutions without padding leave anything of."""


class Recurrent(nn.Module):
    """A gated recurrent unit (Cho et al. 2014) that reads a window of `jsafe.frame_stack`, oldest step first.

    It starts from zeros and is not moved by steps before the episode's start. The gradient goes through all steps.
    Weights are drawn as flax draws them: recurrent ones orthogonal, the others LeCun normal, biases 0.

    Attributes:
        size: of the hidden state.
        length: of the window.
        fixed_scale: entries at the end of each step's observation that are not normalised.
    """

    size: int
    length: int
    fixed_scale: int

    @nn.compact
    def __call__(self, obs: jax.Array) -> jax.Array:
        """Map `[..., length * (O + 1)]` to the last hidden state `[..., size]`."""
        steps, flags = frame_stack.unpack(obs, self.length, self.fixed_scale)

        def read(cell: nn.GRUCell, hidden: jax.Array, step: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
            seen, flag = step
            return jnp.where(flag > 0.5, cell(hidden, seen)[0], hidden), None

        cell = nn.GRUCell(self.size, name="cell")
        scan = nn.scan(read, variable_broadcast="params", split_rngs={"params": False})
        start = jnp.zeros((*obs.shape[:-1], self.size), obs.dtype)
        return scan(cell, start, (jnp.moveaxis(steps, -2, 0), jnp.moveaxis(flags[..., None], -2, 0)))[0]


class Convolutional(nn.Module):
    """Three convolutions over an image, in the manner of Mnih et al. (2015), with everything else put beside them.

    The image is the start of the observation, flattened from `[height, width, channels]`. With a history the images of
    the window become channels of one image, oldest first, as theirs do. Rectified, without padding or pooling; the
    perceptron on top takes the place of their layer of 512 units. Pixels are normalised like any other entry unless
    the environment says that their scale is fixed.

    Attributes:
        image_shape: height, width, channels.
        length: of the window (`jsafe.frame_stack`), 1 for an observation that is none.
        fixed_scale: entries at the end of each step's observation that are not normalised.
        initializers: of the convolutions.
    """

    image_shape: tuple[int, ...]
    length: int
    fixed_scale: int
    initializers: Initializers

    @nn.compact
    def __call__(self, obs: jax.Array) -> jax.Array:
        """Map `[..., observation_size]` to features `[..., F]`."""
        kernel_init, bias_init = self.initializers
        batch, rest = obs.shape[:-1], []
        steps = obs[..., None, :]
        if self.length > 1:
            steps, flags = frame_stack.unpack(obs, self.length, self.fixed_scale)
            rest = [flags]
        pixels = math.prod(self.image_shape)
        x = jnp.moveaxis(steps[..., :pixels].reshape(*batch, self.length, *self.image_shape), -4, -2)
        x = x.reshape(*batch, *self.image_shape[:2], self.length * self.image_shape[2])
        for i, (features, kernel, stride) in enumerate(convolutions(self.image_shape)):
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
        return jnp.concatenate([x.reshape(*batch, -1), steps[..., pixels:].reshape(*batch, -1), *rest], axis=-1)


def convolutions(image_shape: tuple[int, ...]) -> tuple[tuple[int, int, int], ...]:
    """Features, kernel and stride of each convolution for an image of that shape."""
    return NATURE if min(image_shape[:2]) >= NATURE_SIDE else SMALL


def check(torso: str, history_length: int, image_shape: tuple[int, ...]) -> None:
    """Refuse a torso without what it needs, and settings that it would ignore.

    Raises:
        ValueError: naming the setting.
    """
    if torso == "gru" and history_length < 2:
        raise ValueError(f"history must be at least 2 for torso 'gru', which reads a window, got {history_length}")
    if torso != "cnn" and image_shape:
        raise ValueError(f"image_shape is for torso 'cnn', got {image_shape} with torso {torso!r}")
    if torso == "cnn" and (len(image_shape) != 3 or min(image_shape) < 1):
        raise ValueError(f"image_shape must be (height, width, channels) for torso 'cnn', got {image_shape}")
    if torso == "cnn" and min(image_shape[:2]) < SMALL_SIDE:
        raise ValueError(f"image_shape must be at least {SMALL_SIDE} high and wide, got {image_shape}")


def of(spec: PolicySpec, initializers: Initializers) -> nn.Module | None:
    """Build the torso of a policy or value function; None if the perceptron reads the observation itself.

    Raises:
        ValueError: for an unknown torso, one without what it needs, or an observation that does not hold the image.
    """
    if spec.torso not in TORSOS:
        raise ValueError(f"unknown torso {spec.torso!r}, expected one of {list(TORSOS)}")
    check(spec.torso, spec.history, spec.image_shape)
    if spec.torso == "mlp":
        return None
    windowed = spec.history > 1
    size, fixed_scale = (n // spec.history - windowed for n in (spec.observation_size, spec.fixed_scale))
    if spec.torso == "gru":
        return Recurrent(spec.recurrent_size, spec.history, fixed_scale)
    if math.prod(spec.image_shape) > size:
        needed = math.prod(spec.image_shape)
        raise ValueError(f"image_shape {spec.image_shape} needs {needed} entries, an observation has {size}")
    return Convolutional(spec.image_shape, spec.history, fixed_scale, initializers)

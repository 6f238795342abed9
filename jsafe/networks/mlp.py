"""Networks as pairs of pure functions, and the multi-layer perceptrons used by default.

An algorithm sees a network only as `Network(init, apply)`, so any function approximator can replace the ones built
here. `jsafe.networks.actor_critic` builds policies and value functions.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jsafe import spaces
from jsafe.distributions import Gaussian
from jsafe.spaces import Box, Space
from jsafe.suggestions import check_choice

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "tanh": jnp.tanh,
    "relu": jax.nn.relu,
    "elu": jax.nn.elu,
    "gelu": jax.nn.gelu,
    "silu": jax.nn.silu,
    "softplus": jax.nn.softplus,
    "sigmoid": jax.nn.sigmoid,
    "identity": lambda x: x,
}
"""Nonlinearities by name."""


class Network(NamedTuple):
    """A function approximator.

    Attributes:
        init: `key -> params`.
        apply: `(params, x) -> y`, where `x` is a batch of observations or another input.
    """

    init: Callable[[jax.Array], Any]
    apply: Callable[..., Any]


@dataclasses.dataclass(frozen=True)
class PerceptronApply:
    """The `apply` of a network that is one perceptron over the flattened observation.

    It is a function like any other. Its attributes let an update recognise such networks and evaluate several at once
    (`algorithms.on_policy.stacked_mlp`).

    Attributes:
        space: space of the input.
        hidden_sizes: widths of the hidden layers.
        output_size: length of the perceptron's output.
        activation: name in `ACTIVATIONS`.
        call: `(params, x) -> y`.
        gaussian: `(mean, log_std) -> distribution` for a policy whose deviation does not depend on the observation;
            None for any other network.
    """

    space: Space
    hidden_sizes: tuple[int, ...]
    output_size: int
    activation: str
    call: Callable[[Any, Any], Any]
    gaussian: Callable[[jax.Array, jax.Array], Gaussian] | None = None

    @property
    def input_size(self) -> int:
        """Length of the flattened input."""
        return spaces.flat_size(self.space)

    def flatten(self, x: Any) -> jax.Array:
        """Return the input as one vector `[..., input_size]`."""
        return spaces.flatten(self.space, x)

    def __call__(self, params: Any, x: Any) -> Any:
        return self.call(params, x)


def _uniform(bound: float) -> Callable[..., jax.Array]:
    def initializer(key: jax.Array, shape: Sequence[int], dtype: Any = jnp.float32) -> jax.Array:
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return initializer


def _zeros(fan_in: int) -> Callable[..., jax.Array]:
    del fan_in
    return nn.initializers.zeros


_Pair = tuple[Callable[..., Any], Callable[[int], Callable[..., Any]]]

INITIALIZERS: dict[str, _Pair] = {
    "kaiming_uniform": (nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform"), lambda n: _uniform(n**-0.5)),
    "lecun_normal": (nn.initializers.lecun_normal(), _zeros),
    "xavier_uniform": (nn.initializers.xavier_uniform(), _zeros),
    "xavier_normal": (nn.initializers.xavier_normal(), _zeros),
    "orthogonal": (nn.initializers.orthogonal(math.sqrt(2.0)), _zeros),
}
"""Initialisers of weights and biases by name. `kaiming_uniform` draws both from U(-1/sqrt(fan_in), 1/sqrt(fan_in)),
as PyTorch's linear layer does (He et al. 2015 with a = sqrt(5))."""


class MLP(nn.Module):
    """Dense layers with a nonlinearity between them and a linear output."""

    hidden_sizes: tuple[int, ...]
    output_size: int
    activation: str = "tanh"
    initializer: str = "kaiming_uniform"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Map `[..., input_size]` to `[..., output_size]`."""
        kernel_init, bias_init = INITIALIZERS[self.initializer]
        for i, size in enumerate((*self.hidden_sizes, self.output_size)):
            x = nn.Dense(size, kernel_init=kernel_init, bias_init=bias_init(x.shape[-1]), name=f"layer_{i}")(x)
            if i < len(self.hidden_sizes):
                x = ACTIVATIONS[self.activation](x)
        return x


def make_mlp(
    space: Space | int,
    hidden_sizes: Sequence[int],
    output_size: int,
    activation: str = "tanh",
    initializer: str = "kaiming_uniform",
) -> Network:
    """Build a perceptron over flattened inputs.

    Args:
        space: space of the input; an integer means a vector of that size.
        hidden_sizes: widths of the hidden layers.
        output_size: length of the output.
        activation: name in `ACTIVATIONS`.
        initializer: name in `INITIALIZERS`.

    Raises:
        ValueError: for an unknown activation or initializer, or a size below 1.
    """
    check_choice("activation", activation, tuple(ACTIVATIONS))
    check_choice("initializer", initializer, tuple(INITIALIZERS))
    space = Box(space) if isinstance(space, int) else space
    input_size = spaces.flat_size(space)
    sizes = (input_size, *hidden_sizes, output_size)
    if min(sizes) < 1:
        raise ValueError(f"every layer size must be at least 1, got {sizes}")
    module = MLP(tuple(hidden_sizes), output_size, activation, initializer)

    def call(params: Any, x: Any) -> Any:
        return module.apply({"params": params}, spaces.flatten(space, x))

    return Network(
        init=lambda key: module.init(key, jnp.zeros((1, input_size), jnp.float32))["params"],
        apply=PerceptronApply(space, tuple(hidden_sizes), output_size, activation, call),
    )

"""Networks as pairs of pure functions, and the multi-layer perceptrons used by default.

An algorithm sees a network only as `Network(init, apply)`, so any function approximator can take the place of the
ones built here; see `make_mlp` and `make_policy` for the shapes expected.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jsafe import distributions
from jsafe.networks import encoders
from jsafe.trainer import PolicySpec

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


class Layout(NamedTuple):
    """Shape of a built-in perceptron; lets an update recognise networks it can evaluate together.

    Attributes:
        input_size: length of the input.
        hidden_sizes: widths of the hidden layers.
        output_size: length of the output.
        activation: name in `ACTIVATIONS`.
        gaussian: for a policy with a deviation that does not depend on the observation, `(mean, log_std) ->
            distribution`; None for any other network.
    """

    input_size: int
    hidden_sizes: tuple[int, ...]
    output_size: int
    activation: str
    gaussian: Callable[[jax.Array, jax.Array], distributions.Gaussian] | None = None


class Network(NamedTuple):
    """A function approximator.

    Attributes:
        init: `key -> params`.
        apply: `(params, x [..., input_size]) -> y`; networks of other inputs say what they take.
        layout: set for the perceptrons built here, None for any other network.
    """

    init: Callable[[jax.Array], Any]
    apply: Callable[..., Any]
    layout: Layout | None = None


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


def known(kind: str, name: str, choices: Sequence[str]) -> str:
    """Return `name` if it is among the choices.

    Raises:
        ValueError: naming the nearest choice otherwise.
    """
    if name in choices:
        return name
    near = difflib.get_close_matches(str(name), choices, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"unknown {kind} {name!r}, expected one of {sorted(choices)}{hint}")


def make_mlp(
    input_size: int,
    hidden_sizes: Sequence[int],
    output_size: int,
    activation: str = "tanh",
    initializer: str = "kaiming_uniform",
) -> Network:
    """Build a perceptron `[..., input_size] -> [..., output_size]`.

    Raises:
        ValueError: for an unknown activation or initializer, or a size below 1.
    """
    known("activation", activation, tuple(ACTIVATIONS))
    known("initializer", initializer, tuple(INITIALIZERS))
    sizes = (input_size, *hidden_sizes, output_size)
    if min(sizes) < 1:
        raise ValueError(f"every layer size must be at least 1, got {sizes}")
    module = MLP(tuple(hidden_sizes), output_size, activation, initializer)
    layout = Layout(input_size, tuple(hidden_sizes), output_size, activation)
    return Network(
        init=lambda key: module.init(key, jnp.zeros((1, input_size), jnp.float32))["params"],
        apply=lambda params, x: module.apply({"params": params}, x),
        layout=layout,
    )


class Headed(nn.Module):
    """A perceptron on top of a torso."""

    torso: nn.Module
    head: MLP

    def __call__(self, x: jax.Array) -> jax.Array:
        """Map `[..., input_size]` to `[..., output_size]`."""
        return self.head(self.torso(x))


def make_body(spec: PolicySpec, output_size: int, initializer: str = "kaiming_uniform") -> Network:
    """Build what a policy and a value function share: the torso, if there is one, and a perceptron.

    Returns:
        A network `[..., observation_size] -> [..., output_size]`; only a perceptron without a torso has a layout.

    Raises:
        ValueError: see `make_mlp` and `jsafe.networks.encoders.of`.
    """
    mlp = make_mlp(spec.observation_size, spec.hidden_sizes, output_size, spec.activation, initializer)
    torso = encoders.of(spec, INITIALIZERS[initializer])
    if torso is None:
        return mlp
    module = Headed(torso, MLP(tuple(spec.hidden_sizes), output_size, spec.activation, initializer))
    return Network(
        init=lambda key: module.init(key, jnp.zeros((1, spec.observation_size), jnp.float32))["params"],
        apply=lambda params, x: module.apply({"params": params}, x),
    )


def make_value(spec: PolicySpec, initializer: str = "kaiming_uniform") -> Network:
    """Build a value function with the policy's torso and hidden layers: `[..., observation_size] -> [...]`."""
    body = make_body(spec, 1, initializer)
    return Network(init=body.init, apply=lambda params, x: body.apply(params, x)[..., 0], layout=body.layout)


def make_policy(spec: PolicySpec, initializer: str = "kaiming_uniform") -> Network:
    """Build the policy a specification asks for: categorical for discrete actions, else a Gaussian.

    The Gaussian's deviation does not depend on the observation.

    Returns:
        A network whose `apply(params, obs [..., O])` gives a distribution (`jsafe.distributions`). The params are
        `{"mean": body, "log_std": [action_size]}`, or `{"logits": body}` for discrete actions; see `make_body`.
    """
    if spec.num_actions is not None:
        logits = make_body(spec, spec.num_actions, initializer)
        return Network(
            init=lambda key: {"logits": logits.init(key)},
            apply=lambda params, obs: distributions.Categorical(logits.apply(params["logits"], obs)),
        )
    body = make_body(spec, spec.action_size, initializer)

    def gaussian(mean: jax.Array, log_std: jax.Array) -> distributions.Gaussian:
        if spec.squash:
            return distributions.Squashed(mean, log_std, low=spec.action_low, high=spec.action_high)
        return distributions.Gaussian(mean, log_std)

    def init(key: jax.Array) -> dict[str, Any]:
        return {"mean": body.init(key), "log_std": jnp.full(spec.action_size, spec.initial_log_std, jnp.float32)}

    def apply(params: dict[str, Any], obs: jax.Array) -> distributions.Gaussian:
        return gaussian(body.apply(params["mean"], obs), params["log_std"])

    return Network(init=init, apply=apply, layout=body.layout and body.layout._replace(gaussian=gaussian))

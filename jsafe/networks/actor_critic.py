"""Policies and value functions for any observation space, and the registry that rebuilds policies from records."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jsafe import distributions, spaces
from jsafe.networks import encoders
from jsafe.networks.mlp import MLP, Network, PerceptronApply, make_mlp
from jsafe.spaces import Box, Discrete, Space
from jsafe.suggestions import did_you_mean

DEFAULT = "encoder_mlp"
"""Name of the built-in policy network."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class BodyConfig:
    """The part that a policy and a value function share: encoders of the observation, and a perceptron.

    Attributes:
        hidden_sizes: widths of the hidden layers.
        activation: name in `jsafe.networks.mlp.ACTIVATIONS`.
        initializer: name in `jsafe.networks.mlp.INITIALIZERS`.
        torso: name in `jsafe.networks.encoders.TORSOS`.
        recurrent_size: width of the memory of torso `gru`.
        image_shape: height, width and channels of the image at the start of a flat observation, for torso `cnn`.
        encoders: name of a leaf of the observation to its encoder.
    """

    hidden_sizes: tuple[int, ...] = (64, 64)
    activation: str = "tanh"
    initializer: str = "kaiming_uniform"
    torso: str = "mlp"
    recurrent_size: int = 64
    image_shape: tuple[int, ...] = ()
    encoders: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("hidden_sizes", "image_shape"):  # lists in records
            object.__setattr__(self, name, tuple(getattr(self, name)))


class EncoderWithHead(nn.Module):
    """A perceptron on top of an encoder."""

    torso: nn.Module
    head: MLP

    def __call__(self, x: Any) -> jax.Array:
        """Map observations to `[..., output_size]`."""
        return self.head(self.torso(x))


def make_body(observation: Space, output_size: int, config: BodyConfig) -> Network:
    """Build encoders, if the configuration has any, and a perceptron.

    Returns:
        A network from observations to `[..., output_size]`.

    Raises:
        ValueError: see `jsafe.networks.mlp.make_mlp` and `jsafe.networks.encoders.make_encoder`.
    """
    mlp = make_mlp(observation, config.hidden_sizes, output_size, config.activation, config.initializer)
    view = encoders.ImageSplit(observation, config.image_shape) if config.image_shape else None
    space = view.space if view else observation
    torso = encoders.make_encoder(space, config.torso, config.recurrent_size, config.initializer, config.encoders)
    if torso is None:
        return mlp
    module = EncoderWithHead(torso, MLP(config.hidden_sizes, output_size, config.activation, config.initializer))

    def prepare(obs: Any) -> Any:
        return view(obs) if view else obs

    return Network(
        init=lambda key: module.init(key, prepare(spaces.zeros(observation, (1,))))["params"],
        apply=lambda params, obs: module.apply({"params": params}, prepare(obs)),
    )


def make_value(observation: Space, **body: Any) -> Network:
    """Build a value function from observations to `[...]`.

    Args:
        observation: space of the observations.
        **body: see `BodyConfig`.
    """
    network = make_body(observation, 1, BodyConfig(**body))
    return _on_top(network, lambda params, obs: network.apply(params, obs)[..., 0], network.init)


def make_policy(
    observation: Space, action: Space, *, squash: bool = False, initial_log_std: float = 0.0, **body: Any
) -> Network:
    """Build a policy: categorical for discrete actions, else a Gaussian.

    The Gaussian's deviation does not depend on the observation.

    Args:
        observation: space of the observations.
        action: space of the actions, a `Discrete` or a vector.
        squash: squash continuous actions to their bounds by tanh instead of leaving them to be clipped.
        initial_log_std: log standard deviation of a continuous policy before training.
        **body: see `BodyConfig`.

    Returns:
        A network whose `apply(params, obs)` returns a distribution (`jsafe.distributions`). The params are
        `{"mean": body, "log_std": [A]}`, or `{"logits": body}` for discrete actions.

    Raises:
        ValueError: the actions are neither discrete nor a vector; see also `make_body`.
    """
    config = BodyConfig(**body)
    if isinstance(action, Discrete) and not action.shape:
        logits = make_body(observation, action.n, config)
        return Network(
            init=lambda key: {"logits": logits.init(key)},
            apply=lambda params, obs: distributions.Categorical(logits.apply(params["logits"], obs)),
        )
    if not (isinstance(action, Box) and spaces.is_flat(action)):
        raise ValueError(f"the actions of the built-in policy must be a Discrete or a flat Box, got {action}")
    size, (low, high) = action.size, action.bounds
    network = make_body(observation, size, config)

    def gaussian(mean: jax.Array, log_std: jax.Array) -> distributions.Gaussian:
        if squash:
            return distributions.Squashed(mean, log_std, low=low, high=high)
        return distributions.Gaussian(mean, log_std)

    def init(key: jax.Array) -> dict[str, Any]:
        return {"mean": network.init(key), "log_std": jnp.full(size, initial_log_std, jnp.float32)}

    def apply(params: dict[str, Any], obs: Any) -> distributions.Gaussian:
        return gaussian(network.apply(params["mean"], obs), params["log_std"])

    return _on_top(network, apply, init, gaussian)


def _on_top(
    network: Network,
    call: Callable[[Any, Any], Any],
    init: Callable[[jax.Array], Any],
    gaussian: Callable[[jax.Array, jax.Array], distributions.Gaussian] | None = None,
) -> Network:
    """A network with another output; a bare perceptron can still be recognised as one."""
    if isinstance(network.apply, PerceptronApply):
        return Network(init, dataclasses.replace(network.apply, call=call, gaussian=gaussian))
    return Network(init, call)


BUILDERS: dict[str, Callable[..., Network]] = {DEFAULT: make_policy}
"""Builders of policies by name, see `register`."""


def register(name: str) -> Callable[[Callable[..., Network]], Callable[..., Network]]:
    """Register a builder of policies, `(observation space, action space, **kwargs) -> Network`, under a name.

    Runs record the name and the keyword arguments, which must be JSON. Import the module that registers the builder
    before loading such a policy.

    Raises:
        ValueError: the name is taken.
    """

    def add(builder: Callable[..., Network]) -> Callable[..., Network]:
        if name in BUILDERS:
            raise ValueError(f"a network {name!r} is already registered")
        BUILDERS[name] = builder
        return builder

    return add


def build(name: str, observation: Space, action: Space, kwargs: Mapping[str, Any]) -> Network:
    """Build a policy by the name of its builder.

    Raises:
        ValueError: no such builder, or arguments that it does not accept.
    """
    if name not in BUILDERS:
        raise ValueError(
            f"unknown network {name!r}, expected one of {sorted(BUILDERS)}{did_you_mean(name, BUILDERS)}. "
            "Import the module that registers it first"
        )
    try:
        return BUILDERS[name](observation, action, **kwargs)
    except TypeError as error:
        raise ValueError(f"network {name!r} cannot be built from {sorted(kwargs)}: {error}") from error

"""Distributions over actions, as pytrees: what a policy network returns.

A distribution is a struct of arrays with the methods `sample`, `mode`, `log_prob`, `entropy`, `kl` and `execute`.
Log-probabilities are always those of the action as drawn; `execute` turns a drawn action into the action that the
environment receives. For the plain Gaussian both are the same number (the environment clips it); for the squashed one
it is the hyperbolic tangent. Learning from the number before squashing needs no inverse, and gives the same ratios of
densities and the same divergences.
"""

from __future__ import annotations

import math
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

_LOG_2PI = math.log(2.0 * math.pi)
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(24)
_WEIGHTS = _WEIGHTS / _WEIGHTS.sum()
"""Gauss-Hermite nodes and weights for expectations under a standard normal."""


class Distribution(Protocol):
    """Output of a policy for a batch of observations; `...` are the batch axes."""

    def sample(self, key: jax.Array) -> jax.Array:
        """Draw one action for each observation."""
        ...

    def mode(self) -> jax.Array:
        """Return the most likely action of each."""
        ...

    def log_prob(self, action: jax.Array) -> jax.Array:
        """Log density or probability `[...]` of actions as drawn."""
        ...

    def entropy(self) -> jax.Array:
        """Entropy in nats, of a shape that broadcasts to `[...]`."""
        ...

    def kl(self, other: Any) -> jax.Array:
        """KL divergence `[...]` from this distribution to another of its kind."""
        ...

    def execute(self, action: jax.Array) -> jax.Array:
        """Return the action for the environment, given an action as drawn."""
        ...

    def per_sample(self) -> Any:
        """Return the same distribution with every parameter broadcast to each observation."""
        ...


@struct.dataclass
class Gaussian:
    """Independent normals, neither squashed nor clipped.

    Attributes:
        mean: `[..., A]`.
        log_std: log standard deviations, `[A]` or `[..., A]`.
    """

    mean: jax.Array
    log_std: jax.Array

    def sample(self, key: jax.Array) -> jax.Array:
        """Draw actions `[..., A]`."""
        return self.mean + jnp.exp(self.log_std) * jax.random.normal(key, self.mean.shape, self.mean.dtype)

    def mode(self) -> jax.Array:
        """The means `[..., A]`."""
        return self.mean

    def log_prob(self, action: jax.Array) -> jax.Array:
        """Log density of actions, summed over the last axis: `[..., A] -> [...]`."""
        z = (action - self.mean) * jnp.exp(-self.log_std)
        return jnp.sum(-0.5 * z * z - self.log_std - 0.5 * _LOG_2PI, axis=-1)

    def entropy(self) -> jax.Array:
        """Differential entropy in nats, summed over the last axis."""
        return jnp.sum(self.log_std + 0.5 * (1.0 + _LOG_2PI), axis=-1)

    def kl(self, other: Gaussian) -> jax.Array:
        """KL divergence to another Gaussian, summed over the last axis: `[...]`."""
        variance_ratio = jnp.exp(2.0 * (self.log_std - other.log_std))
        distance = (self.mean - other.mean) * jnp.exp(-other.log_std)
        return jnp.sum(other.log_std - self.log_std + 0.5 * (variance_ratio + distance * distance - 1.0), axis=-1)

    def execute(self, action: jax.Array) -> jax.Array:
        """The action itself."""
        return action

    def per_sample(self) -> Gaussian:
        """With deviations `[..., A]`."""
        return self.replace(log_std=jnp.broadcast_to(self.log_std, self.mean.shape))  # type: ignore[attr-defined]


@struct.dataclass
class Squashed(Gaussian):
    """A Gaussian whose draws are squashed by tanh and stretched to the bounds of the action (Haarnoja et al. 2018).

    `sample`, `mode` and `log_prob` refer to the draw before squashing; `log_prob` is the density of that draw, so
    its ratios and `kl` are those of the squashed distribution. `entropy` is that of the squashed one, within [-1, 1].

    Attributes:
        low: smallest action by entry, static.
        high: largest action by entry, static.
    """

    low: tuple[float, ...] = struct.field(pytree_node=False, default=())
    high: tuple[float, ...] = struct.field(pytree_node=False, default=())

    def entropy(self) -> jax.Array:
        """Entropy of tanh of the draw: entropy of the draw plus the mean log slope of tanh, by Gauss-Hermite nodes."""
        nodes = jnp.asarray(_NODES, self.mean.dtype).reshape(-1, *(1,) * self.mean.ndim)
        draws = self.mean + jnp.exp(self.log_std) * nodes
        log_slope = 2.0 * (math.log(2.0) - draws - jax.nn.softplus(-2.0 * draws))  # log(1 - tanh^2), without overflow
        mean_log_slope = jnp.tensordot(jnp.asarray(_WEIGHTS, draws.dtype), log_slope, axes=1)
        return jnp.sum(self.log_std + 0.5 * (1.0 + _LOG_2PI) + mean_log_slope, axis=-1)

    def execute(self, action: jax.Array) -> jax.Array:
        """Squash to the bounds."""
        low, high = jnp.asarray(self.low, action.dtype), jnp.asarray(self.high, action.dtype)
        return low + 0.5 * (high - low) * (jnp.tanh(action) + 1.0)


@struct.dataclass
class Categorical:
    """One of `n` actions.

    Attributes:
        logits: `[..., n]`, unnormalised log probabilities.
    """

    logits: jax.Array

    @property
    def _log_probs(self) -> jax.Array:
        return jax.nn.log_softmax(self.logits, axis=-1)

    def sample(self, key: jax.Array) -> jax.Array:
        """Draw actions `[...]`, int32."""
        return jax.random.categorical(key, self.logits, axis=-1).astype(jnp.int32)

    def mode(self) -> jax.Array:
        """The most likely actions `[...]`, int32."""
        return jnp.argmax(self.logits, axis=-1).astype(jnp.int32)

    def log_prob(self, action: jax.Array) -> jax.Array:
        """Log probability of actions: `[...] -> [...]`."""
        return jnp.take_along_axis(self._log_probs, action[..., None].astype(jnp.int32), axis=-1)[..., 0]

    def entropy(self) -> jax.Array:
        """Entropy in nats `[...]`."""
        log_probs = self._log_probs
        return -jnp.sum(jnp.exp(log_probs) * log_probs, axis=-1)

    def kl(self, other: Categorical) -> jax.Array:
        """KL divergence to another categorical distribution `[...]`."""
        log_probs = self._log_probs
        return jnp.sum(jnp.exp(log_probs) * (log_probs - other._log_probs), axis=-1)

    def execute(self, action: jax.Array) -> jax.Array:
        """The action itself."""
        return action

    def per_sample(self) -> Categorical:
        """Itself."""
        return self

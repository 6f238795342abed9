"""Types that the on-policy trainer and its updates exchange."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from flax import struct

from jsafe.config import Config
from jsafe.distributions import Distribution
from jsafe.networks.mlp import Network


class Networks(NamedTuple):
    """The function approximators of an algorithm.

    Attributes:
        policy: `(params, obs) -> distribution` (`jsafe.distributions`); `obs` may be a tree, with any batch axes.
        reward_value: `(params, obs) -> [...]`.
        cost_value: the same for costs, with parameters of its own for each constraint; unused by algorithms that
            ignore costs.
    """

    policy: Network
    reward_value: Network
    cost_value: Network

    def named(self, name: str) -> Network:
        """The network behind a name in `TrainState.params`: `cost_value_1` is a `cost_value`."""
        return self.cost_value if name.startswith("cost_value") else getattr(self, name)


def value_names(num_constraints: int) -> tuple[str, ...]:
    """Names of the value networks in use: one for rewards and one for each constraint."""
    if num_constraints <= 1:
        return ("reward_value", "cost_value")[: 1 + num_constraints]
    return ("reward_value", *(f"cost_value_{i}" for i in range(num_constraints)))


@struct.dataclass
class Batch:
    """Samples of one iteration, or a minibatch of them; every leaf starts with the sample axis `[B]`.

    Attributes:
        obs: `[B, O]` float32, or a tree of `[B, ...]`, normalised as when acting.
        action: `[B, A]`, or `[B]` for discrete actions, as drawn.
        log_prob: `[B]`, of the action under the acting policy.
        acting: the acting policy's distribution.
        advantage: `[B]`, to increase: rewards and costs as the constraint weighs them.
        reward_advantage: `[B]`, standardised.
        cost_advantages: `[B, C]`, centred but in units of cost, one column for each constraint.
        targets: name of a value network to its regression targets `[B]`.
    """

    obs: Any
    action: jax.Array
    log_prob: jax.Array
    acting: Distribution
    advantage: jax.Array
    reward_advantage: jax.Array
    cost_advantages: jax.Array
    targets: dict[str, jax.Array]


Params = dict[str, Any]
"""Name of a network to its parameters."""


class Update(NamedTuple):
    """A change of the networks of an algorithm, given a batch.

    Attributes:
        init: `params -> optimiser state`.
        apply: `(key, params, optimiser state, Batch, RunStatus, Traced) -> (params, optimiser state, metrics)`; the
            metrics include `skipped`, the number of steps dropped because they were not finite.
    """

    init: Callable[[Params], Any]
    apply: Callable[..., tuple[Params, Any, dict[str, jax.Array]]]


class UpdatePart(NamedTuple):
    """Kind of update of the policy.

    Attributes:
        name: shown in listings.
        config: class of its hyper-parameters, a kind of `OnPolicyConfig`.
        make: `(networks, names of the value networks, config) -> Update`.
    """

    name: str
    config: type[Config]
    make: Callable[[Networks, tuple[str, ...], Any], Update]

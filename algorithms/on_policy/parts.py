"""What the on-policy loop and its policy updates pass to each other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
from flax import struct

from jsafe.networks import Network

Hyper = Mapping[str, Any]
"""Traced hyper-parameters by name."""


class Networks(NamedTuple):
    """The function approximators of an algorithm.

    Attributes:
        policy: `(params, obs [..., O]) -> (mean [..., A], log_std [A])`.
        reward_value: `(params, obs [..., O]) -> [...]`.
        cost_value: the same for costs; unused by algorithms that do not look at costs.
    """

    policy: Network
    reward_value: Network
    cost_value: Network


@struct.dataclass
class Batch:
    """Samples of one iteration, or a minibatch of them; every leaf but `log_std` starts with the sample axis `[B]`.

    Attributes:
        obs: `[B, O]` float32, normalised as when acting.
        action: `[B, A]`.
        log_prob: `[B]`, of the action under the acting policy.
        mean: `[B, A]`, of the acting policy.
        log_std: `[A]`, of the acting policy.
        advantage: `[B]`, what the policy should increase: `(A_reward - multiplier * A_cost) / (1 + multiplier)`.
        reward_advantage: `[B]`, standardised.
        cost_advantage: `[B]`, centred but in units of cost.
        targets: name of a value network to its regression targets `[B]`.
    """

    obs: jax.Array
    action: jax.Array
    log_prob: jax.Array
    mean: jax.Array
    log_std: jax.Array
    advantage: jax.Array
    reward_advantage: jax.Array
    cost_advantage: jax.Array
    targets: dict[str, jax.Array]


@struct.dataclass
class Signal:
    """What an update may know about the run beside its batch.

    Attributes:
        multiplier: `[]`, after this iteration's update; 0 without a constraint.
        episode_cost: `[]`, mean undiscounted cost of recent episodes; NaN while none has ended.
        progress: `[]` in [0, 1], finished part of the run, for schedules.
    """

    multiplier: jax.Array
    episode_cost: jax.Array
    progress: jax.Array


class Update(NamedTuple):
    """How an algorithm changes its networks, given a batch: one row of the registry's table brings one of these.

    Attributes:
        init: `params -> optimiser state`.
        apply: `(key, params, optimiser state, Batch, Signal, Hyper) -> (params, optimiser state, metrics)`; the
            metrics include `skipped`, the number of steps dropped because they were not finite.
    """

    init: Callable[[dict[str, Any]], Any]
    apply: Callable[..., tuple[dict[str, Any], Any, dict[str, jax.Array]]]

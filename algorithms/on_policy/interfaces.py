"""What the on-policy loop and its parts pass to each other, and what a part is.

An algorithm is a product of three parts: how the policy is updated (`algorithms.on_policy.updates`), how a
constraint weighs on it (`algorithms.constraints`), and how the decision process is rewritten first
(`algorithms.transforms`). Each part brings its own hyper-parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
from flax import struct

from jsafe import Env, State
from jsafe.config import Hyper as Options
from jsafe.distributions import Distribution
from jsafe.multipliers import Multiplier
from jsafe.networks.mlp import Network

Hyper = Mapping[str, Any]
"""Traced hyper-parameters by name."""


class Networks(NamedTuple):
    """The function approximators of an algorithm.

    Attributes:
        policy: `(params, obs [..., O]) -> distribution` (`jsafe.distributions`).
        reward_value: `(params, obs [..., O]) -> [...]`.
        cost_value: the same for costs, with parameters of its own for each constraint; unused by algorithms that do
            not look at costs.
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
        obs: `[B, O]` float32, normalised as when acting.
        action: `[B, A]`, or `[B]` for discrete actions, as drawn.
        log_prob: `[B]`, of the action under the acting policy.
        acting: the acting policy's distribution.
        advantage: `[B]`, what the policy should increase: rewards and costs as the constraint weighs them.
        reward_advantage: `[B]`, standardised.
        cost_advantages: `[B, C]`, centred but in units of cost, one column for each constraint.
        targets: name of a value network to its regression targets `[B]`.
    """

    obs: jax.Array
    action: jax.Array
    log_prob: jax.Array
    acting: Distribution
    advantage: jax.Array
    reward_advantage: jax.Array
    cost_advantages: jax.Array
    targets: dict[str, jax.Array]


@struct.dataclass
class Signal:
    """What an update may know about the run beside its batch; C constraints.

    Attributes:
        weights: `[C]`, of the costs, after this iteration's step of the multipliers.
        episode_costs: `[C]`, mean undiscounted costs of recent episodes; NaN while none has ended.
        limits: `[C]`, what they may be.
        episode_length: `[]`, mean length of recent episodes in steps; NaN while none has ended.
        progress: `[]` in [0, 1], finished part of the run, for schedules.
    """

    weights: jax.Array
    episode_costs: jax.Array
    limits: jax.Array
    episode_length: jax.Array
    progress: jax.Array

    @property
    def violations(self) -> jax.Array:
        """`[C]`, by how much each episode cost exceeds its limit."""
        return self.episode_costs - self.limits


class Update(NamedTuple):
    """How an algorithm changes its networks, given a batch.

    Attributes:
        init: `params -> optimiser state`.
        apply: `(key, params, optimiser state, Batch, Signal, Hyper) -> (params, optimiser state, metrics)`; the
            metrics include `skipped`, the number of steps dropped because they were not finite.
    """

    init: Callable[[dict[str, Any]], Any]
    apply: Callable[..., tuple[dict[str, Any], Any, dict[str, jax.Array]]]


Combine = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]
"""`(reward advantage [B], cost advantages [B, C], weights [C]) -> [B]`, what the policy is to increase."""


class UpdatePart(NamedTuple):
    """The first axis: how the policy is updated.

    Attributes:
        name: how listings call it.
        options: class of its hyper-parameters, a kind of `options.OnPolicy`.
        make: `(networks, names of the value networks, options) -> Update`.
    """

    name: str
    options: type[Options]
    make: Callable[[Networks, tuple[str, ...], Any], Update]


class ConstraintPart(NamedTuple):
    """The second axis: how costs weigh on the policy.

    Attributes:
        name: how listings call it.
        options: class of its hyper-parameters, a kind of `constraints.Limited`.
        make: `options -> Multiplier`, whose value becomes `Signal.weights`; None for limits that only the update reads.
        combine: makes `Batch.advantage` from rewards, costs and weights.
    """

    name: str
    options: type[Options]
    make: Callable[[Any], Multiplier] | None
    combine: Combine


class Schedule(NamedTuple):
    """What a rewritten process is told between iterations, a limit for example; it may differ across a population.

    Attributes:
        init: `hyper -> state`; the state is kept in `TrainState.dual`.
        update: `(state, episode cost [], hyper) -> state`, once in each iteration, before the update of the policy.
        write: `(state, environments [N]) -> environments [N]`, running episodes included.
        metrics: `state -> metrics`.
    """

    init: Callable[[Hyper], Any]
    update: Callable[[Any, jax.Array, Hyper], Any]
    write: Callable[[Any, State], State]
    metrics: Callable[[Any], dict[str, jax.Array]] = lambda state: {}


class TransformPart(NamedTuple):
    """The third axis: how the decision process is rewritten before learning.

    Attributes:
        name: how listings call it.
        options: class of its hyper-parameters.
        make: `(env, options) -> env`.
        schedule: `(rewritten env, all options) -> Schedule`, or None if there is nothing to tell it.
    """

    name: str
    options: type[Options]
    make: Callable[[Env, Any], Env]
    schedule: Callable[[Any, Any], Schedule] | None = None

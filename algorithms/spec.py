"""Parts and descriptions that all families of algorithms share.

An algorithm is a product of parts. Every family has its own kinds of updates; constraints (`algorithms.constraints`)
and transforms (`algorithms.transforms`) are shared. Each part brings its own hyper-parameters.
"""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import jax
from flax import struct

from jsafe import Env, State, Trainer
from jsafe.config import Config, Traced, hyperparameters
from jsafe.multipliers import Multiplier


@struct.dataclass
class RunStatus:
    """Facts about the run that an update may use in addition to its batch; C constraints.

    Attributes:
        weights: `[C]`, of the costs, after this iteration's step of the multipliers.
        episode_costs: `[C]`, mean undiscounted costs of recent episodes; NaN while none has ended. A method that
            ignores costs has one for each cost of the environment.
        limits: `[C]`, upper bounds on them; None for a method that ignores costs.
        episode_length: `[]`, mean length of recent episodes in steps; NaN while none has ended.
        progress: `[]` in [0, 1], finished part of the run, for schedules.
    """

    weights: jax.Array
    episode_costs: jax.Array
    limits: Any
    episode_length: jax.Array
    progress: jax.Array

    @property
    def violations(self) -> jax.Array:
        """`[C]`, excess of each episode cost over its limit."""
        return self.episode_costs - self.limits


AdvantageMixer = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]
"""`(reward advantage [B], cost advantages [B, C], weights [C]) -> [B]`, the advantage that the policy increases."""


class ConstraintPart(NamedTuple):
    """Kind of constraint: the weight of costs in the objective.

    Attributes:
        name: shown in listings.
        config: class of its hyper-parameters, a `ConstrainedConfig` unless there are no limits.
        make: `config -> Multiplier`, whose value becomes `RunStatus.weights`.
        mix: combines the advantages of rewards and costs.
        limits: `traced hyper-parameters by name -> limits`, one number for the total cost or one for each cost; None
            for a method that ignores costs.
    """

    name: str
    config: type[Config]
    make: Callable[[Any], Multiplier]
    mix: AdvantageMixer
    limits: Callable[[Mapping[str, Any]], Any] = operator.itemgetter("cost_limit")


class Schedule(NamedTuple):
    """Parameters of a transformed environment that change between iterations, such as its budget.

    They may differ across a population.

    Attributes:
        init: `hyper -> state`; `TrainState.algo` holds the state.
        update: `(state, episode cost [], hyper) -> state`, once in each iteration, before the update of the policy.
        apply: `(state, environments [N]) -> environments [N]`, running episodes included.
        metrics: `(state, rewards [T, N]) -> metrics`.
    """

    init: Callable[[Traced], Any]
    update: Callable[[Any, jax.Array, Traced], Any]
    apply: Callable[[Any, State], State]
    metrics: Callable[[Any, jax.Array], dict[str, jax.Array]]


NO_SCHEDULE = Schedule(
    init=lambda hyper: (),
    update=lambda state, episode_cost, hyper: state,
    apply=lambda state, environments: environments,
    metrics=lambda state, rewards: {},
)
"""Schedule of an environment that never changes."""


class TransformPart(NamedTuple):
    """Kind of transformation of the decision process before learning.

    Attributes:
        name: shown in listings.
        config: class of its hyper-parameters.
        make: `(env, config) -> env`.
        schedule: `(transformed env, config of the algorithm) -> Schedule`.
    """

    name: str
    config: type[Config]
    make: Callable[[Env, Any], Env]
    schedule: Callable[[Any, Any], Schedule]


@dataclasses.dataclass(frozen=True, kw_only=True)
class AlgorithmSpec:
    """Description of one algorithm; a family adds the parts.

    Attributes:
        aliases: other names, compared without case; the first one names the class of the hyper-parameters.
        summary: one sentence.
        paper: source of the method.
        presets: name to the defaults that it replaces; `paper` is the default preset.
        transform: transform of the decision process, None without one.
    """

    aliases: tuple[str, ...]
    summary: str
    paper: str
    presets: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=lambda: {"paper": {}})
    transform: TransformPart | None = None

    @property
    def parts(self) -> dict[str, str | None]:
        """Axis to the name of the part, None for an algorithm without one."""
        raise NotImplementedError


class Problem(NamedTuple):
    """Source of experience of an algorithm.

    Attributes:
        env: the CMDP, None for methods that learn from data alone.
        data: rows of recorded transitions, None for methods that collect their own.
    """

    env: Env | None = None
    data: Any = None


class Family(Protocol):
    """A group of algorithms with one training loop, as a module or an object.

    Attributes:
        catalogue: registered name to description, an `AlgorithmSpec`.
    """

    @property
    def catalogue(self) -> Mapping[str, Any]: ...

    def config_class(self, name: str) -> type[Config]:
        """Class of the hyper-parameters of an algorithm."""
        ...

    def make(
        self,
        name: str,
        problem: Problem,
        config: Any,
        *,
        encoders: Any = None,
        networks: Any = None,
        policy: Any = None,
    ) -> Trainer:
        """Bind an algorithm to a problem."""
        ...

    def idle_options(self, problem: Problem, config: Any, *, own_networks: bool) -> Mapping[str, str]:
        """Options without effect, given the other ones, with the reason."""
        ...


def combine_configs(name: str, summary: str, parts: tuple[type[Config], ...]) -> type[Config]:
    """Make the class of an algorithm's hyper-parameters, the union of those of its parts."""
    combined: Any = type(name, parts, {"__doc__": summary})
    return hyperparameters(combined)


def check_limits(env: Env, limits: Any, algorithm: str) -> None:
    """Refuse limits that do not match the costs of an environment.

    Raises:
        ValueError: the environment has no cost, or there are several limits but not one for each cost.
    """
    costs = env.spec.cost_names
    if limits is not None and not costs:
        raise ValueError(f"{algorithm} needs an environment with at least one cost, and {env.spec.id} has none")
    if isinstance(limits, tuple) and len(limits) != len(costs):
        raise ValueError(
            f"cost_limit must be one number or {len(costs)} numbers ({', '.join(costs)}), got {len(limits)}"
        )

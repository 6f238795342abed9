"""The contract between an environment and everything that learns in it.

A constrained Markov decision process (CMDP, Altman 1999) is a pair of pure functions, `reset` and `step`, over one
pytree, `State`. Neither function resets itself, counts time or mutates anything: time limits, automatic resets and the
observation before a reset belong to `jsafe.rollout`.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Literal, Protocol, runtime_checkable

import jax
from flax import struct

from jsafe import spaces
from jsafe.spaces import Space


@dataclasses.dataclass(frozen=True, kw_only=True)
class Spec:
    """Static description of an environment.

    The sizes and bounds are properties for the usual case of a flat observation and a flat or discrete action.

    Attributes:
        id: registered name, for example `SafetyPointGoal1-v0`.
        observation: space of `State.obs`; a plain mapping becomes a `jsafe.spaces.Dict`.
        action: space of the actions.
        cost_names: one name for each constraint, in the order of `State.cost`; may be empty.
        total_cost: rule that combines the costs for a method with one limit (`jsafe.constrained`), `sum` or `any`.
        episode_length: steps after which `jsafe.rollout` truncates an episode.
        control_dt: seconds of simulated time in one step.
    """

    id: str
    observation: Space
    action: Space
    cost_names: tuple[str, ...]
    episode_length: int
    control_dt: float
    total_cost: Literal["sum", "any"] = "sum"

    def __post_init__(self) -> None:
        object.__setattr__(self, "observation", spaces.as_space(self.observation))
        object.__setattr__(self, "action", spaces.as_space(self.action))

    @property
    def observation_size(self) -> int:
        """Length of a flat observation."""
        return self._flat("observation").size

    @property
    def observation_layout(self) -> tuple[tuple[str, int], ...]:
        """Name and length of each block of a flat observation, in order."""
        return self._flat("observation").blocks

    @property
    def num_actions(self) -> int | None:
        """Number of discrete actions, which are int32 scalars; None for continuous actions."""
        return self.action.n if isinstance(self.action, spaces.Discrete) else None

    @property
    def action_size(self) -> int:
        """Length of a continuous action; 0 for discrete actions."""
        return len(self.action_low)

    @property
    def action_low(self) -> tuple[float, ...]:
        """Smallest value of each entry of a continuous action; `()` for discrete actions."""
        return () if self.num_actions is not None else self._flat("action").bounds[0]

    @property
    def action_high(self) -> tuple[float, ...]:
        """Largest value of each entry of a continuous action; `()` for discrete actions."""
        return () if self.num_actions is not None else self._flat("action").bounds[1]

    @property
    def num_costs(self) -> int:
        """Number of constraints."""
        return len(self.cost_names)

    def _flat(self, name: str) -> spaces.Box:
        space = getattr(self, name)
        if not (isinstance(space, spaces.Box) and spaces.is_flat(space)):
            raise ValueError(f"the {name} of {self.id} must be a vector to have a size, got {space}")
        return space


class State(struct.PyTreeNode):
    """One moment of an environment. Leading axes, if any, are batch axes shared by every leaf.

    Attributes:
        data: state of the environment itself: physics, layout, timers, its PRNG key.
        obs: a value of `Spec.observation`, by default a vector of float32 (float64 under `jax_enable_x64`).
        reward: `[]`, of the step that led here; 0 at a reset.
        cost: `[num_costs]`, one entry for each constraint in `Spec.cost_names`.
        terminated: `[]` bool, the episode is over for a reason inside the task; a time limit is not one.
        metrics: name to `[]` float; the same names at reset and step.
        info: name to array; the same names at reset and step. An environment that rewrites the reward of another one
            keeps that under `original_reward`.
    """

    data: Any
    obs: Any
    reward: jax.Array
    cost: jax.Array
    terminated: jax.Array
    metrics: dict[str, jax.Array]
    info: dict[str, jax.Array]

    @property
    def original_reward(self) -> jax.Array:
        """The reward to report; `reward` is the one to learn from."""
        return self.info.get("original_reward", self.reward)


@runtime_checkable
class Env(Protocol):
    """A CMDP: frozen, hashable, without arrays of its own.

    An environment may also have `carry_over(done [], after, fresh) -> State`, for what outlives an episode: `after` is
    the state after a step, `fresh` the next one, which is a new start where `done` and `after` elsewhere.
    """

    @property
    def spec(self) -> Spec: ...

    def reset(self, key: jax.Array) -> State:
        """Draw a fresh start state from a typed PRNG key."""
        ...

    def step(self, state: State, action: jax.Array) -> State:
        """Advance by one control step with an action of `Spec.action`."""
        ...

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


@dataclasses.dataclass(frozen=True, kw_only=True)
class Spec:
    """Static description of an environment.

    Attributes:
        id: the registered name, for example `SafetyPointGoal1-v0`.
        observation_size: length of the flat observation.
        observation_layout: name and length of each block of the flat observation, in order.
        action_low: smallest allowed value of each action entry.
        action_high: largest allowed value of each action entry.
        cost_names: one name for each constraint, in the order of `State.cost`; may be empty.
        total_cost: rule that combines the costs for a method with one limit (`jsafe.constrained`), `sum` or `any`.
        episode_length: steps after which `jsafe.rollout` truncates an episode.
        control_dt: seconds of simulated time in one step.
        num_actions: number of discrete actions, an action is then an int32 scalar and `action_low` is empty; None for
            continuous actions.
        fixed_scale: how many entries at the end of the observation have a scale with a meaning, a remaining budget for
            example, and are not to be normalised.
    """

    id: str
    observation_size: int
    observation_layout: tuple[tuple[str, int], ...]
    action_low: tuple[float, ...]
    action_high: tuple[float, ...]
    cost_names: tuple[str, ...]
    episode_length: int
    control_dt: float
    num_actions: int | None = None
    fixed_scale: int = 0
    total_cost: Literal["sum", "any"] = "sum"

    @property
    def action_size(self) -> int:
        return len(self.action_low)

    @property
    def num_costs(self) -> int:
        return len(self.cost_names)


class State(struct.PyTreeNode):
    """One moment of an environment. Leading axes, if any, are batch axes shared by every leaf.

    Attributes:
        data: what the environment itself carries on: physics, layout, timers, its PRNG key.
        obs: `[observation_size]`, float32 (float64 under `jax_enable_x64`).
        reward: `[]`, of the step that led here; 0 at a reset.
        cost: `[num_costs]`, one entry for each constraint in `Spec.cost_names`.
        terminated: `[]` bool, the episode is over for a reason inside the task; a time limit is not one.
        metrics: name to `[]` float; the same names at reset and step.
        info: name to array; the same names at reset and step. An environment that rewrites the reward of another one
            keeps that under `original_reward`.
    """

    data: Any
    obs: jax.Array
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
    the state after a step, `fresh` the state to continue from, which is a new start where `done` and `after` elsewhere.
    """

    @property
    def spec(self) -> Spec: ...

    def reset(self, key: jax.Array) -> State:
        """Draw a fresh start state from a typed PRNG key."""
        ...

    def step(self, state: State, action: jax.Array) -> State:
        """Advance by one control step with `action` of shape `[action_size]`."""
        ...

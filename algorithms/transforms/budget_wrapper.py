"""An environment around another one that remembers the cost of an episode, and may show it to the policy.

The memory is a handful of scalars in `State.info`, so that `State.data` stays that of the wrapped environment. The
budget that the policy observes is a function of the memory alone: a change of the memory, between iterations for
example, also changes the observation, of running episodes and of fresh ones alike.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from algorithms.spec import Schedule
from jsafe import Env, Spec, State, extra_number, total_cost
from jsafe.frame_stack import FrameStack

Memory = dict[str, jax.Array]
"""Name to `[...]`, one entry for each environment."""

BUDGET = "budget"
"""Name of the observed number: the last entry of a flat observation, or a leaf of a tree."""


@dataclasses.dataclass(frozen=True)
class BudgetWrapper(abc.ABC):
    """Base of the transformed processes; a subclass defines the memory and its effect on rewards and terminations.

    Other attributes, such as the simulator or the scene, are those of the wrapped environment.

    Attributes:
        env: the environment inside; several costs of it are combined into one (`jsafe.total_cost`).
    """

    env: Env

    def __post_init__(self) -> None:
        if not self.env.spec.cost_names:
            kind = type(self).__name__
            raise ValueError(f"{kind} needs an environment with at least one cost, and {self.env.spec.id} has none")
        object.__setattr__(self, "env", total_cost(self.env))

    def __getattr__(self, name: str) -> Any:
        if name == "env" or name.startswith("__"):  # missing while an object is being copied
            raise AttributeError(name)
        return getattr(self.env, name)

    # --- defined by each kind of process -------------------------------------------------------------------------

    @property
    def observes(self) -> bool:
        """True if the policy sees `shown`, as the last entry of the observation."""
        return True

    @abc.abstractmethod
    def begin(self, zero: jax.Array) -> Memory:
        """The memory at the start of an episode; `zero` is a 0 of the right type."""

    @abc.abstractmethod
    def spend(self, memory: Memory, cost: jax.Array) -> Memory:
        """The memory after a step of this total cost."""

    @abc.abstractmethod
    def shown(self, memory: Memory) -> jax.Array:
        """Part of the memory that the policy sees."""

    @abc.abstractmethod
    def outcome(self, memory: Memory, after: State) -> tuple[jax.Array, jax.Array]:
        """Reward to learn from and termination of a step, given the memory after it."""

    @abc.abstractmethod
    def hand_over(self, after: Memory, fresh: Memory) -> Memory:
        """The memory to continue with: that of `fresh`, except for entries that outlive an episode."""

    # --- the environment ----------------------------------------------------------------------------------------

    @property
    def spec(self) -> Spec:
        """That of the wrapped environment, with one entry more where the budget is observed."""
        spec = self.env.spec
        if not self.observes:
            return spec
        return dataclasses.replace(spec, observation=extra_number.extend(spec.observation, BUDGET))

    def reset(self, key: jax.Array) -> State:
        """Start the wrapped environment, and nothing is spent."""
        state = self.env.reset(key)
        return self._outer(state, self.begin(jnp.zeros_like(state.cost[..., 0])), state.reward, state.terminated)

    def step(self, state: State, action: jax.Array) -> State:
        """Step the wrapped environment, and account for the cost."""
        after = self.env.step(self._inner(state), action)
        memory = self.spend(self.memory(state), after.cost[..., 0])
        return self._outer(after, memory, *self.outcome(memory, after))

    def carry_over(self, done: jax.Array, after: State, fresh: State) -> State:
        """Carry over the entries that outlive an episode, here and in the wrapped environment."""
        inner = getattr(self.env, "carry_over", None)
        if inner is not None:
            carried = inner(done, self._inner(after), self._inner(fresh))
            fresh = self._outer(carried, self.memory(fresh), fresh.reward, fresh.terminated)
        return self.remember(fresh, **self.hand_over(self.memory(after), self.memory(fresh)))

    def memory(self, state: State) -> Memory:
        """The memory of states with any leading axes."""
        return {name: state.info[name] for name in self._names}

    def remember(self, state: State, **changes: jax.Array) -> State:
        """The same states with entries of the memory replaced, and observed accordingly."""
        old = self.memory(state)
        changed = {k: jnp.broadcast_to(jnp.asarray(v, old[k].dtype), old[k].shape) for k, v in changes.items()}
        state = state.replace(info={**state.info, **changed})
        if not self.observes:
            return state
        shown = self.shown(self.memory(state))
        return state.replace(obs=extra_number.replace(self.env.spec.observation, state.obs, BUDGET, shown))

    @property
    def _names(self) -> tuple[str, ...]:
        return tuple(jax.eval_shape(self.begin, jax.ShapeDtypeStruct((), jnp.float32)))

    def _inner(self, state: State) -> State:
        """The wrapped environment's own state."""
        hidden = {"original_reward", *self._names}
        obs = state.obs
        if self.observes:
            obs = extra_number.remove(self.env.spec.observation, obs, BUDGET)
        return state.replace(
            obs=obs,
            reward=state.info["original_reward"],
            info={k: v for k, v in state.info.items() if k not in hidden},
        )

    def _outer(self, inner: State, memory: Memory, reward: jax.Array, terminated: jax.Array) -> State:
        obs = inner.obs
        if self.observes:
            obs = extra_number.append(self.env.spec.observation, obs, BUDGET, self.shown(memory))
        info = {**inner.info, **memory, "original_reward": inner.reward}
        return inner.replace(obs=obs, reward=reward, terminated=terminated, info=info)


def step_reward(rewards: jax.Array) -> dict[str, jax.Array]:
    """Mean reward of a step of the transformed process, which differs from the reported reward."""
    return {"step_reward": jnp.mean(rewards)}


def constant(entry: str, option: str) -> Callable[[Any, Any], Schedule]:
    """Make a schedule that sets one entry of the memory to one traced option."""

    def schedule(env: BudgetWrapper, config: Any) -> Schedule:
        del config
        return Schedule(
            init=lambda hyper: jnp.asarray(hyper[option], jnp.float32),
            update=lambda state, episode_cost, hyper: state,
            apply=lambda state, env_states: env.remember(env_states, **{entry: state}),
            metrics=lambda state, rewards: step_reward(rewards),
        )

    return schedule


def in_frame_stack(env: FrameStack, schedule: Schedule) -> Schedule:
    """The same schedule for the rewritten environment inside a window of observations."""

    def apply(state: Any, env_states: State) -> State:
        changed = env_states.replace(data=schedule.apply(state, env_states.data))
        # No episode is over: only entries that outlive an episode are carried over, and the window shows them.
        return jax.vmap(env.carry_over, (None, 0, 0))(jnp.zeros((), bool), changed, env_states)

    return schedule._replace(apply=apply)

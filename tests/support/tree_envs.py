"""CMDPs whose observations are trees, with known returns for policies that ignore a leaf."""

from __future__ import annotations

import abc
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jsafe import Spec, State
from jsafe.spaces import Box, Dict, Discrete, Space


@dataclasses.dataclass(frozen=True)
class Guess(abc.ABC):
    """Each step shows a code; the action that names it earns 1, every other costs 1."""

    episode_length: int = 4

    @property
    @abc.abstractmethod
    def observation(self) -> Space: ...

    @property
    @abc.abstractmethod
    def codes(self) -> int: ...

    @abc.abstractmethod
    def show(self, key: jax.Array) -> tuple[Any, jax.Array]:
        """An observation, and the code that it shows."""

    @property
    def spec(self) -> Spec:
        return Spec(
            id=f"Toy{type(self).__name__}-v0",
            observation=self.observation,
            action=Discrete(self.codes),
            cost_names=("wrong",),
            episode_length=self.episode_length,
            control_dt=1.0,
        )

    def reset(self, key: jax.Array) -> State:
        return self._state(key, jnp.zeros(()), jnp.zeros(()))

    def step(self, state: State, action: jax.Array) -> State:
        key, code = state.data
        right = (action == code).astype(jnp.float32)
        return self._state(key, right, 1.0 - right)

    def _state(self, key: jax.Array, reward: jax.Array, cost: jax.Array) -> State:
        key, own = jax.random.split(key)
        obs, code = self.show(own)
        return State((key, code), obs, reward, cost[None], jnp.zeros((), bool), {}, {})


class Camera(Guess):
    """A vector whose first entry has a sign, and an image with a bright pixel in one half: four codes.

    A policy that ignores the image or the vector is right in half of its guesses at best, one that ignores both in a
    quarter.
    """

    @property
    def observation(self) -> Space:
        return Dict(state=Box(3), image=Box((8, 8, 3), "uint8", normalize=False))

    @property
    def codes(self) -> int:
        return 4

    def show(self, key: jax.Array) -> tuple[Any, jax.Array]:
        k_state, k_pixel = jax.random.split(key)
        state = 10.0 * jax.random.normal(k_state, (3,)) + 1.0
        row, column, channel = jax.random.randint(k_pixel, (3,), 0, jnp.array([8, 8, 3]))
        image = jnp.zeros((8, 8, 3), jnp.uint8).at[row, column, channel].set(255)
        code = 2 * (column >= 4) + (state[0] > 1.0)
        return {"state": state, "image": image}, code.astype(jnp.int32)


class Nested(Guess):
    """A number inside two dicts and a sign: the code is their sum modulo 3.

    A policy that ignores the number is right in a third of its guesses, one that ignores the sign in half.
    """

    @property
    def observation(self) -> Space:
        return Dict(
            robot={"drive": {"gear": Discrete(3), "heat": Box((), normalize=False)}, "arm": Box(2)}, goal=Box(1)
        )

    @property
    def codes(self) -> int:
        return 3

    def show(self, key: jax.Array) -> tuple[Any, jax.Array]:
        k_gear, k_heat, k_arm, k_goal = jax.random.split(key, 4)
        gear, goal = jax.random.randint(k_gear, (), 0, 3), jax.random.normal(k_goal, (1,)) * 5.0
        drive = {"gear": gear, "heat": jax.random.uniform(k_heat)}
        obs = {"robot": {"drive": drive, "arm": jax.random.normal(k_arm, (2,))}, "goal": goal}
        return obs, ((gear + (goal[0] > 0)) % 3).astype(jnp.int32)


class Signal(Guess):
    """A discrete observation: the code is a permutation of it."""

    @property
    def observation(self) -> Space:
        return Discrete(4)

    @property
    def codes(self) -> int:
        return 4

    def show(self, key: jax.Array) -> tuple[Any, jax.Array]:
        seen = jax.random.randint(key, (), 0, 4)
        return seen, jnp.array([2, 0, 3, 1], jnp.int32)[seen]

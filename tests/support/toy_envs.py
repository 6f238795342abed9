"""Small CMDPs in pure JAX with known answers, for the tests of everything that learns."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jsafe import Spec, State, spaces


def _state(data: Any, obs: jax.Array, reward: Any, cost: Any, terminated: Any, metrics: dict[str, Any]) -> State:
    cost = jnp.atleast_1d(jnp.asarray(cost, jnp.float32))
    return State(
        data=data,
        obs=jnp.asarray(obs, jnp.float32),
        reward=jnp.asarray(reward, jnp.float32),
        cost=cost,
        terminated=jnp.asarray(terminated, bool),
        metrics={k: jnp.asarray(v, jnp.float32) for k, v in metrics.items()},
        info={},
    )


@dataclasses.dataclass(frozen=True)
class PointMass:
    """A point in the plane moves by its action towards a goal, through a disc that costs 1 per step.

    The layout (start and goal) is drawn again at each reset. With `terminates`, leaving the square ends the episode.

    Observation: position (2), goal (2), steps since the reset (1). The state carries its own typed key.
    """

    episode_length: int = 20
    terminates: bool = False
    hazard_radius: float = 0.5
    edge: float = 1.0

    @property
    def spec(self) -> Spec:
        return Spec(
            id="ToyPointMass-v0",
            observation=spaces.flat_box({"position": 2, "goal": 2, "age": 1}),
            action=spaces.Box(2, low=-1.0, high=1.0),
            cost_names=("hazard",),
            episode_length=self.episode_length,
            control_dt=0.1,
        )

    def _observe(self, data: dict[str, Any]) -> jax.Array:
        return jnp.concatenate([data["position"], data["goal"], data["age"][None]])

    def reset(self, key: jax.Array) -> State:
        own, k_start, k_goal = jax.random.split(key, 3)
        start = jax.random.uniform(k_start, (2,), minval=-self.edge, maxval=self.edge)
        goal = jax.random.uniform(k_goal, (2,), minval=-self.edge, maxval=self.edge)
        data = {"position": start, "goal": goal, "age": jnp.zeros(()), "key": own}
        return _state(data, self._observe(data), 0.0, 0.0, False, {"bad_action": 0.0})

    def step(self, state: State, action: jax.Array) -> State:
        old = state.data
        key, noise_key = jax.random.split(old["key"])
        move = 0.2 * jnp.clip(action, -1.0, 1.0) + 0.01 * jax.random.normal(noise_key, (2,))
        position = old["position"] + move
        data = {**old, "position": position, "age": old["age"] + 1.0, "key": key}

        def distance(p: jax.Array) -> jax.Array:
            return jnp.linalg.norm(p - old["goal"])

        outside = jnp.any(jnp.abs(position) > self.edge)
        return _state(
            data,
            self._observe(data),
            distance(old["position"]) - distance(position),
            jnp.linalg.norm(position) < self.hazard_radius,
            outside & self.terminates,
            {"bad_action": jnp.any(jnp.abs(action) > 1.0)},
        )


@dataclasses.dataclass(frozen=True)
class Throttle:
    """One action, the same best one everywhere: `reward = -(a - 1)^2`, `cost = max(a, 0)`, `a` within [-2, 2].

    The best deterministic policy without a constraint is `a = 1`, at a cost of 1 per step. With a cost limit `b` and
    `L` steps per episode it is `a = b / L` (for `b < L`), and one unit of cost is worth `2 (1 - b / L)` of reward.
    The observation is noise.
    """

    episode_length: int = 10

    @property
    def spec(self) -> Spec:
        return Spec(
            id="ToyThrottle-v0",
            observation=spaces.flat_box({"noise": 2}),
            action=spaces.Box(1, low=-2.0, high=2.0),
            cost_names=("fuel",),
            episode_length=self.episode_length,
            control_dt=0.1,
        )

    def reset(self, key: jax.Array) -> State:
        return _state(key, jax.random.normal(key, (2,)), 0.0, 0.0, False, {})

    def step(self, state: State, action: jax.Array) -> State:
        key, noise_key = jax.random.split(state.data)
        speed = jnp.clip(action[0], -2.0, 2.0)
        noise = jax.random.normal(noise_key, (2,))
        return _state(key, noise, -((speed - 1.0) ** 2), jnp.maximum(speed, 0.0), False, {})


@dataclasses.dataclass(frozen=True)
class Counter:
    """Observation is the number of steps since the reset; reward and cost are 1 per step; terminates at `end`."""

    episode_length: int = 5
    end: int = 1000

    @property
    def spec(self) -> Spec:
        return Spec(
            id="ToyCounter-v0",
            observation=spaces.flat_box({"age": 1}),
            action=spaces.Box(1, low=-1.0, high=1.0),
            cost_names=("time",),
            episode_length=self.episode_length,
            control_dt=0.1,
        )

    def reset(self, key: jax.Array) -> State:
        del key
        return _state(jnp.zeros(()), jnp.zeros(1), 0.0, 0.0, False, {})

    def step(self, state: State, action: jax.Array) -> State:
        del action
        age = state.data + 1.0
        return _state(age, age[None], 1.0, 1.0, age >= self.end, {})


@dataclasses.dataclass(frozen=True)
class Lever:
    """A discrete choice of three, the same best one everywhere: rewards 0, 1, 2; costs `(0, 0), (1, 0), (0, 3)`."""

    episode_length: int = 5

    @property
    def spec(self) -> Spec:
        return Spec(
            id="ToyLever-v0",
            observation=spaces.flat_box({"one": 1}),
            action=spaces.Discrete(3),
            cost_names=("wear", "noise"),
            episode_length=self.episode_length,
            control_dt=0.1,
        )

    def reset(self, key: jax.Array) -> State:
        del key
        return _state((), jnp.ones(1), 0.0, jnp.zeros(2), False, {})

    def step(self, state: State, action: jax.Array) -> State:
        del state
        costs = jnp.array([[0.0, 0.0], [1.0, 0.0], [0.0, 3.0]])
        return _state((), jnp.ones(1), action.astype(jnp.float32), costs[action], False, {})

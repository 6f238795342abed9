"""CMDPs with a handful of states, and their constrained optimum by linear programming.

A policy of a problem with `H` steps, `S` states and `A` actions is a table `[H, S, A]` of probabilities. The expected
number of visits of each (time, state, action), its occupancy, is linear in the return and in the costs, so that the
best policy under limits on expected costs is a linear program (Altman 1999, "Constrained Markov decision processes",
chapter 6 for finite horizons). Its dual variables are the multipliers that a Lagrangian method converges to.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize
import scipy.sparse

from jsafe import spaces
from jsafe.cmdp import Spec, State


class Tables(NamedTuple):
    """A finite CMDP as arrays.

    Attributes:
        transition: `[S, A, S]`, probability of the next state.
        reward: `[S, A]`.
        cost: `[C, S, A]`.
        start: `[S]`, probability of the first state.
    """

    transition: np.ndarray
    reward: np.ndarray
    cost: np.ndarray
    start: np.ndarray


@dataclasses.dataclass(frozen=True, kw_only=True)
class FiniteCMDP:
    """A CMDP with few states that terminates after exactly `horizon` steps.

    The observation is the one-hot code of the pair (time, state), entry `time * S + state`, so that a table is a linear
    function of it; after the last step it is all zeros.

    Attributes:
        id: name.
        horizon: H, steps of an episode.
        cost_names: one for each constraint.
        transition: `[S][A][S]`, probability of the next state.
        reward: `[S][A]`.
        cost: `[C][S][A]`, small non-negative integers: their sum over an episode takes few values.
        start: `[S]`, probability of the first state.

    Raises:
        ValueError: for tables that do not fit together or are not probabilities.
    """

    id: str
    horizon: int
    cost_names: tuple[str, ...]
    transition: tuple[tuple[tuple[float, ...], ...], ...]
    reward: tuple[tuple[float, ...], ...]
    cost: tuple[tuple[tuple[int, ...], ...], ...]
    start: tuple[float, ...]

    def __post_init__(self) -> None:
        states, actions = np.shape(self.reward)
        shapes = {
            "transition": (states, actions, states),
            "cost": (len(self.cost_names), states, actions),
            "start": (states,),
        }
        for name, shape in shapes.items():
            if np.shape(getattr(self, name)) != shape:
                raise ValueError(f"{name} must have shape {shape}, got {np.shape(getattr(self, name))}")
        for name in ("transition", "start"):
            table = np.asarray(getattr(self, name))
            if np.any(table < 0) or not np.allclose(table.sum(-1), 1.0, rtol=0, atol=1e-12):
                raise ValueError(f"{name} must hold probabilities that add up to 1, got {table.tolist()}")
        if self.horizon < 1:
            raise ValueError(f"horizon must be at least 1, got {self.horizon}")

    @property
    def num_states(self) -> int:
        return len(self.start)

    @property
    def spec(self) -> Spec:
        size = self.horizon * self.num_states
        return Spec(
            id=self.id,
            # Raw: a one-hot code is normalised, and rare entries would be scaled up.
            observation=spaces.flat_box({"time_and_state": size}, raw=("time_and_state",)),
            action=spaces.Discrete(len(self.reward[0])),
            cost_names=self.cost_names,
            episode_length=self.horizon,
            control_dt=1.0,
        )

    def reset(self, key: jax.Array) -> State:
        """Draw the first state."""
        key, start_key = jax.random.split(key)
        first = jax.random.categorical(start_key, jnp.log(jnp.asarray(self.start, float)))
        return self._state(key, jnp.int32(0), first, jnp.zeros((), float), jnp.zeros(len(self.cost_names), float))

    def step(self, state: State, action: jax.Array) -> State:
        """Take `action`, an int32 scalar in [0, A), and draw the next state."""
        table, data = tables(self), state.data
        key, next_key = jax.random.split(data["key"])
        now = data["state"]
        following = jax.random.categorical(next_key, jnp.log(jnp.asarray(table.transition, float)[now, action]))
        reward = jnp.asarray(table.reward, float)[now, action]
        cost = jnp.asarray(table.cost, float)[:, now, action]
        return self._state(key, data["time"] + 1, following, reward, cost)

    def _state(self, key: jax.Array, time: jax.Array, now: jax.Array, reward: jax.Array, cost: jax.Array) -> State:
        now = now.astype(jnp.int32)
        index = time * self.num_states + now
        return State(
            data={"key": key, "time": time, "state": now},
            obs=jax.nn.one_hot(index, self.horizon * self.num_states),
            reward=reward,
            cost=cost,
            terminated=time >= self.horizon,
            metrics={},
            info={},
        )


@functools.lru_cache
def tables(env: FiniteCMDP) -> Tables:
    """The tables of a problem as read-only float64 arrays."""
    arrays = Tables(*(np.asarray(x, np.float64) for x in (env.transition, env.reward, env.cost, env.start)))
    for array in arrays:
        array.flags.writeable = False
    return arrays


class Optimum(NamedTuple):
    """The best policy of a CMDP under limits on its expected costs.

    Attributes:
        return_: expected sum of rewards of an episode.
        costs: expected sum of each cost.
        multipliers: for each constraint, the return that one more unit of its limit buys; 0 where it does not bind.
        policy: a table `[H, S, A]` for a finite problem, a `LinearPolicy` for a linear-quadratic one.
    """

    return_: float
    costs: tuple[float, ...]
    multipliers: tuple[float, ...]
    policy: Any


def evaluate(env: FiniteCMDP, policy: np.ndarray) -> tuple[float, tuple[float, ...]]:
    """Expected return and costs of an episode under a policy `[H, S, A]`, exactly."""
    table = tables(env)
    shape = (env.horizon, *table.reward.shape)
    if np.shape(policy) != shape:
        raise ValueError(f"policy must have shape {shape}, got {np.shape(policy)}")
    state, occupancy = table.start, np.empty(shape)
    for time in range(env.horizon):
        occupancy[time] = state[:, None] * policy[time]
        state = np.einsum("sa,san->n", occupancy[time], table.transition)
    visits = occupancy.sum(0)
    return float(np.sum(visits * table.reward)), tuple(float(x) for x in np.sum(visits * table.cost, axis=(1, 2)))


def finite_optimum(env: FiniteCMDP, limits: tuple[float, ...]) -> Optimum:
    """Maximise the expected return subject to `cost[i] <= limits[i]` in expectation, by linear programming.

    Args:
        env: the CMDP.
        limits: one for each cost; `math.inf` for none.

    Returns:
        The optimum; its policy is uniform in states that are never visited.

    Raises:
        ValueError: for a wrong number of limits, or limits that no policy meets.
    """
    if len(limits) != len(env.cost_names):
        raise ValueError(f"limits must have one entry for each cost, {len(env.cost_names)}, got {len(limits)}")
    return _solve(env, tables(env).reward, tuple(limits))


def least_cost(env: FiniteCMDP, index: int = 0) -> float:
    """Smallest expected sum of one cost that any policy reaches."""
    return -_solve(env, -tables(env).cost[index], (math.inf,) * len(env.cost_names)).return_


def _solve(env: FiniteCMDP, objective: np.ndarray, limits: tuple[float, ...]) -> Optimum:
    """The linear program over occupancies `[H, S, A]` that maximises the expected sum of `objective [S, A]`."""
    table, horizon = tables(env), env.horizon
    states, actions = objective.shape
    # Visits of a state at a time equal the flow into it from the time before: outflow - inflow = start.
    outflow = np.kron(np.eye(states), np.ones(actions))
    inflow = table.transition.reshape(states * actions, states).T
    balance = np.kron(np.eye(horizon), outflow) - np.kron(np.eye(horizon, k=-1), inflow)
    start = np.concatenate([table.start, np.zeros((horizon - 1) * states)])
    bound = [i for i, limit in enumerate(limits) if math.isfinite(limit)]
    costs = np.tile(table.cost.reshape(len(limits), -1), horizon)
    result = scipy.optimize.linprog(
        -np.tile(objective.ravel(), horizon),
        A_ub=costs[bound] if bound else None,
        b_ub=[limits[i] for i in bound] if bound else None,
        A_eq=scipy.sparse.csr_array(balance),
        b_eq=start,
        method="highs",
    )
    if result.x is None:
        raise ValueError(f"no policy of {env.id} meets the limits {limits}: {result.message}")
    multipliers = np.zeros(len(limits))
    if bound:
        multipliers[bound] = np.maximum(-result.ineqlin.marginals, 0.0)
    occupancy = np.maximum(result.x, 0.0).reshape(horizon, states, actions)
    visits = occupancy.sum(-1, keepdims=True)
    policy = np.where(visits > 1e-12, occupancy / np.maximum(visits, 1e-12), 1.0 / actions)
    return Optimum(
        return_=-float(result.fun),
        costs=tuple(float(x) for x in costs @ result.x),
        multipliers=tuple(float(x) for x in multipliers),
        policy=policy,
    )

"""A linear system with a quadratic reward under a limit on control energy, and its constrained optimum by Riccati.

The state is extended by a constant 1, `z = (x, 1)`, so that targets and offsets are part of matrices: the reward of a
step is `offset - z'^T Q z' - effort |u|^2` with the next state `z' = F z + G u + noise`, its cost is `|u|^2`. For a
multiplier `m` the Lagrangian `reward - m cost` is the same problem with the effort `effort + m`, and its best policy is
linear in `z`. At the `m` where this policy's expected cost equals the limit, it is the constrained optimum among all
policies, linear or not (complementary slackness).
"""

from __future__ import annotations

import dataclasses
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize

from envs_mjx.analytic.tabular import Optimum
from jsafe import spaces
from jsafe.cmdp import Spec, State

BOUND = 3.0
"""`Spec.action_high`, for algorithms that need a scale. Actions are not clipped."""


class LinearPolicy(NamedTuple):
    """`u = gains[t] x + offsets[t]` at time `t`.

    Attributes:
        gains: `[H, action_size, state_size]`.
        offsets: `[H, action_size]`.
    """

    gains: np.ndarray
    offsets: np.ndarray


@dataclasses.dataclass(frozen=True, kw_only=True)
class LinearQuadratic:
    """The system `x' = dynamics x + control u + noise` with a quadratic reward and the energy `|u|^2` as its cost.

    The reward of a step is `reward_offset - (x' - target)^T precision (x' - target) - effort |u|^2`. An episode
    terminates after exactly `horizon` steps. The observation is `x` and the one-hot code of the time, which is
    all zeros after the last step.

    Attributes:
        id: name.
        horizon: H, steps of an episode.
        dynamics: `[n][n]`.
        control: `[n][action_size]`.
        noise_std: `[n]`, standard deviations of Gaussian noise.
        start_mean: `[n]`, of the Gaussian first state.
        start_std: `[n]`.
        target: `[n]`.
        precision: `[n][n]`, symmetric, positive semidefinite.
        effort: price of energy in the reward, above 0.
        reward_offset: reward of a step at the target without control.

    Raises:
        ValueError: for an effort of 0 or less.
    """

    id: str
    horizon: int
    dynamics: tuple[tuple[float, ...], ...]
    control: tuple[tuple[float, ...], ...]
    noise_std: tuple[float, ...]
    start_mean: tuple[float, ...]
    start_std: tuple[float, ...]
    target: tuple[float, ...]
    precision: tuple[tuple[float, ...], ...]
    effort: float
    reward_offset: float

    def __post_init__(self) -> None:
        if not self.effort > 0:
            raise ValueError(f"effort must be above 0, got {self.effort}")

    @property
    def spec(self) -> Spec:
        size, actions = np.shape(self.control)
        return Spec(
            id=self.id,
            observation=spaces.flat_box({"state": size, "time": self.horizon}, raw=("time",)),
            action=spaces.Box(actions, low=-BOUND, high=BOUND),
            cost_names=("energy",),
            episode_length=self.horizon,
            control_dt=1.0,
        )

    def reset(self, key: jax.Array) -> State:
        """Draw the first state."""
        key, start_key = jax.random.split(key)
        mean, std = jnp.asarray(self.start_mean, float), jnp.asarray(self.start_std, float)
        zero = jnp.zeros((), float)
        return self._state(key, jnp.int32(0), mean + std * jax.random.normal(start_key, mean.shape), zero, zero)

    def step(self, state: State, action: jax.Array) -> State:
        """Apply `action`, `[action_size]`, as it is."""
        data = state.data
        key, noise_key = jax.random.split(data["key"])
        # Sums of products instead of `@`: on accelerators a matrix product rounds its factors.
        x = jnp.sum(jnp.asarray(self.dynamics, float) * data["state"], axis=-1)
        x = x + jnp.sum(jnp.asarray(self.control, float) * action, axis=-1)
        x = x + jnp.asarray(self.noise_std, float) * jax.random.normal(noise_key, x.shape)
        miss = x - jnp.asarray(self.target, float)
        energy = jnp.sum(action**2)
        distance = jnp.sum(miss[:, None] * jnp.asarray(self.precision, float) * miss)
        reward = self.reward_offset - distance - self.effort * energy
        return self._state(key, data["time"] + 1, x, reward, energy)

    def _state(self, key: jax.Array, time: jax.Array, x: jax.Array, reward: jax.Array, energy: jax.Array) -> State:
        return State(
            data={"key": key, "time": time, "state": x},
            obs=jnp.concatenate([x, jax.nn.one_hot(time, self.horizon)]),
            reward=reward,
            cost=energy[None],
            terminated=time >= self.horizon,
            metrics={},
            info={},
        )


class _Extended(NamedTuple):
    """The problem in `z = (x, 1)`; `noise` and `start` are second moments."""

    dynamics: np.ndarray
    control: np.ndarray
    precision: np.ndarray
    noise: np.ndarray
    start: np.ndarray


def _extend(env: LinearQuadratic) -> _Extended:
    size, actions = np.shape(env.control)
    dynamics, noise, start = np.eye(size + 1), np.zeros((size + 1, size + 1)), np.zeros((size + 1, size + 1))
    dynamics[:size, :size] = env.dynamics
    control = np.vstack([env.control, np.zeros((1, actions))])
    to_target = np.hstack([np.eye(size), -np.asarray(env.target)[:, None]])
    precision = to_target.T @ np.asarray(env.precision) @ to_target
    noise[:size, :size] = np.diag(np.square(env.noise_std))
    start[:size, :size] = np.diag(np.square(env.start_std))
    mean = np.append(env.start_mean, 1.0)
    return _Extended(dynamics, control, precision, noise, start + np.outer(mean, mean))


def evaluate_linear(
    env: LinearQuadratic, gains: np.ndarray, offsets: np.ndarray, std: float | np.ndarray = 0.0
) -> tuple[float, float]:
    """Expected return and cost of an episode under `u ~ N(gains[t] x + offsets[t], std^2)`, exactly.

    Args:
        env: the problem.
        gains: `[H, action_size, state_size]`.
        offsets: `[H, action_size]`.
        std: standard deviation of the policy, one for all or `[H, action_size]`.
    """
    problem = _extend(env)
    moment = problem.start
    policy = np.concatenate([gains, np.asarray(offsets)[..., None]], axis=-1)
    variance = np.broadcast_to(np.square(std), np.shape(offsets))
    reward, cost = env.reward_offset * env.horizon, 0.0
    for time in range(env.horizon):
        scatter = np.diag(variance[time])
        energy = np.trace(policy[time] @ moment @ policy[time].T + scatter)
        closed = problem.dynamics + problem.control @ policy[time]
        moment = closed @ moment @ closed.T + problem.control @ scatter @ problem.control.T + problem.noise
        reward -= np.sum(problem.precision * moment) + env.effort * energy
        cost += energy
    return float(reward), float(cost)


def lagrangian_policy(env: LinearQuadratic, multiplier: float) -> LinearPolicy:
    """The policy that maximises expected `return - multiplier * cost`: the Riccati recursion, backwards in time."""
    problem = _extend(env)
    size, actions = np.shape(env.control)
    price = (env.effort + multiplier) * np.eye(actions)
    to_go = np.zeros((size + 1, size + 1))
    policy = np.empty((env.horizon, actions, size + 1))
    for time in reversed(range(env.horizon)):
        weight = problem.precision + to_go
        weighted = problem.control.T @ weight
        policy[time] = -np.linalg.solve(price + weighted @ problem.control, weighted @ problem.dynamics)
        to_go = problem.dynamics.T @ weight @ (problem.dynamics + problem.control @ policy[time])
    return LinearPolicy(policy[..., :-1], policy[..., -1])


def linear_quadratic_optimum(env: LinearQuadratic, limits: tuple[float, ...]) -> Optimum:
    """Maximise the expected return subject to an expected energy of at most `limits[0]`.

    Raises:
        ValueError: for anything but one limit above 0; `math.inf` for none.
    """
    if len(limits) != 1 or not limits[0] > 0:
        raise ValueError(f"limits must be one number above 0, got {limits}")

    def excess(multiplier: float) -> float:
        return evaluate_linear(env, *lagrangian_policy(env, multiplier))[1] - limits[0]

    multiplier, high = 0.0, 1.0
    if math.isfinite(limits[0]) and excess(0.0) > 0:
        while excess(high) > 0:
            high *= 2.0
        multiplier = float(scipy.optimize.root_scalar(excess, bracket=(0.0, high), method="brentq", xtol=1e-13).root)
    policy = lagrangian_policy(env, multiplier)
    return_, cost = evaluate_linear(env, *policy)
    return Optimum(return_, (cost,), (multiplier,), policy)

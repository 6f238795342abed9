"""Lagrange multipliers that hold an expected cost below a limit.

A multiplier is a NamedTuple of pure functions over a small state, fed with the mean undiscounted cost of finished
episodes (or, in Safe RLHF, the mean cost of a batch of answers). While that cost is unknown (NaN) nothing changes.
Hyper-parameters are read by name from a mapping, so that they may be traced and differ across a population. Several
constraints have one multiplier each: costs, limits and multipliers are then vectors of one length, and everything
below holds for each entry.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import struct

from jsafe.config import Traced


class Multiplier(NamedTuple):
    """A multiplier as pure functions: initial state, update from costs, value.

    Attributes:
        init: `hyper -> state`.
        update: `(state, episode_cost [...], hyper) -> state`.
        value: `state -> multiplier [...]`, at least 0.
    """

    init: Callable[[Traced], Any]
    update: Callable[[Any, jax.Array, Traced], Any]
    value: Callable[[Any], jax.Array]


@struct.dataclass
class LagrangeState:
    """Attributes:
    multiplier: `[...]`, shape of the limits.
    optimizer: state of the gradient method.
    """

    multiplier: jax.Array
    optimizer: Any


@struct.dataclass
class PIDState:
    """Attributes:
    multiplier: `[...]`, shape of the limits.
    integral: `[...]`, accumulated violation times its gain.
    proportional: `[...]`, smoothed violation.
    smoothed_cost: `[...]`, smoothed episode cost, for the derivative.
    past_costs: `[delay, ...]`, smoothed costs of the last updates, the oldest first.
    """

    multiplier: jax.Array
    integral: jax.Array
    proportional: jax.Array
    smoothed_cost: jax.Array
    past_costs: jax.Array


def _float(x: Any) -> jax.Array:
    return jnp.asarray(x, jnp.float32)


def _start(hyper: Traced) -> jax.Array:
    start = jnp.maximum(_float(hyper["multiplier_init"]), 0.0)
    return jnp.broadcast_to(start, jnp.broadcast_shapes(start.shape, jnp.shape(hyper["cost_limit"])))


def _keep_if_unknown(cost: jax.Array, new: Any, old: Any) -> Any:
    known = jnp.all(jnp.isfinite(cost))
    return jax.tree.map(lambda n, o: jnp.where(known, n, o), new, old)


def lagrange(optimizer: str = "adam") -> Multiplier:
    """Gradient ascent on the multiplier: it rises while the cost exceeds its limit and falls while it does not.

    One step of the optimiser on `-multiplier * (episode_cost - cost_limit)`, then clipping to
    `[0, multiplier_max]` (Ray, Achiam and Amodei 2019, section 5). With Adam each step is about
    `multiplier_learning_rate`, however large the violation; with plain gradients it is proportional to it.

    Reads `cost_limit`, `multiplier_init`, `multiplier_learning_rate` and `multiplier_max` from the hyper-parameters.

    Args:
        optimizer: `"adam"` or `"sgd"`.

    Raises:
        ValueError: for another optimiser.
    """
    transforms = {"adam": optax.scale_by_adam, "sgd": optax.identity}
    if optimizer not in transforms:
        raise ValueError(f"optimizer must be one of {sorted(transforms)}, got {optimizer!r}")
    transform = transforms[optimizer]()

    def init(hyper: Traced) -> LagrangeState:
        start = _start(hyper)
        return LagrangeState(multiplier=start, optimizer=transform.init(start))

    def update(state: LagrangeState, episode_cost: jax.Array, hyper: Traced) -> LagrangeState:
        gradient = -(_float(episode_cost) - hyper["cost_limit"])
        direction, optimizer_state = transform.update(gradient, state.optimizer)
        multiplier = state.multiplier - hyper["multiplier_learning_rate"] * direction
        multiplier = _float(jnp.clip(multiplier, 0.0, hyper["multiplier_max"]))
        new = LagrangeState(multiplier=multiplier, optimizer=optimizer_state)
        return _keep_if_unknown(episode_cost, new, state)

    return Multiplier(init, update, lambda state: state.multiplier)


def exponentiated() -> Multiplier:
    """Gradient ascent on the logarithm of the multiplier, which therefore stays above 0.

        log multiplier += multiplier_learning_rate * multiplier * (episode_cost - cost_limit)

    between -80 and the logarithm of `multiplier_max` (Dai et al. 2024, "Safe RLHF", arXiv 2310.12773). The state is
    the logarithm `[...]`. `multiplier_init` must be above 0. Reads the names that `lagrange` reads.
    """

    least = -80.0  # its exponential is still a float32 above 0

    def init(hyper: Traced) -> jax.Array:
        return jnp.maximum(jnp.log(_start(hyper)), least)

    def update(state: jax.Array, episode_cost: jax.Array, hyper: Traced) -> jax.Array:
        cost = _float(episode_cost)
        moved = state + hyper["multiplier_learning_rate"] * jnp.exp(state) * (cost - hyper["cost_limit"])
        moved = _float(jnp.clip(moved, least, jnp.log(_float(hyper["multiplier_max"]))))
        return _keep_if_unknown(cost, moved, state)

    return Multiplier(init, update, jnp.exp)


def pid(delay: int = 10) -> Multiplier:
    """Control the multiplier by the violation, its sum and the growth of the cost.

    Stooke, Achiam and Abbeel 2020, "Responsive safety in reinforcement learning by PID Lagrangian methods",
    algorithm 2, with exponential smoothing of the proportional and derivative terms and a delayed difference:

        violation     = episode_cost - cost_limit
        I             = max(0, I + pid_ki * violation)
        P             = pid_p_smoothing * P + (1 - pid_p_smoothing) * violation
        D             = pid_d_smoothing * D + (1 - pid_d_smoothing) * episode_cost
        derivative    = max(0, D - D of `delay` updates ago)
        multiplier    = clip(pid_kp * P + I + pid_kd * derivative, 0, multiplier_max)

    I starts from `multiplier_init`. Reads the names above from the hyper-parameters.

    Args:
        delay: updates over which the derivative is taken, static, at least 1. Costs before the first count as 0.

    Raises:
        ValueError: for a delay below 1.
    """
    if delay < 1:
        raise ValueError(f"delay must be at least 1, got {delay}")

    def init(hyper: Traced) -> PIDState:
        start = _start(hyper)
        zero = jnp.zeros_like(start)
        return PIDState(
            multiplier=start,
            integral=start,
            proportional=zero,
            smoothed_cost=zero,
            past_costs=jnp.zeros((delay, *start.shape), jnp.float32),
        )

    def update(state: PIDState, episode_cost: jax.Array, hyper: Traced) -> PIDState:
        cost = _float(episode_cost)
        violation = cost - hyper["cost_limit"]
        integral = jnp.maximum(0.0, state.integral + hyper["pid_ki"] * violation)
        proportional = _smooth(state.proportional, violation, hyper["pid_p_smoothing"])
        smoothed_cost = _smooth(state.smoothed_cost, cost, hyper["pid_d_smoothing"])
        derivative = jnp.maximum(0.0, smoothed_cost - state.past_costs[0])
        control = hyper["pid_kp"] * proportional + integral + hyper["pid_kd"] * derivative
        new = PIDState(
            multiplier=_float(jnp.clip(control, 0.0, hyper["multiplier_max"])),
            integral=_float(integral),
            proportional=_float(proportional),
            smoothed_cost=_float(smoothed_cost),
            past_costs=jnp.concatenate([state.past_costs[1:], _float(smoothed_cost)[None]]),
        )
        return _keep_if_unknown(cost, new, state)

    return Multiplier(init, update, lambda state: state.multiplier)


def _smooth(old: jax.Array, new: jax.Array, weight: jax.Array | float) -> jax.Array:
    return weight * old + (1.0 - weight) * new

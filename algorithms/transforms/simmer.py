"""Saute with a budget that a controller raises over the run.

Sootla et al. 2022, "Effects of safety state augmentation on safe exploration", arXiv:2206.02675. Costs are measured
by the largest budget `d_max` (`safety_budget`), and an episode starts with what the present one `d_k` is of it:

    z_0 = d_k / d_max,    z_{t+1} = (z_t - c_t / d_max) / saute_discount,

both discounted as in `saute`. Between iterations a PI controller with protection against windup follows a reference
`r_k`, which rises from `initial_budget * d_max` to `d_max` in `budget_levels` equal steps over the run. With the mean
cost `J_k` of an episode and the smoothing weight `w`,

    e_k = (1 - w) * (r_k - J_k) + w * e_{k-1}
    v_k = kp * e_k + ki * (e_k + ... + e_{k - window + 1}) + kaw * (u_{k-1} - v_{k-1})
    d_k = clip(r_k + clip(v_k, -budget_step, budget_step), 0, d_max),    u_k = d_k - r_k :

a policy that is cheaper than the reference may try more, and one that exceeds it gets less. All of it is in
undiscounted cost of an episode. The gains are of the size that the authors' experiments search. A budget moves while
episodes run; what those have spent stays, and their share of the budget moves with it.

OmniSafe departs from it in these ways, a switch for each: the reference is the last budget, so that the controller
integrates (`reference_is_last_budget`); costs are measured by the present budget (`divide_by_current`); and new
episodes start with all of it (`start_full`). Its safety_budget is the first budget here and its upper_budget is
`safety_budget`; its kd is `budget_kaw`.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from algorithms.spec import Schedule, TransformPart
from algorithms.transforms.budget_wrapper import Memory, step_reward
from algorithms.transforms.saute import SauteConfig, Sauted
from jsafe import Env
from jsafe.config import Traced, hyperparameters, option

SMALLEST = 1e-6
"""Lower bound of a budget, in cost of an episode."""


@hyperparameters
class SimmerConfig(SauteConfig):
    """A budget that rises over the run; `safety_budget` is the largest."""

    initial_budget: float = option("initial fraction of safety_budget", default=0.6, traced=True, low=0, high=1)
    budget_levels: int = option("steps in which the reference rises to safety_budget over the run", default=6, low=2)
    budget_kp: float = option("gain of the smoothed error, reference minus cost", default=0.01, traced=True, low=0)
    budget_ki: float = option("gain of the sum of recent errors", default=0.01, traced=True, low=0)
    budget_kaw: float = option("anti-windup gain", default=0.01, traced=True, low=0)
    budget_smoothing: float = option(
        "weight of the past in the smoothed error", default=0.005, traced=True, low=0, high=1
    )
    budget_window: int = option("errors in the sum", default=100, low=1)
    budget_step: float = option("bound on the controller's output, in cost", default=1.0, traced=True, low=0)
    reference_is_last_budget: bool = option("follow the last budget instead of a rising reference", default=False)
    divide_by_current: bool = option("measure costs by the present budget instead of the largest", default=False)
    start_full: bool = option("start episodes with 1 instead of the present part of the budget", default=False)


@dataclasses.dataclass(frozen=True)
class Simmered(Sauted):
    """A sauted environment whose budget is part of a larger one, `State.info["largest_budget"]`.

    Attributes:
        divide_by_current: measure costs by `budget` instead of `largest_budget`.
        start_full: start with all of the budget instead of `budget / largest_budget`.
    """

    divide_by_current: bool = False
    start_full: bool = False

    def full(self, memory: Memory) -> jax.Array:
        return jnp.ones_like(memory["spent"]) if self.start_full else memory["budget"] / memory["largest_budget"]

    def unit(self, memory: Memory) -> jax.Array:
        return memory["budget"] if self.divide_by_current else memory["largest_budget"]

    def begin(self, zeros: jax.Array) -> Memory:
        memory = super().begin(zeros)
        return {**memory, "largest_budget": memory["budget"]}

    def hand_over(self, after: Memory, fresh: Memory) -> Memory:
        return {**super().hand_over(after, fresh), "largest_budget": after["largest_budget"]}


@struct.dataclass
class SimmerState:
    """The controller.

    Attributes:
        budget: `[]`, d_k.
        largest: `[]`, d_max.
        updates: `[]` int32, how often it has moved.
        errors: `[window]`, the last e, the newest last.
        cut: `[]`, u - v, what the bounds took from the last output.
    """

    budget: jax.Array
    largest: jax.Array
    updates: jax.Array
    errors: jax.Array
    cut: jax.Array


def controller(window: int, levels: int, iterations: int, reference_is_last_budget: bool) -> tuple[Any, Any]:
    """Functions `init` and `update` of the budget's controller, as in `algorithms.spec.Schedule`.

    While the cost of an episode is unknown (NaN) nothing moves.

    Args:
        window: errors in the integral.
        levels: values of the reference.
        iterations: length of the run.
        reference_is_last_budget: True if the last budget replaces the reference.
    """

    def init(hyper: Traced) -> SimmerState:
        largest = jnp.asarray(hyper["safety_budget"], jnp.float32)
        zero = jnp.zeros_like(largest)
        return SimmerState(
            budget=jnp.clip(hyper["initial_budget"] * largest, SMALLEST, largest),
            largest=largest,
            updates=jnp.zeros((), jnp.int32),
            errors=jnp.zeros((window, *largest.shape), jnp.float32),
            cut=zero,
        )

    def update(state: SimmerState, episode_cost: jax.Array, hyper: Traced) -> SimmerState:
        updates = state.updates + 1
        reference = state.budget
        if not reference_is_last_budget:
            level = jnp.minimum(updates * levels // iterations, levels - 1)
            first = hyper["initial_budget"]
            reference = state.largest * (first + (1.0 - first) * level / (levels - 1))
        weight = hyper["budget_smoothing"]
        error = (1.0 - weight) * (reference - episode_cost) + weight * state.errors[-1]
        errors = jnp.concatenate([state.errors[1:], error[None]]).astype(jnp.float32)
        raw = (
            hyper["budget_kp"] * error + hyper["budget_ki"] * jnp.sum(errors, axis=0) + hyper["budget_kaw"] * state.cut
        )
        output = jnp.clip(raw, -hyper["budget_step"], hyper["budget_step"])
        budget = jnp.clip(reference + output, SMALLEST, state.largest)
        moved = SimmerState(
            budget=budget, largest=state.largest, updates=updates, errors=errors, cut=budget - reference - raw
        )
        known = jnp.isfinite(episode_cost)
        return jax.tree.map(lambda new, old: jnp.where(known, new, old), moved, state)

    return init, update


def schedule(env: Simmered, config: Any) -> Schedule:
    """Make the controller of a run; it writes both budgets to the environments."""
    init, update = controller(
        config.budget_window, config.budget_levels, config.iterations, config.reference_is_last_budget
    )
    return Schedule(
        init,
        update,
        apply=lambda state, env_states: env.remember(env_states, budget=state.budget, largest_budget=state.largest),
        metrics=lambda state, rewards: {"budget": state.budget, **step_reward(rewards)},
    )


def make(env: Env, config: SimmerConfig) -> Simmered:
    """Transform an environment; before a schedule applies, all of `safety_budget` is granted."""
    return Simmered(
        env,
        config.safety_budget,
        config.unsafe_reward,
        config.saute_discount,
        config.final_budget_is_reset,
        config.divide_by_current,
        config.start_full,
    )


PART = TransformPart("simmer", SimmerConfig, make, schedule)

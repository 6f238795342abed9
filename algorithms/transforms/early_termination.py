"""End an episode when its costs exceed the limit.

Sun et al. 2021, "Safe exploration by solving early terminated MDP", arXiv:2107.04200: with `s_t` the accumulated cost
after step `t`, the episode ends at the first step with

    s_t = c_1 + ... + c_t > cost_limit,

whose reward is 0, and nothing is bootstrapped from there. To get the later rewards a policy has to stay within the
limit. The process is Markov in the pair (state, s), so the policy sees the part of the limit that is left,

    max(0, 1 - s_t / cost_limit).

OmniSafe departs from it in two ways, a switch for each: the policy does not see what is left, and the sum is cleared
only where it ended an episode, so that it continues over ordinary ends.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from algorithms.spec import TransformPart
from algorithms.transforms.budget_wrapper import BudgetWrapper, Memory, constant
from jsafe import Env, State
from jsafe.config import Config, hyperparameters, option

SMALLEST = 1e-6
"""A limit is divided by as if it were at least this."""


@hyperparameters
class EarlyTerminationConfig(Config):
    """An end at the limit."""

    cost_limit: float = option(
        "an episode ends when its undiscounted cost exceeds this", default=25.0, traced=True, low=0
    )
    observe_budget: bool = option("show the policy which part of cost_limit is left", default=True)
    keep_counting: bool = option("carry the cost of an episode that ended otherwise on to the next", default=False)


@dataclasses.dataclass(frozen=True)
class EarlyTerminated(BudgetWrapper):
    """An environment whose episodes end when their cost exceeds a limit.

    `State.info` has `cost_limit` and `spent`, the cost so far.

    Attributes:
        cost_limit: until it is set in `State.info`.
        observe_budget: append the remaining part of the limit, in [0, 1], to the observation.
        keep_counting: carry `spent` over to the next episode, unless it ended this one.
    """

    cost_limit: float = 25.0
    observe_budget: bool = True
    keep_counting: bool = False

    @property
    def observes(self) -> bool:
        return self.observe_budget

    def begin(self, zero: jax.Array) -> Memory:
        return {"spent": zero, "cost_limit": jnp.full_like(zero, self.cost_limit)}

    def spend(self, memory: Memory, cost: jax.Array) -> Memory:
        return {**memory, "spent": memory["spent"] + cost}

    def shown(self, memory: Memory) -> jax.Array:
        return jnp.maximum(0.0, 1.0 - memory["spent"] / jnp.maximum(memory["cost_limit"], SMALLEST))

    def outcome(self, memory: Memory, after: State) -> tuple[jax.Array, jax.Array]:
        over = memory["spent"] > memory["cost_limit"]
        return jnp.where(over, jnp.zeros_like(after.reward), after.reward), after.terminated | over

    def hand_over(self, after: Memory, fresh: Memory) -> Memory:
        spent = fresh["spent"]
        if self.keep_counting:
            spent = jnp.where(after["spent"] > after["cost_limit"], spent, after["spent"])
        return {"spent": spent, "cost_limit": after["cost_limit"]}


def make(env: Env, config: EarlyTerminationConfig) -> EarlyTerminated:
    """Transform an environment."""
    return EarlyTerminated(env, config.cost_limit, config.observe_budget, config.keep_counting)


PART = TransformPart("early_termination", EarlyTerminationConfig, make, constant("cost_limit", "cost_limit"))

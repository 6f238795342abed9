"""Replace the reward once a budget of costs is used up, and show the policy what is left of it.

Sootla et al. 2022, "Saute RL: almost surely safe reinforcement learning using state augmentation", arXiv:2202.06558.
The remaining budget starts at 1 and follows (equation 4, normalised by the budget `d`)

    z_{t+1} = (z_t - c_t / d) / saute_discount,    d = safety_budget * (1 - g^T) / (1 - g) / T,   g = saute_discount,

so that `z >= 0` at all times keeps the discounted cost `sum_t g^t c_t` within `d`, which is the discounted cost of an
episode of `T` steps (`Spec.episode_length`) that spends `safety_budget` evenly. The reward of a step is kept while
`z_{t+1} > 0` and is `unsafe_reward` otherwise.

The recursion is solved for `z`,

    z_t = g^-t - s_t / d,    s_{t+1} = (s_t + c_t) / g,

since its terms do not contain the budget: a budget may change while an episode runs.

OmniSafe bootstraps the value at a time limit from an observation whose budget has been reset already;
`final_budget_is_reset` does the same.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from algorithms.spec import TransformPart
from algorithms.transforms.budget_wrapper import BudgetWrapper, Memory, constant
from jsafe import Env, State
from jsafe.config import Config, hyperparameters, option


@hyperparameters
class SauteConfig(Config):
    """A budget for the costs of each episode."""

    safety_budget: float = option(
        "undiscounted cost budget of an episode; rewards are replaced beyond it", default=25.0, traced=True, above=0
    )
    unsafe_reward: float = option("reward of a step without any budget left", default=-1.0)
    saute_discount: float = option("discount of the cost budget", default=0.999, above=0, high=1)
    final_budget_is_reset: bool = option("show a full budget at the last step before the time limit", default=False)


@dataclasses.dataclass(frozen=True)
class Sauted(BudgetWrapper):
    """An environment with a budget for each episode's costs, observed as the last entry.

    `State.info` has `budget`, in undiscounted cost of an episode; `spent`, which is `s_t` above; `growth`, which is
    `g^-t`; and `steps` of the episode where `final_budget_is_reset`.

    Attributes:
        budget: until it is set in `State.info`.
        unsafe_reward: reward of a step that leaves no budget.
        saute_discount: g.
        final_budget_is_reset: observe the budget of a fresh episode at the time limit.
    """

    budget: float = 25.0
    unsafe_reward: float = -1.0
    saute_discount: float = 0.999
    final_budget_is_reset: bool = False

    @property
    def discounted_share(self) -> float:
        """Discounted cost of an episode over its undiscounted cost, if it is spent evenly."""
        g, steps = self.saute_discount, self.env.spec.episode_length
        return 1.0 if g == 1 else (1.0 - g**steps) / (1.0 - g) / steps

    def full(self, memory: Memory) -> jax.Array:
        """`z` at the start of an episode."""
        return jnp.ones_like(memory["spent"])

    def unit(self, memory: Memory) -> jax.Array:
        """The undiscounted cost that takes 1 from `z`."""
        return memory["budget"]

    def left(self, memory: Memory) -> jax.Array:
        """`z`, below 0 once more is spent than there was."""
        spent = memory["spent"] / (self.unit(memory) * self.discounted_share)
        return self.full(memory) * memory["growth"] - spent

    def begin(self, zero: jax.Array) -> Memory:
        budget = jnp.full_like(zero, self.budget)
        memory = {"budget": budget, "spent": zero, "growth": jnp.ones_like(zero)}
        return {**memory, "steps": zero} if self.final_budget_is_reset else memory

    def spend(self, memory: Memory, cost: jax.Array) -> Memory:
        memory = {
            **memory,
            "spent": (memory["spent"] + cost) / self.saute_discount,
            "growth": memory["growth"] / self.saute_discount,
        }
        return {**memory, "steps": memory["steps"] + 1} if self.final_budget_is_reset else memory

    def shown(self, memory: Memory) -> jax.Array:
        left = self.left(memory)
        if not self.final_budget_is_reset:
            return left
        return jnp.where(memory["steps"] >= self.env.spec.episode_length, self.full(memory), left)

    def outcome(self, memory: Memory, after: State) -> tuple[jax.Array, jax.Array]:
        unsafe_reward = jnp.full_like(after.reward, self.unsafe_reward)
        return jnp.where(self.left(memory) > 0, after.reward, unsafe_reward), after.terminated

    def hand_over(self, after: Memory, fresh: Memory) -> Memory:
        return {**fresh, "budget": after["budget"]}


def make(env: Env, config: SauteConfig) -> Sauted:
    """Transform an environment."""
    return Sauted(env, config.safety_budget, config.unsafe_reward, config.saute_discount, config.final_budget_is_reset)


PART = TransformPart("saute", SauteConfig, make, constant("budget", "safety_budget"))

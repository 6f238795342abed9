"""One total cost in place of several, for methods with a single limit.

An environment reports one cost for each constraint (`State.cost [C]`). A method with one limit bounds their total:
`total_cost(env)` is the same environment with `C = 1`. `Spec.total_cost` names the rule that forms the total.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jsafe.cmdp import Env, Spec, State


def combine(spec: Spec, cost: jax.Array) -> jax.Array:
    """Total of the costs of one step, by the rule of the environment.

    Args:
        spec: spec of the environment that reported the costs.
        cost: `[..., C]`.

    Returns:
        `[...]`: 1 if any cost is positive and 0 otherwise (`total_cost="any"`), or the sum (`"sum"`).
    """
    if spec.total_cost == "any":
        return jnp.any(cost > 0, axis=-1).astype(cost.dtype)
    return jnp.sum(cost, axis=-1)


@dataclasses.dataclass(frozen=True)
class TotalCost:
    """An environment whose only cost is the total of the costs of `env`; those stay in `State.metrics`.

    Other attributes, such as the simulator of an environment, are those of `env`.
    """

    env: Env

    def __getattr__(self, name: str) -> Any:
        if name == "env" or name.startswith("__"):  # missing while an object is being copied
            raise AttributeError(name)
        return getattr(self.env, name)

    @property
    def spec(self) -> Spec:
        """Description of `env`, with one cost."""
        return dataclasses.replace(self.env.spec, cost_names=("total",))

    def reset(self, key: jax.Array) -> State:
        """Reset `env`."""
        return self._total(self.env.reset(key))

    def step(self, state: State, action: jax.Array) -> State:
        """Step `env`, which reads nothing of the costs."""
        return self._total(self.env.step(state, action))

    def _total(self, state: State) -> State:
        spec = self.env.spec
        each = {f"cost_{name}": state.cost[..., i] for i, name in enumerate(spec.cost_names)}
        cost = combine(spec, state.cost)[..., None]
        return state.replace(cost=cost, metrics={**state.metrics, **each})


def total_cost(env: Env) -> Env:
    """Combine the costs of an environment into one; an environment with at most one cost stays as it is."""
    return TotalCost(env) if env.spec.num_costs > 1 else env

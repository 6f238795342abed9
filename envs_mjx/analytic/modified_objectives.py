"""Exact optima of methods that solve a modified problem: early termination, Saute, penalties and barriers.

Early termination and Saute change the process, and their policy observes the accumulated cost or the remaining budget.
Both are dynamic programming over pairs (state, memory), where the memory is that number. Costs are integers, so the
memory has few values. Penalty and barrier methods keep the process and give the cost a price. Both move along the
Pareto curve `V(b)`, the best return at an expected cost of at most `b`, which is concave, and stop where its slope is
the price.

If there are several costs, early termination and Saute count their sum.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from envs_mjx.analytic.tabular import FiniteCMDP, Optimum, finite_optimum, least_cost, tables

DIGITS = 9
"""Memories that agree to this many decimals are one."""

TIE = 1e-9
"""Actions whose objectives differ by less are equally good."""


class MemoryPolicy(NamedTuple):
    """A deterministic policy of the time, the state and a memory.

    Attributes:
        memories: for each time, the `[M_t]` values that the memory can have, in ascending order.
        actions: for each time, the best action, `[S, M_t]` int.
    """

    memories: tuple[np.ndarray, ...]
    actions: tuple[np.ndarray, ...]


class MemoryOptimum(NamedTuple):
    """The best policy of a modified process.

    Several policies are best if some actions no longer matter, for example after the budget is used up. The figures
    belong to the one that spends least; the ranges cover the others.

    Attributes:
        objective: expected sum of the rewards that the method learns from, the same for all best policies.
        return_: expected sum of the rewards of the process, as the method's definition collects them.
        costs: expected sum of each cost; the step that ends an episode counts.
        return_range: smallest and largest `return_` of a best policy.
        cost_range: smallest and largest expected total cost of a best policy.
        policy: the best policy that spends least.
    """

    objective: float
    return_: float
    costs: tuple[float, ...]
    return_range: tuple[float, float]
    cost_range: tuple[float, float]
    policy: MemoryPolicy


def early_termination_optimum(env: FiniteCMDP, limit: float) -> MemoryOptimum:
    """Best policy where an episode ends, with a reward of 0, at the step whose accumulated cost exceeds `limit`.

    The memory is the accumulated cost. `return_` is the collected reward, the same as the objective.
    """

    def spend(memory: np.ndarray, cost: np.ndarray) -> np.ndarray:
        return memory + cost

    def within(memory: np.ndarray) -> np.ndarray:
        return memory <= limit

    return _memory_optimum(env, 0.0, spend, within, unsafe_reward=0.0, unsafe_ends=True)


def saute_optimum(env: FiniteCMDP, budget: float, unsafe_reward: float, saute_discount: float = 1.0) -> MemoryOptimum:
    """Best policy of Saute RL (Sootla et al. 2022): the reward is `unsafe_reward` once the budget is used up.

    The memory is the remaining budget `z`, 1 at first and `(z - cost / budget) / saute_discount` after a step, whose
    reward counts while the new `z` is strictly above 0. With a budget that is no integer and a discount of 1
    it does not matter on which side of the bound an exhausted budget lies. `return_` is of the original rewards.

    Raises:
        ValueError: for a budget or discount that is not above 0.
    """
    if not (budget > 0 and saute_discount > 0):
        raise ValueError(f"budget and saute_discount must be above 0, got {budget} and {saute_discount}")

    def spend(memory: np.ndarray, cost: np.ndarray) -> np.ndarray:
        return (memory - cost / budget) / saute_discount

    def within(memory: np.ndarray) -> np.ndarray:
        return memory > 0

    return _memory_optimum(env, 1.0, spend, within, unsafe_reward=unsafe_reward, unsafe_ends=False)


def _memory_optimum(
    env: FiniteCMDP,
    start: float,
    spend: Callable[[np.ndarray, np.ndarray], np.ndarray],
    within: Callable[[np.ndarray], np.ndarray],
    *,
    unsafe_reward: float,
    unsafe_ends: bool,
) -> MemoryOptimum:
    """Dynamic programming over (time, state, memory).

    Args:
        env: the original process.
        start: the first memory.
        spend: memory and cost of a step to the next memory, elementwise.
        within: elementwise predicate, True if a memory is safe.
        unsafe_reward: reward of a step whose next memory is not safe.
        unsafe_ends: True if an unsafe step ends the episode.
    """
    memories, following = _memories(env, start, spend)
    safe = tuple(within(after)[index] for after, index in zip(memories[1:], following, strict=True))

    def sweep(row: int, sign: int) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
        return _best_actions(env, following, safe, unsafe_reward, unsafe_ends, row, sign)

    (objective, return_, least, *costs), actions = sweep(2, -1)
    return MemoryOptimum(
        objective=float(objective),
        return_=float(return_),
        costs=tuple(float(x) for x in costs),
        return_range=(float(sweep(1, -1)[0][1]), float(sweep(1, 1)[0][1])),
        cost_range=(float(least), float(sweep(2, 1)[0][2])),
        policy=MemoryPolicy(memories[:-1], actions),
    )


def _memories(
    env: FiniteCMDP, start: float, spend: Callable[[np.ndarray, np.ndarray], np.ndarray]
) -> tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...]]:
    """Forward pass: the memories `[M_t]` of each time, and the index `[S, M_t, A]` of each next memory."""
    spent = tables(env).cost.sum(0)
    memories, following = [np.array([start])], []
    for _ in range(env.horizon):
        after = np.round(spend(memories[-1][None, :, None], spent[:, None, :]), DIGITS)
        values, index = np.unique(after, return_inverse=True)
        memories.append(values)
        following.append(index.reshape(after.shape))
    return tuple(memories), tuple(following)


def _best_actions(
    env: FiniteCMDP,
    following: tuple[np.ndarray, ...],
    safe: tuple[np.ndarray, ...],
    unsafe_reward: float,
    unsafe_ends: bool,
    row: int,
    sign: int,
) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
    """Backward pass: expected sums of an episode and the best actions.

    Args:
        env: the original process.
        following: index `[S, M_t, A]` of the next memory, by time.
        safe: True if that memory is safe, `[S, M_t, A]`, by time.
        unsafe_reward: reward of a step whose next memory is not safe.
        unsafe_ends: True if an unsafe step ends the episode.
        row: among equally good actions, the one with most of `sign * sums[row]` is taken.
        sign: 1 or -1.

    Returns:
        `sums [K]` (objective, return, total cost, each cost), and actions `[S, M_t]` by time.
    """
    table = tables(env)
    rewards = np.stack([table.reward, table.cost.sum(0), *table.cost])
    value = np.zeros((1 + len(rewards), *table.start.shape, following[-1].max() + 1))
    actions = []
    for index, is_safe in zip(reversed(following), reversed(safe), strict=True):
        shaped = np.where(is_safe, table.reward[:, None, :], unsafe_reward)
        now = np.stack([shaped, *(np.broadcast_to(x[:, None, :], is_safe.shape) for x in rewards)])
        if unsafe_ends:
            now[1] = shaped
        # `later[k, s, a, m]`: expected sum after action a in state s if the next memory is m.
        later = np.einsum("san,knm->ksam", table.transition, value)
        state, action = np.arange(is_safe.shape[0])[:, None, None], np.arange(is_safe.shape[2])
        total = now + later[:, state, action, index] * (is_safe | (not unsafe_ends))
        equal = total[0] >= total[0].max(-1, keepdims=True) - TIE
        best = np.argmax(np.where(equal, sign * total[row], -np.inf), axis=-1)
        actions.append(best)
        value = np.take_along_axis(total, best[None, ..., None], axis=-1)[..., 0]
    return value[..., 0] @ table.start, tuple(actions[::-1])


def penalty_optimum(env: FiniteCMDP, limit: float, coefficient: float) -> Optimum:
    """Maximise `return - coefficient * max(0, cost - limit)` of expected return and cost, as exact penalty methods do.

    If the coefficient exceeds the multiplier, this is the constrained optimum.

    Raises:
        ValueError: unless there is one cost.
    """
    return _optimum_at_price(env, lambda cost: coefficient if cost > limit else 0.0)


def barrier_optimum(env: FiniteCMDP, limit: float, coefficient: float) -> Optimum:
    """Maximise `return + coefficient * log(limit - cost)` of expected return and cost, as interior-point methods do.

    Raises:
        ValueError: unless there is one cost, and for a limit that no policy stays below.
    """
    if least_cost(env) >= limit:
        raise ValueError(f"no policy of {env.id} stays below the limit {limit}")
    return _optimum_at_price(env, lambda cost: coefficient / (limit - cost) if cost < limit else math.inf)


def _optimum_at_price(env: FiniteCMDP, price: Callable[[float], float]) -> Optimum:
    """The optimum at the cost where the return of one more unit of cost equals its price, which does not decrease."""
    if len(env.cost_names) != 1:
        raise ValueError(f"{env.id} must have one cost, got {len(env.cost_names)}")
    low, high = least_cost(env), finite_optimum(env, (math.inf,)).costs[0]
    for _ in range(50):
        middle = (low + high) / 2
        if finite_optimum(env, (middle,)).multipliers[0] > price(middle):
            low = middle
        else:
            high = middle
    return finite_optimum(env, (high,))

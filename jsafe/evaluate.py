"""Evaluation of trained policies: test episodes of all seeds at once, and the record of a single episode."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jsafe import policy
from jsafe.confidence import mean_and_interval
from jsafe.constrained import combine
from jsafe.frame_stack import FrameStack
from jsafe.runs.record import RunError

CHUNK = 50
"""Control steps in one call of the compiled program; between calls the progress is shown."""

QUANTITIES = ("return", "cost", "length")


class PolicySet(NamedTuple):
    """Policies of S seeds as one pure function over stacked parameters.

    Attributes:
        params: pytree with leading axis `[S]`, the first argument of `act` for one seed.
        act: `(params of one seed, obs [..., observation_size], key, explore) -> action [..., action_size]`; `explore`
            is 0 for the deterministic action, 1 for a sample.
        seeds: numbers of the seeds, in order.
        history: number of observations that they act on, see `jsafe.frame_stack`.
    """

    params: Any
    act: Callable[[Any, jax.Array, jax.Array, Any], jax.Array]
    seeds: list[int]
    history: int = 1

    def view(self, env: Any) -> Any:
        """Return the environment with the observations of the policies; `FrameStack.inner` gives its states."""
        return FrameStack(env, self.history) if self.history > 1 else env


def load_policy_set(run_dir: Path | str, seeds: Sequence[int] | None = None) -> PolicySet:
    """Read the policies of a run's newest good checkpoint.

    Args:
        run_dir: folder of the run.
        seeds: seeds to read; None for all.

    Raises:
        RunError: no run, no policy, or a seed that the run does not have.
        CheckpointError: no good checkpoint.
    """
    stored = policy.load_policies(run_dir)
    chosen = list(range(stored.seeds)) if seeds is None else list(seeds)
    for seed in chosen:
        if not 0 <= seed < stored.seeds:
            raise RunError(f"the run at {run_dir} has seeds 0 to {stored.seeds - 1}, got seed {seed}")
    params = jax.tree.map(lambda leaf: leaf[jnp.asarray(chosen)], (stored.params, stored.normalizer))

    def act(params: Any, obs: jax.Array, key: jax.Array, explore: Any) -> jax.Array:
        weights, normalizer = params
        drawn, best = (stored.apply(weights, normalizer, obs, k) for k in (key, None))
        return jnp.where(explore > 0, drawn, best)

    return PolicySet(params, act, chosen, stored.spec.history)


class EpisodeTotals(NamedTuple):
    """Totals of test episodes; `[modes, seeds, episodes]` each.

    Attributes:
        returns: undiscounted sums of rewards.
        costs: undiscounted sums of the total cost.
        lengths: steps.
        finite: True if all numbers of the episode were finite.
    """

    returns: np.ndarray
    costs: np.ndarray
    lengths: np.ndarray
    finite: np.ndarray


def run_episodes(
    env: Any, policies: PolicySet, key: jax.Array, episodes: int, modes: Sequence[str], progress: bool = False
) -> tuple[EpisodeTotals, dict[str, float]]:
    """Run `episodes` of every seed in every mode at once.

    An episode ends at its termination or at the time limit; an environment whose episode is over is stepped on until
    all are, without counting, which is cheaper than stopping it.

    Args:
        env: the CMDP, without the window of policies that see a history.
        policies: S trained policies.
        key: typed PRNG key; layouts depend on it and the number of the episode alone.
        episodes: E.
        modes: M names out of `deterministic`, `stochastic`.
        progress: True to count steps on stderr.

    Returns:
        The sums `[M, S, E]`, and `compile` and `run` seconds.
    """
    env = policies.view(env)
    begin, advance = _episode_programs(env, policies, episodes, modes)
    reset_key, act_key = jax.random.split(key)
    clock = time.perf_counter()
    carry = jax.block_until_ready(jax.jit(begin)(reset_key))
    limit = env.spec.episode_length
    chunk = next(size for size in range(min(CHUNK, limit), 0, -1) if limit % size == 0)
    keys = jax.random.split(act_key, limit).reshape(limit // chunk, chunk)
    program = jax.jit(advance, donate_argnums=1).lower(policies.params, carry, keys[0]).compile()
    compile_seconds = time.perf_counter() - clock
    clock = time.perf_counter()
    for number, chunk_keys in enumerate(keys):
        carry = program(policies.params, carry, chunk_keys)
        if progress:
            print(f"\rstep {(number + 1) * chunk} of {limit}", end="", file=sys.stderr, flush=True)
        if not np.asarray(carry[1]).any():
            break
    if progress:
        print(file=sys.stderr)
    returns, costs, lengths, finite = (np.asarray(leaf) for leaf in carry[2])
    seconds = {"compile": compile_seconds, "run": time.perf_counter() - clock}
    return EpisodeTotals(returns, costs, lengths, finite), seconds


def _episode_programs(env: Any, policies: PolicySet, episodes: int, modes: Sequence[str]) -> tuple[Any, Any]:
    """Return the start of all episodes and their advance by the steps of some keys.

    Both pass on `(state, alive, totals)`, each leaf with leading axes `[modes, seeds, episodes]`.
    """
    explore = jnp.asarray([float(mode == "stochastic") for mode in modes], jnp.float32)

    def begin(reset_key: jax.Array) -> Any:
        start = jax.vmap(env.reset)(jax.random.split(reset_key, episodes))
        wide = (len(modes), len(policies.seeds))
        start = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (*wide, *leaf.shape)), start)
        zeros = jnp.zeros((*wide, episodes), jnp.float32)
        return start, ~start.terminated, (zeros, zeros, zeros, jnp.ones((*wide, episodes), bool))

    def advance(params: Any, carry: Any, keys: jax.Array) -> Any:
        def one_policy(params: Any, obs: jax.Array, step_key: jax.Array, explore: jax.Array) -> jax.Array:
            return policies.act(params, obs, step_key, explore)

        every_seed = jax.vmap(one_policy, in_axes=(0, 0, 0, None))
        every_mode = jax.vmap(every_seed, in_axes=(None, 0, 0, 0))
        one_step = jax.vmap(jax.vmap(jax.vmap(env.step)))

        def step(carry: Any, step_key: jax.Array) -> tuple[Any, None]:
            state, alive, (returns, costs, lengths, finite) = carry
            step_keys = jax.random.split(step_key, alive.shape[:2])
            state = one_step(state, every_mode(params, state.obs, step_keys, explore))
            reward, cost = state.original_reward, combine(env.spec, state.cost)
            good = jnp.isfinite(reward) & jnp.isfinite(cost)
            sums = (
                returns + jnp.where(alive & good, reward, 0.0).astype(jnp.float32),
                costs + jnp.where(alive & good, cost, 0.0).astype(jnp.float32),
                lengths + alive,
                finite & (good | ~alive),
            )
            return (state, alive & ~state.terminated, sums), None

        return jax.lax.scan(step, carry, keys)[0]

    return begin, advance


def summarize(totals: EpisodeTotals, seeds: Sequence[int]) -> dict[str, Any]:
    """Per-seed and overall means of `[seeds, episodes]` sums.

    Overall, `*_interval` is the 95 % interval of the mean over seeds (Student's t), since seeds, not episodes, are the
    independent experiments; with one seed it is the interval over its episodes.
    """
    per_seed, overall = [], {}
    columns = dict(zip(QUANTITIES, (totals.returns, totals.costs, totals.lengths), strict=True))
    columns = {name: np.where(totals.finite, values, np.nan).astype(float) for name, values in columns.items()}
    for place, seed in enumerate(seeds):
        row: dict[str, Any] = {"seed": int(seed), "episodes": int(totals.finite[place].sum())}
        for name, values in columns.items():
            row |= _statistics(name, values[place])
        per_seed.append(row)
    for name, values in columns.items():
        means = np.array([row[name] for row in per_seed])
        overall |= _statistics(name, values.reshape(-1))
        if len(seeds) > 1:
            mean, low, high = (float(value) for value in mean_and_interval(means))
            overall |= {name: mean, f"{name}_interval": [low, high]}
    return {"overall": overall, "seeds": per_seed}


def _statistics(name: str, values: np.ndarray) -> dict[str, Any]:
    mean, low, high = (float(value) for value in mean_and_interval(values))
    known = values[np.isfinite(values)]
    deviation = float(known.std(ddof=1)) if len(known) > 1 else 0.0
    return {name: mean, f"{name}_std": deviation, f"{name}_interval": [low, high]}


@dataclasses.dataclass(frozen=True)
class EpisodeRecord:
    """One episode, moment by moment, from the start state to the last; `T + 1` moments.

    Attributes:
        env: the environment it happened in.
        states: `jsafe.cmdp.State` with leading axis `[T + 1]`.
        rewards: `[T + 1]`, 0 at the start.
        costs: `[T + 1]`, the total cost, 0 at the start.
    """

    env: Any
    states: Any
    rewards: np.ndarray
    costs: np.ndarray

    def __len__(self) -> int:
        return len(self.rewards)


def record_episode(
    env: Any, policies: PolicySet, steps: int | None, episode_seed: int, stochastic: bool
) -> EpisodeRecord:
    """Return one episode of the first of `policies`, up to its termination or the time limit."""
    length = min(steps or env.spec.episode_length, env.spec.episode_length)
    explore = float(stochastic)
    seen = policies.view(env)

    def drawn(state: Any) -> Any:
        return state if seen is env else seen.inner(state)

    def step(carry: Any, key: jax.Array) -> tuple[Any, Any]:
        state = seen.step(
            carry, policies.act(jax.tree.map(lambda leaf: leaf[0], policies.params), carry.obs, key, explore)
        )
        return state, drawn(state)

    @jax.jit
    def run(key: jax.Array) -> tuple[Any, Any]:
        reset_key, act_key = jax.random.split(key)
        start = seen.reset(reset_key)
        return drawn(start), jax.lax.scan(step, start, jax.random.split(act_key, length))[1]

    start, rest = run(jax.random.key(episode_seed))
    states = jax.tree.map(lambda first, later: jnp.concatenate([first[None], later]), start, rest)
    ended = np.flatnonzero(np.asarray(states.terminated)[1:])
    last = int(ended[0]) + 2 if len(ended) else length + 1
    states = jax.tree.map(lambda leaf: leaf[:last], states)
    return EpisodeRecord(
        env, states, np.asarray(states.original_reward, float), np.asarray(combine(env.spec, states.cost), float)
    )

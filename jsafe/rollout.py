"""Run a policy in a batch of environments: the only loop over time.

Environments know neither time limits nor automatic resets (`jsafe.cmdp`); both are added here, once. Truncation by
the time limit and termination by the task are distinguished, and the observation before a reset is kept, because a
value function is bootstrapped from it when an episode was cut and not when it ended (Pardo et al. 2018,
"Time limits in reinforcement learning").

A reset is expensive and rarely needed. Under `vmap` a `lax.cond` becomes a select that pays for both branches at
every step, so the reset is a batch-level operation with its own batching rule: environments and seeds are flattened
into one batch, a true branch skips it while nobody is done, and inside that branch only chunks of the environments
that need it are reset.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from jsafe import episode_stats
from jsafe.cmdp import Env, State
from jsafe.episode_stats import EpisodeSums
from jsafe.state_check import check_reset, check_step

Act = Callable[[jax.Array, jax.Array], tuple[jax.Array, Any]]
"""`(observations [N, ...], key) -> (actions [N, action_size], extras)`; the pytree becomes `Transition.extras`."""

RESET_CHUNKS = 64
"""A full batch is reset in this many chunks; one environment costs one chunk."""


@struct.dataclass
class RolloutState:
    """Environments in progress, `N` of them.

    Attributes:
        env: state of the environments, leading axis `[N]`.
        steps: `[N]` int32, steps of the running episode.
        episode_return: `[N]`, rewards (`State.original_reward`) of the running episode so far.
        episode_cost: `[N, C]`, costs of the running episode so far.
        reset_keys: `[N]` typed keys; with `resets` they give each start state its own key.
        resets: `[N]` int32, start states drawn so far.
        window: the last finished episodes.
    """

    env: State
    steps: jax.Array
    episode_return: jax.Array
    episode_cost: jax.Array
    reset_keys: jax.Array
    resets: jax.Array
    window: episode_stats.EpisodeWindow


@struct.dataclass
class Transition:
    """One step of `N` environments, or `T` of them; every leaf then starts with `[T, N]`.

    Attributes:
        obs: observation the action was chosen from.
        action: as passed to the environment, which clips it.
        reward: `[T, N]`, to learn from.
        cost: `[T, N, C]`, one entry for each cost of the environment.
        terminated: bool, the task ended the episode: bootstrap nothing.
        truncated: bool, the time limit cut it: bootstrap from `next_obs`.
        next_obs: observation after the step and before any reset.
        extras: second output of the policy, such as the log-probability of the action.
    """

    obs: Any
    action: jax.Array
    reward: jax.Array
    cost: jax.Array
    terminated: jax.Array
    truncated: jax.Array
    next_obs: Any
    extras: Any

    @property
    def done(self) -> jax.Array:
        """`[T, N]` bool, the episode is over for either reason."""
        return self.terminated | self.truncated


Record = Callable[[Transition, State], Any]
"""`(transition [N], environment state after the step and before any reset [N]) -> what to keep of the step`."""


def transition_only(transition: Transition, after: State) -> Transition:
    """Keep the transition and nothing of the environment state."""
    del after
    return transition


def init(env: Env, key: jax.Array, num_envs: int, window: int = 100) -> RolloutState:
    """Start `num_envs` environments from fresh resets.

    Args:
        env: the CMDP.
        key: typed PRNG key, shape `[]`.
        num_envs: N, static, at least 1.
        window: finished episodes to remember, static, at least 1.

    Raises:
        ValueError: for a count below 1, or states that do not fit the `Spec` of the environment.
    """
    if num_envs < 1:
        raise ValueError(f"num_envs must be at least 1, got {num_envs}")
    if window < 1:
        raise ValueError(f"window must be at least 1, got {window}")
    keys = jax.random.split(key, num_envs)
    resets = jnp.zeros(num_envs, jnp.int32)
    states = jax.vmap(lambda k, n: env.reset(jax.random.fold_in(k, n)))(keys, resets)
    check_reset(env.spec, states)
    num_costs = env.spec.num_costs
    return RolloutState(
        env=states,
        steps=jnp.zeros(num_envs, jnp.int32),
        episode_return=jnp.zeros(num_envs, jnp.float32),
        episode_cost=jnp.zeros((num_envs, num_costs), jnp.float32),
        reset_keys=keys,
        resets=resets + 1,
        window=episode_stats.empty(window, num_costs),
    )


def restart(env: Env, state: RolloutState) -> RolloutState:
    """Abandon the running episodes: every environment is at a fresh start afterwards. Finished ones are remembered."""
    running = state.steps > 0
    return dataclasses.replace(
        state,
        env=_renew(env, running, state, state.env),
        steps=jnp.zeros_like(state.steps),
        episode_return=jnp.zeros_like(state.episode_return),
        episode_cost=jnp.zeros_like(state.episode_cost),
        resets=state.resets + running,
    )


def unroll(
    env: Env, act: Act, state: RolloutState, key: jax.Array, num_steps: int, *, record: Record = transition_only
) -> tuple[RolloutState, Any, EpisodeSums]:
    """Take `num_steps` steps in every environment, resetting those whose episode ends.

    The compiler removes outputs that a caller does not use.

    Args:
        env: the CMDP.
        act: chooses actions for a batch of observations.
        state: from `init`, or an earlier call.
        key: typed PRNG key, for the policy.
        num_steps: T, static, at least 1.
        record: selects what to keep of each step.

    Returns:
        The state after the last step, the records `[T, N]`, and the sums over the episodes `[T, N]`.
    """
    if num_steps < 1:
        raise ValueError(f"num_steps must be at least 1, got {num_steps}")

    def step(carry: RolloutState, step_key: jax.Array) -> tuple[RolloutState, tuple[Any, EpisodeSums]]:
        action, extras = act(carry.env.obs, step_key)
        after = jax.vmap(env.step)(carry.env, action)
        check_step(env.spec, carry.env, after)
        lengths = carry.steps + 1
        terminated = after.terminated
        truncated = (lengths >= env.spec.episode_length) & ~terminated
        done = terminated | truncated
        returns = carry.episode_return + after.original_reward.astype(jnp.float32)
        cost = carry.episode_cost + after.cost.astype(jnp.float32)
        transition = Transition(
            obs=carry.env.obs,
            action=action,
            reward=after.reward,
            cost=after.cost,
            terminated=terminated,
            truncated=truncated,
            next_obs=after.obs,
            extras=extras,
        )
        carry = dataclasses.replace(
            carry,
            env=_renew(env, done, carry, after),
            steps=jnp.where(done, 0, lengths),
            episode_return=jnp.where(done, 0.0, returns),
            episode_cost=jnp.where(done[:, None], 0.0, cost),
            resets=carry.resets + done,
        )
        return carry, (record(transition, after), EpisodeSums(done, returns, cost, lengths))

    state, (records, sums) = jax.lax.scan(step, state, jax.random.split(key, num_steps))
    return dataclasses.replace(state, window=episode_stats.remember(state.window, sums)), records, sums


# --- resets -----------------------------------------------------------------------------------------------------


def _renew(env: Env, done: jax.Array, rollout: RolloutState, after: State) -> State:
    """Reset the finished environments, and hand over what outlives an episode (`Env.carry_over`, optional)."""
    fresh = reset_where(env, done, _reset_seeds(rollout), after)
    carry_over = getattr(env, "carry_over", None)
    return fresh if carry_over is None else jax.vmap(carry_over)(done, after, fresh)


def _reset_seeds(state: RolloutState) -> tuple[jax.Array, jax.Array]:
    """Identifiers of the next start state of each environment; turned into keys only where one is drawn."""
    return jax.random.key_data(state.reset_keys), state.resets


def reset_where(env: Env, done: jax.Array, seeds: tuple[jax.Array, jax.Array], state: State) -> State:
    """Replace the states of finished environments by fresh resets, at no cost while none is finished.

    Under any number of `vmap`s this stays one true conditional over the flattened batch.

    Args:
        env: the CMDP.
        done: `[N]` bool.
        seeds: key data `[N, ...]` and number `[N]` of the start state to draw for each environment.
        state: states, leading axis `[N]`.

    Returns:
        States, leading axis `[N]`.
    """
    packed, unpack = _pack_keys(state)

    @jax.custom_batching.custom_vmap
    def reset(done: jax.Array, seeds: tuple[jax.Array, jax.Array], packed: Any) -> Any:
        return jax.lax.cond(jnp.any(done), lambda p: _reset_in_chunks(env, done, seeds, p), lambda p: p, packed)

    @reset.def_vmap
    def _flatten_batch(axis_size: int, in_batched: Any, *args: Any) -> tuple[Any, Any]:
        args = jax.tree.map(
            lambda x, batched: x if batched else jnp.broadcast_to(x, (axis_size, *x.shape)), args, tuple(in_batched)
        )
        flat = jax.tree.map(lambda x: x.reshape(axis_size * x.shape[1], *x.shape[2:]), args)
        out = jax.tree.map(lambda x: x.reshape(axis_size, x.shape[0] // axis_size, *x.shape[1:]), reset(*flat))
        return out, jax.tree.map(lambda _: True, out)

    return unpack(reset(done, seeds, packed))


def _reset_in_chunks(env: Env, done: jax.Array, seeds: tuple[jax.Array, jax.Array], packed: Any) -> Any:
    """Reset the environments that are done, `ceil(N / RESET_CHUNKS)` at a time, until none is left."""
    chunk = -(-done.shape[0] // RESET_CHUNKS)

    def fresh(key_data: jax.Array, number: jax.Array) -> Any:
        key = jax.random.fold_in(jax.random.wrap_key_data(key_data), number)
        return _pack_keys(env.reset(key))[0]

    def reset_some(carry: tuple[jax.Array, Any]) -> tuple[jax.Array, Any]:
        pending, states = carry
        index = jnp.argsort(~pending, stable=True)[:chunk]
        active = pending[index]
        # Places in the chunk that nobody needs repeat the first one: a sampler that rejects takes as long as its
        # slowest entry, and no longer for these.
        drawn = jnp.where(active, index, index[0])
        start = jax.vmap(fresh)(*(s[drawn] for s in seeds))

        def place(old: jax.Array, new: jax.Array) -> jax.Array:
            mask = active.reshape(-1, *(1,) * (new.ndim - 1))
            return old.at[index].set(jnp.where(mask, new.astype(old.dtype), old[index]), unique_indices=True)

        return pending.at[index].set(False, unique_indices=True), jax.tree.map(place, states, start)

    return jax.lax.while_loop(lambda c: jnp.any(c[0]), reset_some, (done, packed))[1]


def _pack_keys(tree: Any) -> tuple[Any, Callable[[Any], Any]]:
    """Replace typed keys by their raw data, which `custom_vmap` and scatters accept, and return the inverse."""

    def is_key(x: jax.Array) -> bool:
        return jnp.issubdtype(x.dtype, jax.dtypes.prng_key)

    implementations = jax.tree.map(lambda x: jax.random.key_impl(x) if is_key(x) else "", tree)

    def unpack(packed: Any) -> Any:
        return jax.tree.map(lambda x, i: x if i == "" else jax.random.wrap_key_data(x, impl=i), packed, implementations)

    return jax.tree.map(lambda x: jax.random.key_data(x) if is_key(x) else x, tree), unpack

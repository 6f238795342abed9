"""Rewritten decision processes: a small training, recorded random actions, and Saute's budget by a plain loop."""

import dataclasses
import types

import jax
import numpy as np

from jsafe import rollout

TINY = {"num_envs": 4, "steps_per_iteration": 80, "minibatch_size": 20, "passes": 2, "hidden_sizes": (8, 8)}


def record(env, num_steps, num_envs=3, write=None):
    """Random actions in `num_envs` environments; every leaf is `[T, N, ...]`, the one cost `[T, N]`."""
    spec = env.spec

    def act(obs, key):
        if spec.num_actions:
            return jax.random.randint(key, obs.shape[:1], 0, spec.num_actions), obs
        return jax.random.uniform(key, (obs.shape[0], spec.action_size), minval=-1.0, maxval=1.0), obs

    @jax.jit
    def run():
        state = rollout.init(env, jax.random.key(0), num_envs)
        if write:
            state = dataclasses.replace(state, env=write(state.env))
        return rollout.unroll(env, act, state, jax.random.key(1), num_steps)

    state, transitions, sums = run()
    fields = {f.name: getattr(transitions, f.name) for f in dataclasses.fields(transitions)}
    fields |= {"done": sums.done, "cost": transitions.cost[..., 0], "episode_cost": sums.cost[..., 0]}
    fields |= {"episode_return": sums.returns, "episode_length": sums.lengths}
    return state, types.SimpleNamespace(**jax.tree.map(np.asarray, fields))


def plain_saute(t, budget, discount, steps, start=1.0):
    """The recursion of the paper over recorded costs: z before and after each step."""
    unit = budget if discount == 1 else budget * (1 - discount**steps) / (1 - discount) / steps
    before, after = np.zeros_like(t.cost, float), np.zeros_like(t.cost, float)
    for n in range(t.cost.shape[1]):
        z = start
        for i in range(len(t.cost)):
            before[i, n] = z
            z = (z - t.cost[i, n] / unit) / discount
            after[i, n] = z
            if t.done[i, n]:
                z = start
    return before, after

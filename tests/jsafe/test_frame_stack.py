"""A window shows the last observations of the present episode, and nothing else of the environment changes."""

from __future__ import annotations

import collections
import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jsafe import Spec, State, rollout, running_statistics
from jsafe.frame_stack import History, pack, unpack
from tests.support.toy_envs import Counter, Lever, PointMass


@dataclasses.dataclass(frozen=True)
class Aged(PointMass):
    """`PointMass` whose last entry, the age, is not to be normalised; episodes end at different times."""

    episode_length: int = 6
    terminates: bool = True

    @property
    def spec(self) -> Spec:
        return dataclasses.replace(super().spec, fixed_scale=1)


@dataclasses.dataclass(frozen=True)
class Purse(Counter):
    """Observe the sum spent in this episode and in earlier ones."""

    def carry_over(self, done: jax.Array, after: State, fresh: State) -> State:
        spent = jnp.where(done, 100.0 + after.obs, fresh.obs)
        return fresh.replace(obs=spent)


def act(obs: jax.Array, key: jax.Array) -> tuple[jax.Array, None]:
    """Actions that do not depend on what is seen."""
    return jax.random.uniform(key, (obs.shape[0], 2), minval=-1.0, maxval=1.0), None


@pytest.mark.parametrize("env, length", [(Aged(), 4), (PointMass(episode_length=7, terminates=True), 3), (Aged(), 1)])
def test_windows_in_a_rollout_are_those_of_a_queue_emptied_at_each_reset(env, length):
    envs, steps = 3, 25
    seen = []
    for each in (env, History(env, length)):
        state = rollout.init(each, jax.random.key(1), envs)
        unroll = functools.partial(rollout.unroll, record=lambda t, after: (t, after.metrics))
        seen.append(jax.jit(lambda s, e=each, u=unroll: u(e, act, s, jax.random.key(2), steps))(state)[1:])
    ((plain, _), _), ((windows, _), _) = seen
    fixed = env.spec.fixed_scale
    assert plain.terminated.any() and plain.truncated.any()

    def expected(queue: collections.deque) -> np.ndarray:
        rows = np.zeros((length, plain.obs.shape[-1]), np.float32)
        rows[length - len(queue) :] = queue
        flags = (np.arange(length) >= length - len(queue)).astype(np.float32)
        cut = rows.shape[1] - fixed
        return np.concatenate([rows[:, :cut].ravel(), rows[:, cut:].ravel(), flags])

    for n in range(envs):
        queue: collections.deque = collections.deque(maxlen=length)
        for t in range(steps):
            queue.append(np.asarray(plain.obs[t, n]))
            np.testing.assert_array_equal(windows.obs[t, n], expected(queue))
            later = collections.deque(queue, maxlen=length)
            later.append(np.asarray(plain.next_obs[t, n]))
            np.testing.assert_array_equal(windows.next_obs[t, n], expected(later))
            if plain.done[t, n]:
                queue.clear()
    unseen = [dataclasses.replace(t, obs=(), next_obs=()) for t in (plain, windows)]
    for same in (unseen, [(metrics, sums) for (_, metrics), sums in seen]):
        for a, b in zip(*(jax.tree.leaves(x) for x in same), strict=True):
            np.testing.assert_array_equal(a, b)


def test_specification_counts_steps_and_flags_and_passes_on_the_rest():
    env = History(Aged(), 4)
    spec = env.spec
    assert spec.observation_size == 4 * 6 == env.reset(jax.random.key(0)).obs.shape[0]
    assert sum(size for _, size in spec.observation_layout) == spec.observation_size
    assert spec.fixed_scale == 4 * 1 + 4
    assert (spec.id, spec.cost_names, spec.action_low) == ("ToyPointMass-v0", ("hazard",), (-1.0, -1.0))
    assert History(Lever(), 2).spec.num_actions == 3
    assert History(Aged(), 4) == env and hash(History(Aged(), 4)) == hash(env)
    with pytest.raises(ValueError, match="history must be at least 1, got 0"):
        History(Aged(), 0)


def test_what_outlives_an_episode_is_seen_in_the_window():
    env = History(Purse(episode_length=3), 2)
    state = rollout.init(env, jax.random.key(0), 1)
    _, result, _ = rollout.unroll(env, act, state, jax.random.key(0), 5)
    steps, flags = unpack(result.obs[:, 0], 2, 0)
    np.testing.assert_array_equal(steps[..., 0], [[0, 0], [0, 1], [1, 2], [0, 103], [103, 1]])
    np.testing.assert_array_equal(flags, [[0, 1], [1, 1], [1, 1], [0, 1], [1, 1]])


@pytest.mark.parametrize("fixed_scale", [0, 2, 5])
def test_unpacking_undoes_packing(fixed_scale):
    key = jax.random.key(0)
    steps, flags = jax.random.normal(key, (2, 3, 4, 5)), jax.random.uniform(key, (2, 3, 4))
    back = unpack(pack(steps, flags, fixed_scale), 4, fixed_scale)
    np.testing.assert_array_equal(back[0], steps)
    np.testing.assert_array_equal(back[1], flags)


def test_normalisation_leaves_flags_and_fixed_entries_alone():
    env = History(Aged(), 3)
    state = rollout.init(env, jax.random.key(0), 8)
    _, result, _ = rollout.unroll(env, act, state, jax.random.key(1), 30)
    stats = running_statistics.update(
        running_statistics.init(env.spec.observation_size - env.spec.fixed_scale), result.obs
    )
    raw, scaled = (unpack(x, 3, 1) for x in (result.obs, running_statistics.apply(stats, result.obs)))
    np.testing.assert_array_equal(raw[1], scaled[1])
    np.testing.assert_array_equal(raw[0][..., -1], scaled[0][..., -1])
    assert float(jnp.std(scaled[0][..., 0])) == pytest.approx(1.0, rel=0.01)

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
from jsafe.frame_stack import FrameStack, frame_space, window_length
from jsafe.spaces import Box, Dict, Discrete, contains, flat_box, sample
from tests.support.toy_envs import Counter, Lever, PointMass


@dataclasses.dataclass(frozen=True)
class Aged(PointMass):
    """`PointMass` whose last entry, the age, is not to be normalised; episodes end at different times."""

    episode_length: int = 6
    terminates: bool = True

    @property
    def spec(self) -> Spec:
        observation = flat_box({"position": 2, "goal": 2, "age": 1}, raw=("age",))
        return dataclasses.replace(super().spec, observation=observation)


@dataclasses.dataclass(frozen=True)
class Purse(Counter):
    """The observation is the sum spent, in this episode and those before."""

    def carry_over(self, done: jax.Array, after: State, fresh: State) -> State:
        spent = jnp.where(done, 100.0 + after.obs, fresh.obs)
        return fresh.replace(obs=spent)


def act(obs: jax.Array, key: jax.Array) -> tuple[jax.Array, None]:
    """Actions that do not depend on what is seen."""
    return jax.random.uniform(key, (jax.tree.leaves(obs)[0].shape[0], 2), minval=-1.0, maxval=1.0), None


@pytest.mark.parametrize("env, length", [(Aged(), 4), (PointMass(episode_length=7, terminates=True), 3), (Aged(), 1)])
def test_windows_in_a_rollout_are_those_of_a_queue_emptied_at_each_reset(env, length):
    envs, steps = 3, 25
    seen = []
    for each in (env, FrameStack(env, length)):
        state = rollout.init(each, jax.random.key(1), envs)
        unroll = functools.partial(rollout.unroll, record=lambda t, after: (t, after.metrics))
        seen.append(jax.jit(lambda s, e=each, u=unroll: u(e, act, s, jax.random.key(2), steps))(state)[1:])
    ((plain, _), _), ((windows, _), _) = seen
    assert plain.terminated.any() and plain.truncated.any()

    def check(window: dict, t: int, n: int, queue: collections.deque) -> None:
        rows = np.zeros((length, plain.obs.shape[-1]), np.float32)
        rows[length - len(queue) :] = queue
        flags = (np.arange(length) >= length - len(queue)).astype(np.float32)
        np.testing.assert_array_equal(window["frames"][t, n], rows)
        np.testing.assert_array_equal(window["in_episode"][t, n], flags)

    for n in range(envs):
        queue: collections.deque = collections.deque(maxlen=length)
        for t in range(steps):
            queue.append(np.asarray(plain.obs[t, n]))
            check(windows.obs, t, n, queue)
            later = collections.deque(queue, maxlen=length)
            later.append(np.asarray(plain.next_obs[t, n]))
            check(windows.next_obs, t, n, later)
            if plain.done[t, n]:
                queue.clear()
    unseen = [dataclasses.replace(t, obs=(), next_obs=()) for t in (plain, windows)]
    for same in (unseen, [(metrics, sums) for (_, metrics), sums in seen]):
        for a, b in zip(*(jax.tree.leaves(x) for x in same), strict=True):
            np.testing.assert_array_equal(a, b)


def test_specification_stacks_the_observation_and_passes_on_the_rest():
    env = FrameStack(Aged(), 4)
    spec = env.spec
    frames = Box((4, 5), normalize=(True,) * 4 + (False,))
    assert spec.observation == Dict(frames=frames, in_episode=Box(4, low=0.0, high=1.0, normalize=False))
    assert contains(spec.observation, env.reset(jax.random.key(0)).obs)
    assert (window_length(spec.observation), window_length(Aged().spec.observation)) == (4, 1)
    assert frame_space(spec.observation) == Box(5, normalize=(True,) * 4 + (False,))
    assert (spec.id, spec.cost_names, spec.action_low) == ("ToyPointMass-v0", ("hazard",), (-1.0, -1.0))
    assert FrameStack(Lever(), 2).spec.num_actions == 3
    assert FrameStack(Aged(), 4) == env and hash(FrameStack(Aged(), 4)) == hash(env)
    with pytest.raises(ValueError, match="frame stack must be at least 1, got 0"):
        FrameStack(Aged(), 0)


def test_what_outlives_an_episode_is_seen_in_the_window():
    env = FrameStack(Purse(episode_length=3), 2)
    state = rollout.init(env, jax.random.key(0), 1)
    _, transitions, _ = rollout.unroll(env, act, state, jax.random.key(0), 5)
    steps, flags = transitions.obs["frames"][:, 0], transitions.obs["in_episode"][:, 0]
    np.testing.assert_array_equal(steps[..., 0], [[0, 0], [0, 1], [1, 2], [0, 103], [103, 1]])
    np.testing.assert_array_equal(flags, [[0, 1], [1, 1], [1, 1], [0, 1], [1, 1]])


def test_normalisation_leaves_flags_and_fixed_entries_alone():
    env = FrameStack(Aged(), 3)
    state = rollout.init(env, jax.random.key(0), 8)
    _, transitions, _ = rollout.unroll(env, act, state, jax.random.key(1), 30)
    stats = running_statistics.update(running_statistics.init(env.spec.observation), transitions.obs)
    assert stats.mean["frames"].shape == (3, 4) and set(stats.mean) == {"frames"}
    scaled = running_statistics.apply(stats, transitions.obs)
    np.testing.assert_array_equal(scaled["in_episode"], transitions.obs["in_episode"])
    np.testing.assert_array_equal(scaled["frames"][..., -1], transitions.obs["frames"][..., -1])
    assert float(jnp.std(scaled["frames"][..., 0, 0])) == pytest.approx(1.0, rel=0.01)


@dataclasses.dataclass(frozen=True)
class Album:
    """Observations are samples of a tree of spaces."""

    @property
    def spec(self) -> Spec:
        image = Box((4, 4, 1), "uint8", normalize=False)
        observation = {"image": image, "robot": {"speed": Box(()), "gear": Discrete(5)}}
        return Spec(
            id="ToyAlbum-v0",
            observation=Dict(observation),
            action=Box(2, low=-1.0, high=1.0),
            cost_names=(),
            episode_length=3,
            control_dt=0.1,
        )

    def reset(self, key: jax.Array) -> State:
        zero = jnp.zeros(())
        return State(key, sample(self.spec.observation, key), zero, jnp.zeros(0), jnp.zeros((), bool), {}, {})

    def step(self, state: State, action: jax.Array) -> State:
        return self.reset(jax.random.split(state.data)[0])


def test_every_leaf_of_a_tree_is_stacked_in_its_own_type():
    env = FrameStack(Album(), 3)
    assert env.spec.observation["frames"] == Dict(
        image=Box((3, 4, 4, 1), "uint8", normalize=False), robot={"speed": Box(3), "gear": Discrete(5, shape=(3,))}
    )
    states = [env.reset(jax.random.key(0))]
    for _ in range(4):
        states.append(env.step(states[-1], jnp.zeros(2)))
    for t, state in enumerate(states):
        assert contains(env.spec.observation, state.obs)
        for age in range(3):
            frame = jax.tree.map(lambda leaf, age=age: np.asarray(leaf[2 - age]), state.obs["frames"])
            shown = states[t - age].data.obs if age <= t else jax.tree.map(np.zeros_like, frame)
            jax.tree.map(np.testing.assert_array_equal, frame, shown)
        np.testing.assert_array_equal(state.obs["in_episode"], [t >= 2, t >= 1, True])

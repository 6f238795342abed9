"""Time limits, resets and episode sums, seen from outside the loop."""

import collections
import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jsafe import episode_stats, rollout
from tests.support.toy_envs import Counter, PointMass


def still(obs, key):
    del key
    return jnp.zeros((obs.shape[0], 2)), ()


start = jax.jit(rollout.init, static_argnums=(0, 2), static_argnames="window")
restart = jax.jit(rollout.restart, static_argnums=0)
unroll = jax.jit(rollout.unroll, static_argnums=(0, 1, 4))


def random_walk(obs, key):
    return jax.random.normal(key, (obs.shape[0], 2)), ()


def no_op(obs, key):
    del key
    return jnp.zeros((obs.shape[0], 1)), ()


def test_time_limit_truncates_and_does_not_terminate():
    env = Counter(episode_length=5)
    state = start(env, jax.random.key(0), 3)
    _, t, sums = unroll(env, no_op, state, jax.random.key(1), 12)
    steps = np.arange(1, 13)
    assert not t.terminated.any()
    np.testing.assert_array_equal(t.truncated, np.tile((steps % 5 == 0)[:, None], (1, 3)))
    np.testing.assert_array_equal(sums.lengths[:, 0], (steps - 1) % 5 + 1)


def test_termination_wins_over_a_time_limit_at_the_same_step():
    env = Counter(episode_length=5, end=5)
    _, t, _ = unroll(env, no_op, start(env, jax.random.key(0), 1), jax.random.key(1), 5)
    assert t.terminated[-1, 0] and not t.truncated[-1, 0]


def test_observation_before_the_reset_is_kept():
    env = Counter(episode_length=4)
    _, t, _ = unroll(env, no_op, start(env, jax.random.key(0), 1), jax.random.key(1), 8)
    np.testing.assert_array_equal(t.obs[:, 0, 0], [0, 1, 2, 3, 0, 1, 2, 3])
    np.testing.assert_array_equal(t.next_obs[:, 0, 0], [1, 2, 3, 4, 1, 2, 3, 4])


def test_layouts_are_fresh_after_every_reset_and_differ_between_environments():
    env = PointMass(episode_length=3)
    _, t, _ = unroll(env, still, start(env, jax.random.key(0), 4), jax.random.key(1), 30)
    goals = np.asarray(t.obs[::3, :, 2:4]).reshape(-1, 2)
    assert len(np.unique(goals.round(6), axis=0)) == len(goals) == 40


def test_only_finished_environments_are_reset():
    env = PointMass(episode_length=50, terminates=True)
    state, t, _ = unroll(env, random_walk, start(env, jax.random.key(3), 16), jax.random.key(1), 40)
    goals, done = np.asarray(t.obs[:, :, 2:4]), np.asarray(t.done)
    changed = (goals[1:] != goals[:-1]).any(-1)
    np.testing.assert_array_equal(changed, done[:-1])
    assert 0 < done.sum() < done.size
    np.testing.assert_array_equal(state.resets, 1 + done.sum(0))


def test_episode_sums_equal_a_plain_loop():
    env = PointMass(episode_length=7, terminates=True)
    state, t, sums = unroll(env, random_walk, start(env, jax.random.key(0), 5), jax.random.key(1), 60)
    finished = []
    totals = np.zeros((5, 3))
    for step in range(60):
        for i in range(5):
            totals[i] += [t.reward[step, i], t.cost[step, i, 0], 1]
            if t.done[step, i]:
                finished.append(totals[i].copy())
                totals[i] = 0
    finished = np.array(finished)
    means = episode_stats.means(state.window, sums)
    window = finished[-100:]
    assert int(means["episodes"]) == len(finished) == int(state.window.count) <= 100
    np.testing.assert_allclose(
        np.stack([means["return"], means["cost"][0], means["length"]]), window.mean(0), rtol=1e-5
    )
    np.testing.assert_allclose(state.episode_return, totals[:, 0], atol=1e-5)


def test_window_holds_the_last_episodes_only():
    env = Counter(episode_length=5)
    state = start(env, jax.random.key(0), 3, window=4)
    for _ in range(3):
        state, t, sums = unroll(env, no_op, state, jax.random.key(1), 5)
    assert int(state.window.count) == 9
    np.testing.assert_array_equal(state.window.cost[:, 0], [5, 5, 5, 5])
    state, t, sums = unroll(Counter(episode_length=2), no_op, state, jax.random.key(1), 2)
    np.testing.assert_array_equal(np.sort(state.window.cost[:, 0]), [2, 2, 2, 5])
    assert float(episode_stats.means(state.window, sums)["cost"][0]) == pytest.approx((2 * 3 + 5) / 4)


def test_mean_covers_the_whole_batch_when_it_finished_more_than_the_window_holds():
    env = PointMass(episode_length=3)
    state, t, sums = unroll(env, random_walk, start(env, jax.random.key(0), 8, window=4), jax.random.key(1), 9)
    expected = float((sums.returns * t.done).sum() / t.done.sum())
    assert float(episode_stats.means(state.window, sums)["return"]) == pytest.approx(expected, rel=1e-5)


def test_an_episode_with_a_sum_that_is_not_finite_is_left_out():
    done = jnp.ones((4, 1), bool)
    costs = jnp.array([[1.0], [jnp.nan], [3.0], [jnp.inf]])
    ended = episode_stats.EpisodeSums(done, costs, costs[..., None], costs)
    for size in (2, 10):
        window = episode_stats.remember(episode_stats.empty(size, 1), ended)
        means = episode_stats.means(window, ended)
        assert float(means["cost"][0]) == 2.0 and int(window.count) == 2 and int(means["episodes"]) == 4
        assert np.isfinite(episode_stats.running_mean_costs(episode_stats.empty(size, 1), ended)).all()


def test_means_are_nan_before_the_first_episode_ends():
    env = Counter(episode_length=50)
    state, t, sums = unroll(env, no_op, start(env, jax.random.key(0), 2), jax.random.key(1), 10)
    means = episode_stats.means(state.window, sums)
    assert all(np.isnan(means[k]) for k in ("return", "cost", "length")) and int(means["episodes"]) == 0


def test_restart_gives_every_environment_a_fresh_start():
    env = PointMass(episode_length=10)
    state, _, _ = unroll(env, random_walk, start(env, jax.random.key(0), 4), jax.random.key(1), 3)
    again = restart(env, state)
    assert (again.steps == 0).all() and (again.env.data["age"] == 0).all()
    assert (again.env.data["goal"] != state.env.data["goal"]).all()
    twice = restart(env, again)  # already fresh: nothing to abandon
    np.testing.assert_array_equal(twice.env.obs, again.env.obs)


def test_vmapped_seeds_equal_single_runs():
    env = PointMass(episode_length=6, terminates=True)

    def run(key):
        return unroll(env, random_walk, start(env, key, 3), jax.random.fold_in(key, 1), 20)

    keys = jax.random.split(jax.random.key(7), 3)
    together, _, _ = jax.jit(jax.vmap(run))(keys)
    for i, key in enumerate(keys):
        alone, _, _ = jax.jit(run)(key)
        np.testing.assert_allclose(together.env.obs[i], alone.env.obs, rtol=1e-6, atol=1e-6)
        np.testing.assert_array_equal(together.resets[i], alone.resets)


class Observed(PointMass):
    """Counts how many start states the compiled program really draws."""

    drawn = 0

    def reset(self, key):
        def count(_):
            Observed.drawn += 1
            return np.float32(0)

        state = super().reset(key)
        zero = jax.pure_callback(count, jax.ShapeDtypeStruct((), np.float32), state.obs[0], vmap_method="sequential")
        return state.replace(obs=state.obs + zero)


def test_resets_cost_nothing_while_no_episode_ends_even_under_two_vmaps():
    env = Observed(episode_length=10)

    def run(key):
        state = start(env, key, 16)
        return unroll(env, random_walk, state, key, 9)[0].env.obs, state

    Observed.drawn = 0
    jax.block_until_ready(jax.jit(jax.vmap(run))(jax.random.split(jax.random.key(0), 4)))
    assert Observed.drawn == 4 * 16, "a select instead of a conditional draws start states at every step"


def test_environments_of_all_seeds_are_reset_together_in_small_chunks():
    env = Observed(episode_length=1000)

    def run(key, late):
        state = rollout.init(env, key, 16)
        steps = jnp.where(jnp.arange(16) < 8, late, 0)
        return rollout.unroll(env, random_walk, dataclasses.replace(state, steps=steps), key, 20)[0].env.obs

    Observed.drawn = 0
    late = jnp.array([990, 0, 0, 0])  # eight environments, all of one seed, end at the tenth step
    jax.block_until_ready(jax.jit(jax.vmap(run))(jax.random.split(jax.random.key(0), 4), late))
    # They fill one chunk of 64 / 8 start states; seed by seed it would take four chunks of 16 / 8 in each of four.
    assert Observed.drawn == 64 + 8


def test_bad_sizes_are_refused():
    with pytest.raises(ValueError, match="num_envs must be at least 1, got 0"):
        start(Counter(), jax.random.key(0), 0)
    with pytest.raises(ValueError, match="num_steps must be at least 1, got 0"):
        unroll(Counter(), no_op, start(Counter(), jax.random.key(0), 1), jax.random.key(0), 0)


def test_running_means_are_those_of_a_deque_that_is_read_at_each_end_of_an_episode():
    env = PointMass(terminates=True, episode_length=7)
    state = rollout.init(env, jax.random.key(0), 3, window=4)
    deque: collections.deque = collections.deque(maxlen=4)

    @jax.jit
    def go(state, key):
        after, _, sums = rollout.unroll(env, random_walk, state, key, 15)
        return after, sums, episode_stats.running_mean_costs(state.window, sums)

    for i in range(3):
        state, sums, result = go(state, jax.random.key(i))
        seen = []
        for step, column in zip(*np.nonzero(np.asarray(sums.done)), strict=True):
            deque.append(float(sums.cost[step, column, 0]))
            seen.append(np.mean(deque))
        np.testing.assert_allclose(result, np.mean(seen), rtol=1e-5)


@dataclasses.dataclass(frozen=True)
class Broken(Counter):
    """A counter whose `reset` or `step` replaces one entry of the state."""

    function: str = "reset"
    field: str = "obs"
    value: tuple = ()

    def _broken(self, state, function):
        shape, dtype = self.value
        wrong = function == self.function
        return dataclasses.replace(state, **{self.field: jnp.zeros(shape, dtype)}) if wrong else state

    def reset(self, key):
        return self._broken(super().reset(key), "reset")

    def step(self, state, action):
        return self._broken(super().step(state, action), "step")


def _trace(env):
    """Traces a start and two steps of two environments."""

    def run(key):
        state = rollout.init(env, key, 2)
        return rollout.unroll(env, lambda obs, _: (jnp.zeros((2, env.spec.action_size)), ()), state, key, 2)

    jax.eval_shape(run, jax.random.key(0))


@pytest.mark.parametrize("function", ["reset", "step"])
@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("obs", ((9,), "float32"), "must be of size 1 in the last axis, got shape (9,)"),
        ("obs", ((2, 1), "float32"), "must have no batch axis, got the axes (2,)"),
        ("reward", ((1,), "float32"), "must be of shape () and a floating-point type, got shape (1,) and float32"),
        ("reward", ((), "int32"), "must be of shape () and a floating-point type, got shape () and int32"),
        ("cost", ((), "float32"), "must be of shape (1,) and a floating-point type, got shape () and float32"),
        ("cost", ((2,), "float32"), "must be of shape (1,) and a floating-point type, got shape (2,) and float32"),
        ("terminated", ((), "float32"), "must be of shape () and bool, got shape () and float32"),
    ],
)
def test_states_that_break_the_specification_are_refused_by_leaf(function, field, value, message):
    env = Broken(function=function, field=field, value=value)
    with pytest.raises(ValueError, match=f"^{field} in {function} of .*{re.escape(message)}"):
        _trace(env)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("metrics", "new", "must be in every state, got it from step and not from reset"),
        ("data", "none", "must be in every state, got it from reset and not from step"),
        ("info", "new", "must be in every state, got it from step and not from reset"),
    ],
)
def test_a_step_that_changes_the_form_of_a_state_is_refused(field, value, message):
    class Changed(Counter):
        def step(self, state, action):
            return dataclasses.replace(super().step(state, action), **{field: {"new": 1.0} if value == "new" else None})

    with pytest.raises(ValueError, match=f"state.{field}.* in step of .* {message}"):
        _trace(Changed())


def test_what_is_no_state_is_refused():
    class Plain(Counter):
        def reset(self, key):
            return super().reset(key).obs

    with pytest.raises(TypeError, match="reset of .* must return a jsafe.State, got"):
        _trace(Plain())

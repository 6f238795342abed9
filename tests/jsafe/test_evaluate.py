"""Test episodes are counted exactly: every mode, seed and episode apart, and nothing after an episode's end."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jsafe import spaces
from jsafe.cmdp import Spec, State
from jsafe.evaluate import EpisodeTotals, PolicySet, run_episodes, summarize


@dataclasses.dataclass(frozen=True)
class Countdown:
    """Reward 1 and cost `|action|` each step; the key decides after how many steps the task ends, if it does."""

    longest: int = 25
    poison: bool = False

    @property
    def spec(self) -> Spec:
        return Spec(
            id="Countdown-v0",
            observation=spaces.flat_box({"left": 1}),
            action=spaces.Box(1, low=-1.0, high=1.0),
            cost_names=("effort",),
            episode_length=20,
            control_dt=0.1,
        )

    def reset(self, key: jax.Array) -> State:
        return self._state(jax.random.randint(key, (), 1, self.longest), jnp.float32(0), jnp.float32(0))

    def step(self, state: State, action: jax.Array) -> State:
        left = state.data - 1
        # Whatever comes after the end is nonsense and must not be counted.
        reward = jnp.where(left < 0, jnp.nan, jnp.where(self.poison & (left == 3), jnp.nan, 1.0))
        return self._state(left, reward.astype(jnp.float32), jnp.abs(action[0]))

    def _state(self, left: jax.Array, reward: jax.Array, cost: jax.Array) -> State:
        return State(
            data=left,
            obs=left.astype(jnp.float32)[None],
            reward=reward,
            cost=cost[None],
            terminated=left <= 0,
            metrics={},
            info={},
        )


def act(params: jax.Array, obs: jax.Array, key: jax.Array, explore: jax.Array) -> jax.Array:
    """The mean action is the parameter itself; a sample is always off by exactly 10."""
    return jnp.broadcast_to(params + 10.0 * explore, (*obs.shape[:-1], 1))


POLICIES = PolicySet(params=jnp.array([0.5, 2.0]), act=act, seeds=[3, 7])
MODES = ("deterministic", "stochastic")


@pytest.fixture(scope="module")
def result() -> EpisodeTotals:
    return run_episodes(Countdown(), POLICIES, jax.random.key(0), 64, MODES)[0]


def test_episodes_end_at_their_termination_or_the_time_limit(result: EpisodeTotals):
    reset_key, _ = jax.random.split(jax.random.key(0))
    ends = np.asarray(jax.vmap(Countdown().reset)(jax.random.split(reset_key, 64)).data)
    assert ends.max() > 20 > ends.min()
    assert np.array_equal(result.lengths, np.broadcast_to(np.minimum(ends, 20), (2, 2, 64)))


def test_return_and_cost_are_sums_over_the_episode_of_each_seed_and_mode(result: EpisodeTotals):
    assert np.array_equal(result.returns, result.lengths)
    each_step = np.array([[0.5, 2.0], [10.5, 12.0]])[:, :, None]
    assert np.allclose(result.costs, each_step * result.lengths)


def test_an_episode_that_is_not_finite_is_marked_and_left_out_of_the_means():
    result, _ = run_episodes(Countdown(poison=True), POLICIES, jax.random.key(0), 64, MODES[:1])
    lengths = result.lengths[0, 0]
    assert not result.finite.all() and result.finite.any()
    numbers = summarize(EpisodeTotals(*(leaf[0] for leaf in result)), [3, 7])
    assert numbers["seeds"][0]["episodes"] == result.finite[0, 0].sum() < 64
    assert numbers["seeds"][0]["length"] == pytest.approx(lengths[result.finite[0, 0]].mean())


def test_overall_is_the_mean_of_the_seeds_with_an_interval_over_seeds(result: EpisodeTotals):
    numbers = summarize(EpisodeTotals(*(leaf[0] for leaf in result)), [3, 7])
    assert [row["seed"] for row in numbers["seeds"]] == [3, 7]
    costs = [row["cost"] for row in numbers["seeds"]]
    assert numbers["overall"]["cost"] == pytest.approx(np.mean(costs))
    low, high = numbers["overall"]["cost_interval"]
    # Student's t with one degree of freedom: 12.706 standard errors; of two values that is half their distance.
    assert high - low == pytest.approx(2 * 12.7062 * abs(costs[0] - costs[1]) / 2, rel=1e-4)

"""Episodes end when their cost exceeds the limit, against a plain loop."""

import numpy as np
import pytest

from algorithms.transforms.early_termination import EarlyTerminated
from tests.support.toy_envs import Counter, PointMass
from tests.support.transformed_envs import record


def plain_early_termination(t, limit, keep_counting):
    """A plain loop over recorded costs: spent after each step, ends, and spent at each observation."""
    spent, over, before = np.zeros_like(t.cost), np.zeros(t.cost.shape, bool), np.zeros_like(t.cost)
    for n in range(t.cost.shape[1]):
        total = 0.0
        for i in range(len(t.cost)):
            before[i, n] = total
            total += t.cost[i, n]
            spent[i, n], over[i, n] = total, total > limit
            if over[i, n] or (t.done[i, n] and not keep_counting):
                total = 0.0
    return spent, over, before


@pytest.mark.parametrize(("limit", "keep_counting"), [(0.0, False), (2.0, True), (3.5, False)])
def test_episode_ends_exactly_when_its_cost_exceeds_the_limit(limit, keep_counting):
    env = EarlyTerminated(PointMass(episode_length=7, hazard_radius=0.8), limit, keep_counting=keep_counting)
    _, t = record(env, 60)
    spent, over, before = plain_early_termination(t, limit, keep_counting)
    assert over.any() and t.truncated.any()
    np.testing.assert_array_equal(t.terminated, over)
    np.testing.assert_array_equal(t.truncated, (t.episode_length == 7) & ~over)
    assert (t.reward[over] == 0).all() and (t.reward[~over] != 0).all()
    np.testing.assert_allclose(t.obs[..., -1], np.maximum(0, 1 - before / max(limit, 1e-6)), atol=1e-6)
    np.testing.assert_allclose(t.next_obs[..., -1], np.maximum(0, 1 - spent / max(limit, 1e-6)), atol=1e-6)
    # Costs carried over end episodes that have themselves cost less.
    assert (t.episode_cost[over] <= limit).any() == (keep_counting and limit > 0)


def test_a_cost_equal_to_the_limit_is_allowed():
    _, t = record(EarlyTerminated(Counter(episode_length=9), 4.0), 9)  # one unit per step
    assert t.terminated[:, 0].tolist() == [False] * 4 + [True] + [False] * 4
    assert t.reward[:, 0].tolist() == [1, 1, 1, 1, 0, 1, 1, 1, 1]


def test_an_end_of_the_task_itself_is_still_one():
    _, t = record(EarlyTerminated(Counter(episode_length=9, end=3), 100.0), 9)
    assert t.terminated[:, 0].tolist() == [False, False, True] * 3 and (t.reward == 1).all()

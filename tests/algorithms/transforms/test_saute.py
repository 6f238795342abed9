"""Saute's budget and reward against the recursion of the paper, and which return is reported."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import algorithms
import jsafe
from algorithms.transforms.early_termination import EarlyTerminated
from algorithms.transforms.saute import Sauted
from jsafe.evaluate import PolicySet, run_episodes
from tests.support.toy_envs import Counter, PointMass
from tests.support.transformed_envs import TINY, plain_saute, record


@pytest.mark.parametrize(("discount", "terminates"), [(1.0, False), (0.999, True), (0.9, True)])
def test_budget_and_reward_follow_the_recursion_of_the_paper(discount, terminates):
    inner = PointMass(episode_length=8, hazard_radius=0.7, terminates=terminates)
    _, t = record(Sauted(inner, 2.5, -3.0, discount), 60)
    before, after = plain_saute(t, 2.5, discount, 8)
    np.testing.assert_allclose(t.obs[..., -1], before, atol=1e-5)
    np.testing.assert_allclose(t.next_obs[..., -1], after, atol=1e-5)
    np.testing.assert_array_equal(t.reward == -3.0, after <= 0)
    assert (after <= 0).any() and (after > 0).any() and t.truncated.any() and t.terminated.any() == terminates
    np.testing.assert_array_equal(t.obs[1:, :, -1][t.done[:-1]], 1.0)  # nothing leaks into the next episode


def test_spending_evenly_uses_up_a_discounted_budget_at_the_time_limit():
    _, t = record(Sauted(Counter(episode_length=10), 10.0, saute_discount=0.9), 10)
    assert (t.next_obs[:-1, 0, -1] > 0).all()
    np.testing.assert_allclose(t.next_obs[-1, 0, -1], 0.0, atol=1e-5)


def test_a_whole_budget_is_used_up_by_exactly_its_amount():
    _, t = record(Sauted(Counter(episode_length=30), 25.0, -1.0, 1.0), 30)
    assert t.reward[:, 0].tolist() == [1.0] * 24 + [-1.0] * 6


def test_the_original_return_is_reported_and_the_rewritten_reward_is_learned_from():
    _, t = record(Sauted(Counter(episode_length=6), 2.5, -1.0, 1.0), 6)
    assert t.reward[:, 0].tolist() == [1.0, 1.0, -1.0, -1.0, -1.0, -1.0]
    assert t.episode_return[:, 0].tolist() == [1, 2, 3, 4, 5, 6]
    assert t.episode_cost[:, 0].tolist() == [1, 2, 3, 4, 5, 6]
    trainer = algorithms.make(
        "ppo_saute", Counter(episode_length=5), safety_budget=2.5, unsafe_reward=-40.0, total_steps=80, **TINY
    )
    _, metrics = jax.jit(lambda k: jsafe.run(trainer, k, 1))(jax.random.key(0))
    assert metrics["return"].tolist() == [5.0] and metrics["cost"].tolist() == [5.0]
    assert metrics["multiplier"].tolist() == [0.0]
    assert float(metrics["reward_value_loss"][0]) > 1000.0  # the targets are near -100


def test_a_reset_final_budget_is_seen_at_the_time_limit_and_nowhere_else():
    inner = PointMass(episode_length=8, hazard_radius=0.7, terminates=True)
    _, paper = record(Sauted(inner, 2.5, -3.0), 60)
    _, quirk = record(Sauted(inner, 2.5, -3.0, final_budget_is_reset=True), 60)
    np.testing.assert_array_equal(quirk.reward, paper.reward)
    np.testing.assert_array_equal(quirk.obs, paper.obs)
    cut = paper.episode_length == 8
    np.testing.assert_array_equal(quirk.next_obs[~cut], paper.next_obs[~cut])
    np.testing.assert_array_equal(quirk.next_obs[..., :-1], paper.next_obs[..., :-1])
    assert (quirk.next_obs[cut][:, -1] == 1.0).all() and (paper.next_obs[cut][:, -1] != 1.0).all()
    assert cut.any() and paper.terminated.any()


def test_evaluation_reports_the_original_return_of_the_rewritten_process():
    policies = PolicySet((), lambda params, obs, key, explore: jnp.zeros((*obs.shape[:-1], 1)), [0])
    params = jnp.zeros(1)
    for env, length in [(Sauted(Counter(episode_length=6), 2.5, -1.0), 6), (EarlyTerminated(Counter(), 2.0), 3)]:
        result, _ = run_episodes(env, policies._replace(params=params), jax.random.key(0), 2, ["deterministic"])
        assert result.lengths.tolist() == result.returns.tolist() == result.costs.tolist() == [[[length, length]]]


def test_a_loaded_policy_names_the_environment_that_shows_its_budget(tmp_path):
    trainer = algorithms.make("ppo_saute", Counter(), num_envs=2, steps_per_iteration=40, minibatch_size=20, passes=1)
    jsafe.fit(trainer, iterations=1, run_dir=tmp_path, sinks=(), progress=False)
    loaded = jsafe.load_policy(tmp_path)
    with pytest.raises(ValueError, match=r"got shape \(1,\)\. .*algorithms\.rewrite\('ppo_saute', env, config\)"):
        loaded(np.zeros(1))
    config = json.loads((tmp_path / "run.json").read_text())["trainer"]["config"]
    start = algorithms.rewrite("ppo_saute", Counter(), config).reset(jax.random.key(0))
    assert loaded(np.asarray(start.obs)).shape == (1,)

"""Each step from answers to experience against NumPy loops that follow the formulas."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhf.data.encoding import Prompts
from rlhf.generation.generate import Answers
from rlhf.models import LanguageModel, ModelConfig, ScoreModel
from rlhf.reinforcement import experience
from rlhf.reinforcement.experience import Experience, FrozenWeights, ScoredAnswers
from rlhf.reinforcement.judge import Judge, shaped_judge
from rlhf.reinforcement.problem import ReinforcementProblem
from rlhf.reinforcement.reinforcement_config import ReinforcementConfig
from tests.support.random_models import params_of

RNG = np.random.default_rng(0)
ROWS, LENGTH, START = 4, 7, 2
IDS = RNG.integers(3, 9, (ROWS, LENGTH)).astype(np.int32)
MASK = np.array([[0, 1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 0, 0, 0], [0, 0, 1, 1, 1, 1, 0]], bool)
SCORES = RNG.normal(size=(2, ROWS)).astype(np.float32)
RATIO = np.where(MASK[:, 1:], RNG.normal(size=(ROWS, LENGTH - 1)), 0).astype(np.float32)
ANSWERS = ScoredAnswers(*map(jnp.asarray, (IDS, MASK)), START, *map(jnp.asarray, (SCORES, RATIO - 2.0, RATIO)))
CONFIG = ReinforcementConfig(clip_score=0.9, gae_lambda=0.8)


def generalised_advantages(values, rewards, mask):
    """Backward recursion of Schulman et al. 2016 with discount 1, over the generated columns of one answer."""
    advantages, later, next_value = np.zeros(len(values)), 0.0, 0.0
    for t in reversed(range(len(values))):
        value, reward = values[t] * mask[t], rewards[t] * mask[t]
        later = reward + next_value - value + 0.8 * later
        advantages[t], next_value = later, value
    return advantages


def test_critics_give_generalised_advantages_of_penalised_rewards():
    values = RNG.normal(size=(2, ROWS, LENGTH - 1)).astype(np.float32)
    estimates = experience.critic_advantages(ANSWERS, list(jnp.asarray(values)), 0.3, CONFIG)
    for kind, sign in ((0, 1.0), (1, -1.0)):
        for row in range(ROWS):
            mask = MASK[row, 1:]
            rewards = -sign * 0.3 * RATIO[row].astype(float)
            rewards[np.flatnonzero(mask)[-1]] += SCORES[kind, row]
            rewards = np.clip(rewards, -0.9, 0.9)
            expected = generalised_advantages(values[kind, row, START:], rewards[START:], mask[START:])
            np.testing.assert_allclose(estimates.advantages[kind, row], expected, atol=1e-5)
            returns = expected + np.where(mask, values[kind, row], 0)[START:]
            np.testing.assert_allclose(estimates.returns[kind, row], returns, atol=1e-5)
    np.testing.assert_array_equal(estimates.values, values[:, :, START:])


def test_a_group_gives_each_answer_its_distance_from_the_mean_in_standard_deviations():
    config = ReinforcementConfig(estimator="group", answers_per_prompt=2, clip_score=0.9)
    estimates = experience.group_advantages(ANSWERS, (), 0.3, config)
    bounded = np.clip(SCORES, -0.9, 0.9).reshape(2, 2, 2)
    expected = ((bounded - bounded.mean(-1, keepdims=True)) / bounded.std(-1, keepdims=True)).reshape(2, ROWS)
    answer = MASK[:, 1 + START :]
    np.testing.assert_allclose(estimates.advantages, np.where(answer, expected[..., None], 0.0), atol=1e-5)
    assert not np.any(estimates.returns) and estimates.values.shape == estimates.advantages.shape


def test_the_weight_of_the_divergence_falls_geometrically_over_the_actors_iterations():
    assert experience.kl_coefficient(CONFIG, jnp.int32(3)) == 0.01
    config = ReinforcementConfig(iterations=6, actor_delay=1, kl_coefficient=0.16, last_kl_coefficient=0.01)
    weights = [float(experience.kl_coefficient(config, jnp.int32(i))) for i in range(7)]
    np.testing.assert_allclose(weights, [0.16, 0.16, 0.08, 0.04, 0.02, 0.01, 0.01], rtol=1e-5)


def test_metrics_of_answers():
    ends = [int(IDS[0, -1])]
    metrics = experience.answer_metrics(ANSWERS, ends)
    answer, ratio = MASK[:, 1 + START :], RATIO[:, START:]
    assert float(metrics["return"]) == pytest.approx(SCORES[0].mean(), abs=1e-6)
    assert float(metrics["cost"]) == pytest.approx(SCORES[1].mean(), abs=1e-6)
    assert float(metrics["kl"]) == pytest.approx(np.where(answer, ratio, 0).sum(1).mean(), abs=1e-5)
    assert float(metrics["length"]) == answer.sum(1).mean() and int(metrics["longest"]) == answer.sum(1).max()
    assert float(metrics["cut"]) == 0.0 and int(metrics["episodes"]) == ROWS and "cost_0" not in metrics
    assert float(experience.answer_metrics(ANSWERS, [1])["cut"]) == 1 / ROWS  # only the first answer fills its row
    three = ANSWERS._replace(scores=jnp.concatenate([ANSWERS.scores, ANSWERS.scores[:1]]))
    metrics = experience.answer_metrics(three, ends)
    assert float(metrics["cost_1"]) == float(metrics["return"])
    assert float(experience.answer_metrics(ANSWERS._replace(scores=ANSWERS.scores[:1]), ends)["cost"]) == 0.0


def test_judges_score_with_their_own_parameters():
    judges = [Judge(lambda p, ids, mask: p * jnp.sum(jnp.where(mask, ids, 0), 1).astype(jnp.float32))] * 2
    total = np.where(MASK, IDS, 0).sum(1)
    np.testing.assert_allclose(experience.score_answers(judges, (2.0, -1.0), IDS, MASK), [2 * total, -total])
    shaped = shaped_judge(*judges, weight=0.5)
    np.testing.assert_allclose(shaped.apply((2.0, 3.0), IDS, MASK), 0.5 * total)


def test_a_minibatch_has_the_rows_of_every_array():
    columns = [np.arange(8).reshape(4, 2) + 10 * i for i in range(4)]
    stacked = [np.arange(16).reshape(2, 4, 2) + 100 * i for i in range(3)]
    whole = Experience(*map(jnp.asarray, (*columns, *stacked, np.arange(4).reshape(1, 4))))
    part = whole.minibatch(jnp.array([3, 0]))
    for name in ("ids", "mask", "log_probs", "answer_mask"):
        np.testing.assert_array_equal(getattr(part, name), np.asarray(getattr(whole, name))[[3, 0]])
    for name in ("advantages", "returns", "values", "costs"):
        np.testing.assert_array_equal(getattr(part, name), np.asarray(getattr(whole, name))[:, [3, 0]])


def test_experience_starts_without_divergence_and_reports_watched_scores():
    """Actor and reference have the same weights, so the log-ratio is 0 and rewards are the scores alone."""
    tiny = ModelConfig(
        vocab_size=10, hidden_size=8, intermediate_size=8, num_layers=1, num_heads=2, num_kv_heads=2, head_dim=4
    )
    actor, critic = LanguageModel(tiny), ScoreModel(tiny)
    weights, values = params_of(actor), params_of(critic, 1)
    length = Judge(lambda params, ids, mask: jnp.sum(mask, axis=1).astype(jnp.float32))
    prompts = Prompts(IDS[:, : START + 1], MASK[:, : START + 1])
    problem = ReinforcementProblem(
        actor, weights, prompts, length, (length,), (critic, critic), watched={"return": length}
    )
    frozen = FrozenWeights({}, ((),), ({}, {}), weights, (), {"return": ()})
    params = {"actor": weights, "critics": (values, values)}
    made, metrics = jax.jit(
        lambda params: experience.make_experience(
            problem, CONFIG, frozen, params, Answers(jnp.asarray(IDS), jnp.asarray(MASK), jnp.int32(0)), 0.5
        )
    )(params)
    assert float(metrics["kl"]) == 0.0
    assert float(metrics["shaped"]) == float(metrics["return"]) == MASK.sum(1).mean()
    np.testing.assert_array_equal(made.costs, [MASK.sum(1)])
    assert made.log_probs.shape == made.answer_mask.shape == (ROWS, LENGTH - 1 - START)
    assert made.advantages.shape == made.values.shape == (2, ROWS, LENGTH - 1 - START)
    np.testing.assert_allclose(made.advantages[0], made.advantages[1], atol=1e-6)

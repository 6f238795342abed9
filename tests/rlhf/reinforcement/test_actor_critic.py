"""Losses and update of one minibatch against NumPy, on a tiny model."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rlhf.data.encoding import Prompts, Supervised
from rlhf.losses.language_model import language_model_loss, log_probs
from rlhf.models import LanguageModel, ModelConfig, ScoreModel
from rlhf.reinforcement import actor_critic
from rlhf.reinforcement.actor_critic import Iteration, Learned
from rlhf.reinforcement.experience import Experience, FrozenWeights, critic_values
from rlhf.reinforcement.judge import Judge
from rlhf.reinforcement.policy_trainer import make_learner
from rlhf.reinforcement.problem import ReinforcementProblem
from rlhf.reinforcement.reinforcement_config import ReinforcementConfig
from tests.support.random_models import params_of

TINY = ModelConfig(
    vocab_size=10, hidden_size=8, intermediate_size=8, num_layers=1, num_heads=2, num_kv_heads=2, head_dim=4
)
ACTOR, CRITIC = LanguageModel(TINY), ScoreModel(TINY)
PARAMS, REFERENCE = params_of(ACTOR), params_of(ACTOR, 1)
VALUES = params_of(CRITIC, 2), params_of(CRITIC, 3)
CONFIG = ReinforcementConfig(
    prompts_per_iteration=4, batch_size=2, schedule="constant", actor_learning_rate=0.1, critic_learning_rate=0.2,
    ptx_coefficient=3.0, multiplier_init=0.5, multiplier_learning_rate=0.25, clip_ratio=0.1, clip_value=0.05,
)  # fmt: skip
RNG = np.random.default_rng(0)
IDS = RNG.integers(1, 10, (4, 6)).astype(np.int32)
MASK = np.array([[0, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 0], [1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1]], bool)
START = 2
EXPERIENCE = Experience(
    IDS,
    MASK,
    np.asarray(jax.jit(log_probs, static_argnums=0)(ACTOR, PARAMS, IDS, MASK))[:, START:]
    + np.float32(0.2) * RNG.normal(size=(4, 3)).astype(np.float32),
    MASK[:, 1 + START :],
    *(RNG.normal(size=(2, 4, 3)).astype(np.float32) for _ in range(3)),
    np.ones((1, 4), np.float32),
)
TEXTS = Supervised(IDS, np.where(MASK, IDS, -100), MASK)


def masked_mean(x, mask):
    return np.mean(np.sum(np.where(mask, x, 0), 1) / np.maximum(mask.sum(1), 1))


def log_probs_of(params):
    return np.asarray(jax.jit(log_probs, static_argnums=0)(ACTOR, params, IDS, MASK), np.float64)[:, START:]


def test_the_actors_loss_is_the_clipped_one_on_mixed_advantages():
    advantages = (EXPERIENCE.advantages[0] - 2.0 * EXPERIENCE.advantages[1]) / 3.0
    ratio = np.exp(np.where(EXPERIENCE.answer_mask, log_probs_of(PARAMS) - EXPERIENCE.log_probs, 0))
    expected = -masked_mean(
        np.minimum(ratio * advantages, np.clip(ratio, 0.9, 1.1) * advantages), EXPERIENCE.answer_mask
    )
    multipliers = jnp.array([2.0])
    plain = actor_critic.actor_loss(ACTOR, PARAMS, EXPERIENCE, multipliers, CONFIG)
    assert float(plain.loss) == pytest.approx(expected, rel=1e-4)
    gap = np.where(EXPERIENCE.answer_mask, log_probs_of(REFERENCE) - log_probs_of(PARAMS), 0)
    penalty = masked_mean(np.exp(gap) - gap - 1, EXPERIENCE.answer_mask)
    penalised = actor_critic.actor_loss(ACTOR, PARAMS, EXPERIENCE, multipliers, CONFIG, kl=0.3, reference=REFERENCE)
    assert float(penalised.loss) == pytest.approx(expected + 0.3 * penalty, rel=1e-4)
    texts = float(language_model_loss(ACTOR, PARAMS, TEXTS))
    both = actor_critic.actor_loss(ACTOR, PARAMS, EXPERIENCE, multipliers, CONFIG, texts=TEXTS)
    assert float(both.loss) == pytest.approx(0.5 * (expected + 3.0 * texts), rel=1e-4)
    assert float(both.metrics["ptx_loss"]) == pytest.approx(texts) and "ptx_loss" not in plain.metrics


@pytest.mark.parametrize("index", [0, 1])
def test_a_critics_loss_is_half_the_larger_squared_error(index):
    values = np.asarray(critic_values(CRITIC, VALUES[index], IDS, MASK), np.float64)[:, START:]
    old, returns = EXPERIENCE.values[index], EXPERIENCE.returns[index]
    clipped = np.clip(values, old - 0.05, old + 0.05)
    expected = 0.5 * masked_mean(np.maximum((values - returns) ** 2, (clipped - returns) ** 2), EXPERIENCE.answer_mask)
    output = actor_critic.critic_loss(CRITIC, VALUES[index], EXPERIENCE, index, CONFIG)
    assert float(output.loss) == pytest.approx(expected, rel=1e-4)
    assert set(output.metrics) == {f"critic_loss_{index}"}


JUDGE = Judge(lambda params, ids, mask: jnp.zeros(len(ids)))
PROBLEM = ReinforcementProblem(
    ACTOR, PARAMS, Prompts(IDS[:, : START + 1], MASK[:, : START + 1]), JUDGE, (JUDGE,), (CRITIC, CRITIC), VALUES
)
FROZEN = FrozenWeights({}, ((),), ({}, {}), REFERENCE, (), {})
HYPER = {
    name: jnp.asarray(value, jnp.float32)
    for name, value in dataclasses.replace(CONFIG, cost_limit=(1.0,)).traced_for(1).items()
}
ROWS = np.array([3, 1])


def updated(config=CONFIG, experience=EXPERIENCE, episode_cost=3.0, actor_learns=None):
    """Result of one update on two of the four answers."""
    learner = make_learner(PROBLEM, config)
    iteration = Iteration(
        experience, FROZEN, HYPER, jnp.array([episode_cost]), 0.0, None if actor_learns is None else actor_learns
    )
    params = {"actor": PARAMS, "critics": VALUES}
    moments = {
        "actor": learner.actor_optimizer.init(PARAMS),
        "critics": [learner.critic_optimizer.init(values) for values in VALUES],
    }
    learned = Learned(params, moments, learner.multiplier.init(HYPER), jnp.int32(5))
    step = jax.jit(lambda learned: actor_critic.update(learner, iteration, learned, (ROWS, jax.random.key(0))))
    return learned, *step(learned)


def test_an_update_moves_the_multiplier_then_the_actor_then_the_critics():
    before, after, metrics = updated()
    # log multiplier += rate * multiplier * (cost - limit) = 0.25 * 0.5 * (3 - 1)
    assert float(after.multiplier[0]) == pytest.approx(np.log(0.5) + 0.25, rel=1e-5)
    assert int(after.update) == 6 and int(metrics["skipped_now"]) == 0
    weights = jnp.exp(after.multiplier)
    part = jax.tree.map(jnp.asarray, EXPERIENCE).minibatch(jnp.asarray(ROWS))
    learner = make_learner(PROBLEM, CONFIG)

    def by_optax(optimizer, loss, params, rate):
        direction, _ = optimizer.transform.update(jax.grad(loss)(params), optimizer.init(params), params)
        return optax.apply_updates(params, jax.tree.map(lambda d: -rate * d, direction))

    actor = jax.jit(
        lambda p: by_optax(
            learner.actor_optimizer,
            lambda p: actor_critic.actor_loss(ACTOR, p, part, weights, CONFIG).loss,
            p,
            0.1,
        )
    )(PARAMS)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), after.params["actor"], actor)
    for index, values in enumerate(VALUES):
        critic = jax.jit(
            lambda p, index=index: by_optax(
                learner.critic_optimizer,
                lambda p: actor_critic.critic_loss(CRITIC, p, part, index, CONFIG).loss,
                p,
                0.2,
            )
        )(values)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), after.params["critics"][index], critic)
    assert {"actor_loss", "actor_learning_rate", "critic_loss_0", "critic_loss_1"} <= set(metrics)


def test_an_update_with_nan_moves_nothing_and_is_counted_for_each_model():
    broken = EXPERIENCE._replace(advantages=EXPERIENCE.advantages * np.nan, returns=EXPERIENCE.returns * np.nan)
    before, after, metrics = updated(experience=broken, episode_cost=np.nan)
    assert int(metrics["skipped_now"]) == 3
    jax.tree.map(np.testing.assert_array_equal, after.params, before.params)
    jax.tree.map(np.testing.assert_array_equal, after.optimizer, before.optimizer)
    np.testing.assert_array_equal(after.multiplier, before.multiplier)


def test_the_actor_keeps_its_parameters_during_its_delay():
    before, after, _ = updated(actor_learns=jnp.asarray(False))
    jax.tree.map(np.testing.assert_array_equal, after.params["actor"], before.params["actor"])
    jax.tree.map(np.testing.assert_array_equal, after.optimizer["actor"], before.optimizer["actor"])
    assert np.abs(after.params["critics"][0]["score_head"] - VALUES[0]["score_head"]).max() > 1e-3

"""Reinforcement from judges on a tiny model, where what is good and what is harmful is known."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jsafe
from rlhf.config import SamplingConfig
from rlhf.data.encoding import Prompts, Supervised
from rlhf.losses import policy
from rlhf.models import LanguageModel, ModelConfig, ScoreModel
from rlhf.reinforcement import cost_window
from rlhf.reinforcement.judge import Judge
from rlhf.reinforcement.policy_trainer import reinforcement_trainer
from rlhf.reinforcement.problem import ReinforcementProblem
from rlhf.reinforcement.reinforcement_config import ReinforcementConfig
from tests.support.random_models import params_of

TINY = ModelConfig(
    vocab_size=10, hidden_size=16, intermediate_size=32, num_layers=1, num_heads=2, num_kv_heads=2, head_dim=8
)
ACTOR, CRITIC = LanguageModel(TINY), ScoreModel(TINY)
PROMPTS = Prompts(np.full((16, 2), 3, np.int32), np.ones((16, 2), bool))
SAMPLING = SamplingConfig(max_new_tokens=4)
OPTIONS = ReinforcementConfig(
    prompts_per_iteration=16, answers_per_prompt=4, batch_size=32, update_iterations=2, iterations=120,
    actor_learning_rate=0.003, actor_weight_decay=0.0, critic_learning_rate=0.01, cost_limit=(1.0,),
    multiplier_learning_rate=0.02, multiplier_init=0.5, multiplier_max=20.0, kl_coefficient=0.1, schedule="constant",
    cost_window=64,
)  # fmt: skip


ACTOR_PARAMS = params_of(ACTOR)
CRITICS = tuple(params_of(CRITIC, seed) for seed in (1, 2, 3))


def counting(*tokens):
    """Count occurrences of these tokens in an answer."""

    def apply(params, ids, mask):
        output = jnp.isin(ids[:, 2:], jnp.array(tokens)) & mask[:, 2:]
        return jnp.sum(output, axis=1).astype(jnp.float32)

    return Judge(apply)


GOOD, HARM = counting(7, 8), counting(8)
"""Tokens 7 and 8 are good and 8 is harmful too; both are worth 1, so a limit only decides which of them to use."""


def make(costs, options=OPTIONS, reward=GOOD, ptx=None):
    critics = CRITICS[: 1 + len(costs)] if options.estimator == "critic" else ()
    problem = ReinforcementProblem(
        ACTOR, ACTOR_PARAMS, PROMPTS, reward, costs, (CRITIC,) * len(critics), critics, ptx=ptx
    )
    return reinforcement_trainer("test", problem, options, SAMPLING)


def train(costs, options=OPTIONS, iterations=120, reward=GOOD, ptx=None):
    trainer = make(costs, options, reward, ptx)
    state, metrics = jax.jit(lambda key: jsafe.run(trainer, key, iterations))(jax.random.key(4))
    return state, {k: np.asarray(v) for k, v in metrics.items()}


# What is good is harmful as well: 8 is worth 2 and costs 1, 7 is worth 1 and costs nothing.
TEMPTING = Judge(lambda params, ids, mask: counting(7).apply((), ids, mask) + 2 * counting(8).apply((), ids, mask))


@pytest.mark.parametrize("estimator", ["critic", "group"])
def test_ppo_raises_reward_and_cost_and_ppo_lag_keeps_the_cost_at_its_limit(estimator):
    """Four tokens an answer: worth up to 8 at a cost of 4 without a limit, up to 5 with a cost of at most 1."""
    options = dataclasses.replace(OPTIONS, estimator=estimator)
    _, free = train((), dataclasses.replace(options, actor_learning_rate=0.01), 80, reward=TEMPTING)
    assert free["return"][-10:].mean() > 7.0 and (free["multiplier"] == 0).all()
    _, held = train((HARM,), options, 140, reward=TEMPTING)
    late = slice(60, None)
    assert held["cost"][late].mean() == pytest.approx(1.0, abs=0.2)
    assert 3.7 < held["return"][late].mean() < 5.2
    assert held["multiplier"][late].mean() > 0.3


def test_reward_shaping_keeps_its_multiplier():
    options = dataclasses.replace(OPTIONS, multiplier_learning_rate=0.0, multiplier_init=2.0)
    _, metrics = train((HARM,), options, 3)
    np.testing.assert_allclose(metrics["multiplier"], 2.0, rtol=1e-5)


def test_each_cost_has_its_own_limit():
    options = dataclasses.replace(OPTIONS, cost_limit=(0.0, 100.0))
    state, metrics = train((HARM, counting(7)), options, 6)
    first, second = np.exp(np.asarray(state.algo["multiplier"]))
    assert first > 0.5 > second and {"cost_0", "cost_1", "critic_loss_2"} <= set(metrics)


def test_a_multiplier_waits_for_its_delay():
    options = dataclasses.replace(OPTIONS, cost_limit=(0.0,), multiplier_delay=2)
    _, metrics = train((HARM,), options, 4)
    np.testing.assert_allclose(metrics["multiplier"][:2], 0.5, rtol=1e-5)
    assert metrics["multiplier"][3] > metrics["multiplier"][2] > 0.5


def test_texts_of_the_ptx_loss_are_learned_too():
    texts = np.tile(np.array([[3, 3, 5, 5, 2]], np.int32), (32, 1))
    ptx = Supervised(texts, np.where(np.arange(5) > 1, texts, -100).astype(np.int32), np.ones_like(texts, bool))
    options = dataclasses.replace(OPTIONS, ptx_coefficient=16.0)
    _, metrics = train((), options, 30, reward=counting(5), ptx=ptx)
    assert metrics["ptx_loss"][0] > 1.5 and metrics["ptx_loss"][-1] < 0.3


def test_a_judge_that_gives_nan_moves_nothing_and_is_counted():
    broken = Judge(lambda params, ids, mask: jnp.full(len(ids), jnp.nan))
    state, metrics = train((HARM,), OPTIONS, 2, reward=broken)
    assert metrics["skipped"][-1] > 0
    for a, b in zip(jax.tree.leaves(state.params["actor"]), jax.tree.leaves(ACTOR_PARAMS), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_grid_over_cost_limits_and_rates_is_one_vmap():
    """Each member has the numbers of a run of its own."""
    options = dataclasses.replace(OPTIONS, update_iterations=1, actor_learning_rate=0.01)
    trainer = make((HARM,), options)
    assert set(trainer.info.traced) == {
        "cost_limit", "multiplier_init", "multiplier_learning_rate", "multiplier_max", "actor_learning_rate",
        "critic_learning_rate",
    }  # fmt: skip
    hyper = {"cost_limit": jnp.array([[0.2], [3.0]]), "multiplier_learning_rate": jnp.array([0.2, 0.05])}
    run = jax.jit(lambda hyper: jsafe.run(trainer, jax.random.key(4), 4, hyper)[1])
    together = jax.jit(jax.vmap(run))(hyper)
    for member in range(2):
        alone = run(jax.tree.map(lambda x, member=member: x[member], hyper))
        for name in ("multiplier", "return", "cost", "actor_loss", "critic_loss_1"):
            np.testing.assert_allclose(together[name][member], alone[name], rtol=2e-3, atol=2e-4, err_msg=name)
    assert together["multiplier"][0, -1] > 0.5 > together["multiplier"][1, -1]


def test_the_first_multiplier_follows_its_traced_start_limit_and_rate():
    """log multiplier += rate * multiplier * (cost - limit), once for each of two minibatches."""
    options = dataclasses.replace(OPTIONS, update_iterations=1)
    trainer = make((HARM,), options)
    hyper = {"cost_limit": (0.25,), "multiplier_init": 0.8, "multiplier_learning_rate": 0.3, "multiplier_max": 0.85}
    for most in (20.0, 0.8001):
        _, metrics = jax.jit(lambda key, most=most: jsafe.run(trainer, key, 1, hyper | {"multiplier_max": most}))(
            jax.random.key(4)
        )
        log = np.log(0.8)
        for _ in range(2):
            log = min(log + 0.3 * np.exp(log) * (float(metrics["cost"][0]) - 0.25), np.log(most))
        assert float(metrics["multiplier"][0]) == pytest.approx(np.exp(log), rel=1e-5)


@pytest.mark.parametrize(
    "costs, hyper, error, message",
    [
        ((HARM,), {"cost_limits": 1.0}, TypeError, "no traced option 'cost_limits'; did you mean 'cost_limit'"),
        ((HARM,), {"kl_coefficient": 1.0}, TypeError, "no traced option 'kl_coefficient'"),
        ((), {"cost_limit": (1.0,)}, TypeError, "no traced option 'cost_limit'"),
        ((HARM,), {"cost_limit": (1.0, 2.0)}, ValueError, r"cost_limit must have shape \(1,\), got \(2,\)"),
        ((HARM,), {"multiplier_max": -1.0}, ValueError, "multiplier_max must be greater than 0"),
    ],
)
def test_hyper_parameters_of_a_run_are_checked_by_name(costs, hyper, error, message):
    trainer = make(costs)
    with pytest.raises(error, match=message):
        jax.eval_shape(lambda key: jsafe.run(trainer, key, 1, hyper), jax.random.key(0))


def test_the_window_holds_the_last_costs():
    window = cost_window.empty(1, 5)
    assert np.isnan(cost_window.mean_costs(window)).all()
    seen = []
    for costs in ([1.0, 2.0, 3.0], [4.0, np.nan], [5.0, np.inf, 6.0, 7.0], [*range(10, 22), np.nan]):
        window = cost_window.remember(window, jnp.array([costs]))
        seen += [cost for cost in costs if np.isfinite(cost)]
        assert float(cost_window.mean_costs(window)[0]) == pytest.approx(np.mean(seen[-5:]))


def test_answers_of_a_group_are_compared_with_one_another():
    actual = policy.group_advantages(jnp.array([1.0, 3.0, 5.0, 5.0]), 2)
    np.testing.assert_allclose(actual, [-1, 1, 0, 0], atol=1e-6)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"batch_size": 48}, "batch_size must divide the 64 answers"),
        (
            {"estimator": "group", "answers_per_prompt": 1, "batch_size": 16},
            "answers_per_prompt must be at least 2",
        ),
        ({"estimator": "sum"}, "estimator must be one of"),
        ({"multiplier_init": 0.0}, "multiplier_init must be greater than 0"),
        ({"cost_limit": (1.0, 2.0)}, "one entry for each of the 1 costs"),
        ({"prompts_per_iteration": 32}, "prompts_per_iteration must be at most the number of prompts, 16, got 32"),
        ({"ptx_coefficient": 1.0}, "ptx_coefficient needs at least 32 texts for the PTX loss, got 0"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(changes, message):
    with pytest.raises(ValueError, match=message):
        train((HARM,), dataclasses.replace(OPTIONS, **changes), 1)

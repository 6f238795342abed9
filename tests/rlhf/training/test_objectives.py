"""Objectives on tiny models: each model fits its data, and the losses cover the right tokens."""

import dataclasses
import types

import jax
import numpy as np
import pytest
import scipy.special

import jsafe
from rlhf.chat_templates.safe_rlhf import IGNORED
from rlhf.config import TrainingConfig
from rlhf.data.encoding import Encoded, Labelled, Supervised
from rlhf.data.preference_batch import PreferenceBatch
from rlhf.evaluation import held_out
from rlhf.losses import language_model
from rlhf.models import LanguageModel, ModelConfig, ScoreModel
from rlhf.training import objectives
from rlhf.training.supervised_trainer import supervised_trainer
from tests.support.random_models import params_of

TINY = ModelConfig(
    vocab_size=12, hidden_size=16, intermediate_size=32, num_layers=2, num_heads=2, num_kv_heads=2, head_dim=8
)
OPTIONS = TrainingConfig(epochs=12, batch_size=8, learning_rate=0.01, warmup_ratio=0.1)
RNG = np.random.default_rng(0)


def train(name, params, data, loss, options=OPTIONS):
    trainer = supervised_trainer(name, params, data, loss, options)
    total = trainer.info.config["updates"]
    state, metrics = jax.jit(lambda key: jsafe.run(trainer, key, total))(jax.random.key(1))
    return jax.device_get(state.params["model"]), {k: np.asarray(v) for k, v in metrics.items()}


def pairs(count=64, length=6):
    """Answers after the token 1: harmless ones of tokens below 6, harmful ones above, and the more 6s the worse."""
    ids = np.full((count, length), 0, np.int32)
    ids[:, 0] = 1
    better, worse = ids.copy(), ids.copy()
    better[:, 1:4] = RNG.integers(2, 6, (count, 3))
    worse[:, 1:5] = RNG.integers(6, 12, (count, 4))
    mask_better, mask_worse = better > 0, worse > 0
    signs = np.ones(count, np.float32)
    return PreferenceBatch(better, worse, mask_better, mask_worse, signs, -signs)


def test_a_language_model_learns_its_answers_and_not_its_prompts():
    """The answer is the prompt's token plus one; the prompt itself is noise."""
    ids = np.zeros((64, 4), np.int32)
    ids[:, 0], ids[:, 1] = RNG.integers(2, 11, 64), RNG.integers(2, 11, 64)
    ids[:, 2] = ids[:, 1] + 1
    ids[:, 3] = 2
    labels = np.where(np.arange(4) >= 2, ids, IGNORED).astype(np.int32)
    model = LanguageModel(TINY)
    params, metrics = train(
        "sft", params_of(model), Supervised(ids, labels, np.ones_like(ids, bool)), objectives.supervised(model)
    )
    assert metrics["loss"][0] > 2.0 and metrics["loss"][-4:].mean() < 0.2
    logits, _ = jax.jit(model.apply)({"params": params}, ids)
    assert (np.argmax(logits[:, 1], -1) == ids[:, 2]).mean() > 0.95
    assert -scipy.special.log_softmax(logits[:, 0], -1)[np.arange(64), ids[:, 1]].mean() > 1.5  # noise stays noise


@pytest.mark.parametrize("level", ["sequence", "token"])
def test_a_reward_model_ranks_and_a_cost_model_finds_the_side_of_zero(level):
    data = pairs()
    model = ScoreModel(TINY)
    start = params_of(model)
    _, metrics = train("reward", start, data, objectives.reward(model, level=level))
    assert metrics["accuracy"][-4:].mean() == 1.0
    params, metrics = train("cost", start, data, objectives.cost(model, level=level))
    assert metrics["sign_accuracy"][-4:].mean() > 0.97
    held_out, ask = pairs(32), jax.jit(model.apply)
    low = ask({"params": params}, held_out.chosen, held_out.chosen_mask).end_scores
    high = ask({"params": params}, held_out.rejected, held_out.rejected_mask).end_scores
    assert (low < 0).mean() > 0.9 and (high > 0).mean() > 0.9


def test_direct_preference_raises_the_better_answers_against_the_reference():
    data = pairs()
    model = LanguageModel(TINY)
    start = params_of(model)
    referenced = objectives.with_reference(model, start, data, batch_size=24)
    np.testing.assert_allclose(
        referenced.chosen_log_probs,
        jax.jit(language_model.log_probs, static_argnums=0)(model, start, data.chosen, data.chosen_mask),
        atol=1e-5,
    )
    first = jax.jit(objectives.dpo(model))(start, jax.tree.map(lambda x: x[:8], referenced))
    assert float(first.loss) == pytest.approx(np.log(2), abs=1e-5)  # nothing has moved yet
    _, metrics = train("dpo", start, referenced, objectives.dpo(model))
    assert metrics["accuracy"][-4:].mean() == 1.0 and metrics["chosen_reward"][-1] > 0 > metrics["rejected_reward"][-1]


def test_a_moderation_model_tells_labels_apart():
    ids = np.concatenate([np.ones((96, 1), int), RNG.integers(2, 12, (96, 4))], axis=1).astype(np.int32)
    labels = np.stack([(ids == 7).any(1), (ids == 9).any(1)], axis=1).astype(np.float32)
    model = ScoreModel(TINY, size=2, bias=False)
    mask = np.ones_like(ids, bool)
    params, metrics = train(
        "moderation", params_of(model), Labelled(ids, mask, labels),
        objectives.moderation(model), TrainingConfig(epochs=40, batch_size=16, learning_rate=0.01),
    )  # fmt: skip
    assert metrics["loss"][-6:].mean() < 0.1
    logits = jax.jit(model.apply)({"params": params}, ids, mask).end_scores
    assert ((np.asarray(logits) > 0) == (labels > 0.5)).mean() > 0.95


def test_padding_does_not_change_any_loss():
    data = pairs(8)
    wide = jax.tree.map(lambda x: np.pad(x, ((0, 0), (0, 3))) if x.ndim == 2 else x, data)
    score, language = ScoreModel(TINY), LanguageModel(TINY)
    start = params_of(score)
    for loss in map(jax.jit, (objectives.reward(score), objectives.cost(score))):
        np.testing.assert_allclose(loss(start, data).loss, loss(start, wide).loss, rtol=1e-5)
    words = params_of(language)
    batch = Supervised(data.chosen, np.where(data.chosen_mask, data.chosen, IGNORED), data.chosen_mask)
    padded = Supervised(
        *(np.pad(x, ((0, 0), (0, 3)), constant_values=v) for x, v in zip(batch[:3], (0, IGNORED, False), strict=True))
    )
    loss = jax.jit(objectives.supervised(language))
    np.testing.assert_allclose(loss(words, batch).loss, loss(words, Supervised(*padded)).loss, rtol=1e-5)
    assert np.isfinite(loss(words, batch).loss)


def texts_of_different_length(count=16, length=12):
    """Answers of 1 to 10 tokens after a prompt of one, the rest padding."""
    ids = np.random.default_rng(2).integers(2, 12, (count, length)).astype(np.int32)
    ends = np.array([2, 11, 3, 2, 9, 2, 11, 2, 2, 2, 10, 4, 2, 8, 2, 11])[:, None]
    mask = np.arange(length) < ends
    labels = np.where(mask & (np.arange(length) >= 1), ids, IGNORED).astype(np.int32)
    return Supervised(np.where(mask, ids, 0).astype(np.int32), labels, mask)


@pytest.mark.parametrize("changes", [{}, {"z_loss_weight": 0.1}, {"loss_chunk": 8}])
def test_accumulation_changes_neither_loss_nor_gradient(changes):
    """Answers differ in length, so that a mean over the means of the parts is another number."""
    chunk = changes.pop("loss_chunk", 0)
    model = LanguageModel(dataclasses.replace(TINY, **changes), loss_chunk=chunk)
    params, data = params_of(model), texts_of_different_length()
    results = []
    for accumulation in (1, 4, 8):
        options = dataclasses.replace(OPTIONS, epochs=2, accumulation=accumulation)
        trainer = supervised_trainer(
            "sft", params, data, objectives.supervised(model), options, share=objectives.share_by_learned_tokens
        )
        results.append(jax.jit(lambda key, trainer=trainer: jsafe.run(trainer, key, 4))(jax.random.key(1))[1])
    for other in results[1:]:
        for name in ("loss", "gradient_norm"):
            np.testing.assert_allclose(other[name], results[0][name], rtol=2e-5, err_msg=name)


def test_a_part_without_learned_tokens_has_no_weight():
    labels = np.full((2, 1, 4), IGNORED, np.int32)
    parts = Supervised(labels, labels, labels > 0)
    np.testing.assert_array_equal(objectives.share_by_learned_tokens(parts).share, [0.0, 0.0])
    labels[1, 0, 2:] = 3
    np.testing.assert_array_equal(objectives.share_by_learned_tokens(parts).share, [0.0, 2.0])


@pytest.mark.parametrize("level", ["sequence", "token"])
def test_accumulation_does_not_change_judges(level):
    model = ScoreModel(TINY)
    params, data = params_of(model), pairs(16)
    results = []
    for accumulation in (1, 4, 8):
        options = dataclasses.replace(OPTIONS, epochs=1, accumulation=accumulation)
        trainer = supervised_trainer("cost", params, data, objectives.cost(model, level=level), options)
        results.append(jax.jit(lambda key, trainer=trainer: jsafe.run(trainer, key, 2))(jax.random.key(1))[1])
    for other in results[1:]:
        np.testing.assert_allclose(other["gradient_norm"], results[0]["gradient_norm"], rtol=1e-4)


@pytest.mark.parametrize("batch_size", [3, 16])
def test_held_out_answers_have_one_cross_entropy_however_they_are_batched(batch_size):
    model = LanguageModel(TINY)
    params, data = params_of(model), texts_of_different_length()
    whole = float(objectives.supervised(model)(params, data).loss)
    rows = Encoded(data, [], [], {})
    model = types.SimpleNamespace(config=TINY, params=params)
    actual = held_out.evaluate_answers(model, rows, batch_size=batch_size)
    assert any(np.isclose(value, whole, rtol=1e-5) for value in actual.values() if isinstance(value, float))

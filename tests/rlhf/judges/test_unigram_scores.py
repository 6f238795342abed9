"""Scores of tokens fitted before a model is trained: their loss, their optimum, and what the model makes of them."""

from __future__ import annotations

import dataclasses
import json

import jax
import numpy as np
import pytest

from experiments.cli import main
from rlhf.adapters import lora
from rlhf.checkpoints import model_folder
from rlhf.data import synthetic
from rlhf.data.preference_batch import PreferenceBatch
from rlhf.judges import unigram_scores
from rlhf.losses import preference
from rlhf.models.architecture import ModelConfig, from_hf, to_hf
from rlhf.models.heads import ScoreModel
from rlhf.tokenizer import train_bpe
from tests.support.random_models import params_of

MARK, HARM, KIND, OTHERS = (3, 4), 5, 6, 20
CONFIG = ModelConfig(
    vocab_size=OTHERS, hidden_size=16, intermediate_size=16, num_layers=1, num_heads=1, num_kv_heads=1, head_dim=16,
    score_pooling="mean", score_after=MARK, score_shrinkage=4.0, score_words=True, score_openings=3,
)  # fmt: skip


def drawn(number: int = 60, length: int = 24, seed: int = 0) -> tuple[PreferenceBatch, list[int]]:
    """Return pairs whose harmful answers contain `HARM` more often, among uninformative tokens."""
    rng = np.random.default_rng(seed)
    texts, masks = [], []
    for share in (0.1, 0.4):
        ids = rng.integers(7, OTHERS, (number, length))
        ids[:, :5] = [1, HARM, HARM, *MARK]  # the prompt's own words must not count
        odd = rng.random((number, length)) < 0.5 * share
        even = rng.random((number, length)) < 0.5 * (0.5 - share)
        ids[:, 5:] = np.where(odd, HARM, np.where(even, KIND, ids))[:, 5:]
        texts.append(ids.astype(np.int32))
        masks.append(np.arange(length) < rng.integers(7, length + 1, (number, 1)))
    sign = np.ones(number, np.float32)
    return PreferenceBatch(texts[0], texts[1], masks[0], masks[1], sign, -sign), [i // 3 for i in range(number)]


@pytest.mark.parametrize("kind", ["reward", "cost"])
def test_the_fitted_loss_is_the_models_own(kind):
    """The same pairs through a model whose head is zero, by the losses of the stages."""
    pairs, _ = drawn()
    model = ScoreModel(CONFIG)
    words, openings = np.random.default_rng(1).normal(size=(2, OTHERS))
    fitted = np.concatenate([words, openings, [0.3]])
    params = params_of(model) | {"score_head": np.zeros((16, 1), np.float32), "score_bias": np.array([0.3], np.float32)}
    params |= {"score_words": np.float32(words[:, None]), "score_openings": np.float32(openings[:, None])}
    ask = jax.jit(model.apply)
    scores = [ask({"params": params}, i, m).scores[..., 0] for i, m in (pairs[::2][:2], pairs[1::2][:2])]
    if kind == "reward":
        expected, _ = jax.jit(preference.reward_loss)(*scores, pairs)
    else:
        expected, _ = jax.jit(preference.cost_loss)(*scores, pairs)
    result, gradient = unigram_scores.loss(kind, unigram_scores.pooled(CONFIG, pairs))(fitted)
    assert result / len(pairs.chosen) == pytest.approx(float(expected), rel=1e-5)
    step = np.zeros(2 * OTHERS + 1)
    for i in (HARM, OTHERS + HARM, 2 * OTHERS):
        step[:] = 0
        step[i] = 1e-5
        ends = [unigram_scores.loss(kind, unigram_scores.pooled(CONFIG, pairs))(fitted + s)[0] for s in (step, -step)]
        assert gradient[i] == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-4)


def test_planted_words_are_recovered_and_rank_pairs_of_other_prompts():
    result = unigram_scores.fit(CONFIG, "cost", *drawn())
    order = np.argsort(result.words)
    assert order[0] == KIND and order[-1] == HARM
    assert result.strength in result.losses and result.losses[result.strength] == min(result.losses.values())
    other = unigram_scores.pooled(CONFIG, drawn(seed=5)[0])
    costs = [
        part @ np.concatenate([result.words, result.openings, [result.bias]]) for part in (other.better, other.worse)
    ]
    assert np.mean(costs[0] < costs[1]) > 0.75
    liked = unigram_scores.fit(CONFIG, "reward", *drawn())
    assert liked.words[HARM] < 0 < liked.words[KIND]
    # One class for both planted tokens, of opposite meaning: their shared score is uninformative.
    together = unigram_scores.fit(
        CONFIG, "cost", *drawn(), np.where(np.arange(OTHERS) == HARM, KIND, np.arange(OTHERS))
    )
    assert together.words[HARM] == together.words[KIND] and together.words[HARM] < 0.3 * result.words[HARM]
    with pytest.raises(ValueError, match="kind must be 'reward' or 'cost'"):
        unigram_scores.fit(CONFIG, "helpful", *drawn())


def test_an_informative_first_token_is_recovered_at_its_position():
    """A token starts harmful answers and is in the middle of harmless ones, so its word score is uninformative."""
    rng = np.random.default_rng(0)
    pairs, prompts = drawn(200)
    texts = [rng.integers(7, OTHERS, x.shape).astype(np.int32) for x in (pairs.chosen, pairs.rejected)]
    for ids, at in zip(texts, (10, 5), strict=True):
        ids[:, 3:5], ids[:, at] = MARK, np.where(rng.random(len(ids)) < 0.8, HARM, KIND)
    result = unigram_scores.fit(CONFIG, "cost", pairs._replace(chosen=texts[0], rejected=texts[1]), prompts)
    assert np.argmax(result.openings) == HARM and result.openings[HARM] > 4 * abs(result.openings[OTHERS - 1])


def test_spellings_that_differ_by_capitals_or_a_space_are_one_class(tmp_path):
    tokens = train_bpe.learn_tokenizer(["No. no; No? no, No one scores no"] * 9, 300, tmp_path)
    classes = unigram_scores.spellings(tokens, tokens.size + 1)
    alike = {tokens.backend.encode(text)[-1] for text in ("No", "no", "a No", "a no")}
    assert len(alike) > 1 and len({classes[i] for i in alike}) == 1
    for alone in (tokens.bos, tokens.eos, tokens.pad, tokens.size, tokens.backend.encode("\u00e9")[0]):
        assert np.sum(classes == classes[alone]) == 1
    assert np.sum(classes == classes[tokens.backend.encode(".")[0]]) == 1


def test_scores_of_words_stay_as_they_were_fitted_and_in_the_folder(tmp_path, capsys):
    rows = tmp_path / "pairs.jsonl"
    rows.write_text("".join(json.dumps(r) + "\n" for r in synthetic.make(seed=0, answers=1, pairs=1)["pairs"][:24]))
    words = ["--model", "nano", "--vocabulary", "300", "--length", "64", "--batch-size", "8", "--epochs", "1"]
    words += ["--data", str(rows), "--no-baseline", "--quiet", "--run-dir", str(tmp_path / "run")]
    assert main.main(["rlhf", "cost", *words]) == 0
    start = model_folder.open_model(tmp_path / "run" / "start", score=True)
    ended = model_folder.open_model(tmp_path / "run" / "model", score=True)
    assert start.config.score_words and np.abs(start.params["score_words"]).max() > 0.1
    assert start.config.score_openings == 4 and np.abs(start.params["score_openings"]).max() > 0
    for name in ("score_words", "score_openings"):
        np.testing.assert_array_equal(start.params[name], ended.params[name])
    assert not np.any(start.params["score_head"]) and np.any(ended.params["score_head"])
    frozen, trained = lora.split(start.params, lora.LoraConfig())
    assert set(frozen) == {"score_words", "score_openings"} and "score_head" in trained
    capsys.readouterr()
    words[1], words[-1] = str(tmp_path / "run" / "model"), str(tmp_path / "other")
    assert main.main(["rlhf", "cost", *words, "--pooling", "last", "--word-scores"]) == 2
    assert "unigram scores need mean pooling" in capsys.readouterr().err


def test_scores_of_words_need_the_mean():
    assert from_hf(to_hf(CONFIG)) == CONFIG
    with pytest.raises(ValueError, match="score_openings must be at least 0, and 0 without score_words, got 3"):
        dataclasses.replace(CONFIG, score_words=False)
    with pytest.raises(ValueError, match="score_words needs score_pooling 'mean'"):
        dataclasses.replace(CONFIG, score_pooling="last")

"""Models as folders: what is written is read again, with scores, statistics and padding."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from rlhf.checkpoints import model_folder
from rlhf.judges.score_normalizer import ScoreStatistics
from rlhf.models import LanguageModel, ScoreModel
from rlhf.tokenizer.train_bpe import learn_tokenizer

TEXTS = ["How do I oil the door?", "read the label first", "let it dry overnight"] * 3


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return learn_tokenizer(TEXTS, 280, tmp_path_factory.mktemp("tokens"))


@pytest.fixture(scope="module")
def model(tokenizer):
    return model_folder.fresh("tiny", tokenizer, seed=3)


def test_a_learned_tokenizer_gives_texts_back(tokenizer):
    for text in [*TEXTS, "ünïcode 漢字 and\nlines", " a space before"]:
        assert tokenizer.decode(tokenizer.encode(text)) == text
    one, two = (tokenizer.encode(text, start=False) for text in "ab")
    assert tokenizer.encode("a</s>b") == [tokenizer.bos, *one, tokenizer.eos, *two]
    assert tokenizer.size <= 280
    with pytest.raises(ValueError, match="at least 259"):
        learn_tokenizer(TEXTS, 100, tokenizer.path.parent)


def test_a_language_model_is_read_as_it_was_written(model, tmp_path):
    model_folder.save_model(tmp_path, model)
    again = model_folder.open_model(tmp_path)
    assert again.config == model.config
    jax.tree.map(np.testing.assert_array_equal, again.params, model.params)
    assert again.tokenizer.encode("oil the door") == model.tokenizer.encode("oil the door")


def test_a_score_model_keeps_its_head_and_statistics(model, tmp_path):
    seen = ScoreStatistics(jnp.array([0.5, -1.0]), jnp.array([2.0, 3.0]), jnp.int32(7))
    scored = model_folder.with_scores(model, 2, seed=1)._replace(statistics=seen)
    model_folder.save_model(tmp_path, scored, "cost")
    output = json.loads((tmp_path / "config.json").read_text())
    assert (output["score_type"], output["score_dim"], output["mean"], output["count"]) == ("cost", 2, [0.5, -1.0], 7)
    again = model_folder.open_model(tmp_path, score=True)
    jax.tree.map(np.testing.assert_array_equal, again.params, scored.params)
    assert again.statistics is not None
    np.testing.assert_allclose(again.statistics.variance, [2.0, 3.0])
    ids, mask = jnp.array([[1, 5, 6, 0]]), jnp.array([[True, True, True, False]])
    scores = ScoreModel(again.config, 2).apply({"params": again.params}, ids, mask).end_scores
    assert scores.shape == (1, 2)


def test_a_language_model_gets_a_new_head_only_where_a_training_asks_for_it(model, tmp_path):
    model_folder.save_model(tmp_path, model)
    with pytest.raises(
        ValueError, match=r"must be a cost model with a tensor score_head.weight, got none; no other tensor"
    ):
        model_folder.open_model(tmp_path, score=True, kind="cost")
    scored = model_folder.open_model(tmp_path, score=True, new_scores=1)
    assert scored.params["score_head"].shape == (64, 1)
    assert scored.score_size == 1 and model.score_size == 0
    assert 0.01 < scored.params["score_head"].std() < 0.03


def test_a_head_under_another_name_is_reported(model, tmp_path):
    model_folder.save_model(tmp_path, model_folder.with_scores(model), "reward")
    tensors = load_file(tmp_path / "model.safetensors")
    tensors["v_head.summary.weight"] = tensors.pop("score_head.weight")
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"tensor score_head.weight, got none; .*v_head.summary.weight"):
        model_folder.open_model(tmp_path, score=True)


def test_a_judge_of_another_kind_is_refused(model, tmp_path):
    for kind in ("reward", ""):
        model_folder.save_model(tmp_path, model_folder.with_scores(model), kind)
        assert model_folder.open_model(tmp_path, score=True, kind="reward").score_size == 1
    model_folder.open_model(tmp_path, score=True, kind="cost")  # its files have no kind
    model_folder.save_model(tmp_path, model_folder.with_scores(model), "reward")
    with pytest.raises(ValueError, match="must be a cost model, got a reward model according to its config.json"):
        model_folder.open_model(tmp_path, score=True, kind="cost")
    model_folder.save_model(tmp_path, model_folder.with_scores(model, 14))
    with pytest.raises(ValueError, match="must be a cost model with 1 scores per text, got 14"):
        model_folder.open_model(tmp_path, score=True, kind="cost")
    with pytest.raises(ValueError, match="must be a score model with 1 scores per text, got 14"):
        model_folder.open_model(tmp_path, score=True, new_scores=1)


def test_padding_that_has_no_embedding_gets_the_mean_of_the_others(model):
    """As published: the vocabulary grows by one, for Llama from 32,000 to 32,001."""
    size = model.config.vocab_size
    without = model._replace(tokenizer=model.tokenizer._replace(pad=size))
    more = model_folder.grown(without)
    assert (more.config.vocab_size, more.config.pad_id) == (size + 1, size)
    table = model.params["decoder"]["embedding"]
    np.testing.assert_allclose(more.params["decoder"]["embedding"][-1], table.mean(0), rtol=1e-5)
    ids = jnp.array([[1, 5, 6]])
    before, _ = LanguageModel(model.config).apply({"params": model.params}, ids)
    after, _ = LanguageModel(more.config).apply({"params": more.params}, ids)
    np.testing.assert_allclose(after[..., :size], before, atol=1e-5)


def test_everything_that_is_missing_is_named_at_once(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError) as caught:
        model_folder.open_model(tmp_path / "empty")
    for word in ("config.json", "weights", "tokenizer"):
        assert word in str(caught.value)
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        model_folder.open_model(tmp_path / "nothing")


def test_an_unknown_size_is_refused(tokenizer):
    with pytest.raises(ValueError, match="must be a folder or a size, got 'big'"):
        model_folder.fresh("big", tokenizer)

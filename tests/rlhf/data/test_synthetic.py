"""The synthetic corpus: known helpfulness and harm of its answers, and random dropping of tokens."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhf.data import synthetic
from rlhf.data.embedding_noise import token_dropout
from rlhf.data.encoding import Prompts, Supervised
from rlhf.data.preference_batch import PreferenceBatch
from rlhf.data.rows.published_rows import pku_safe_rlhf
from rlhf.tokenizer.tokenizer import Tokenizer


def test_an_answer_is_understood_as_it_was_made():
    text = f" read the label first, ignore the warning sign, {synthetic.IDLE[3]}, ignore the warning sign."
    result = synthetic.parse_answer(text)
    assert result == synthetic.Answer(careful=1, hasty=2, idle=1)
    assert result.reward == 1.0 + 2 * 1.6 - 0.4
    assert result.harm > 0 >= synthetic.parse_answer(" ignore the warning sign.").harm


def test_pairs_agree_with_what_is_known():
    rows = synthetic.make(seed=1, answers=1, pairs=4)
    assert len(rows["prompts"]) == 100 == len({r["prompt"] for r in rows["prompts"]})
    assert len(rows["pairs"]) > 100
    for row in rows["pairs"]:
        pku_safe_rlhf(row)  # raises where labels contradict each other
        answers = [synthetic.parse_answer(row[f"response_{i}"]) for i in (0, 1)]
        better, safer = answers[row["better_response_id"]], answers[row["safer_response_id"]]
        assert better.reward == max(a.reward for a in answers)
        assert safer.harm == min(a.harm for a in answers)
        assert [row[f"is_response_{i}_safe"] for i in (0, 1)] == [a.hasty <= 1 for a in answers]


def test_hasty_answers_help_more_so_that_the_two_aims_conflict():
    rows = synthetic.make(seed=2)["pairs"]
    conflict = np.mean([row["better_response_id"] != row["safer_response_id"] for row in rows])
    assert conflict > 0.5


def test_hidden_tokens_have_the_requested_number_and_exclude_end_tokens():
    tokens = Tokenizer(None, None, 50, 1, 2, 49, "</s>")  # type: ignore[arg-type]
    ids = np.random.default_rng(0).integers(3, 40, (64, 100)).astype(np.int32)
    ids[:, 0], ids[:, -1] = 1, 2
    batch = Supervised(ids, ids, np.ones(ids.shape, bool))
    hide = token_dropout(0.3, tokens)
    assert hide is not None
    result = hide(jax.random.key(0), batch)
    gone = np.asarray(result.ids) == 49
    assert abs(gone[:, 1:-1].mean() - 0.3) < 0.02
    assert not gone[:, [0, -1]].any()
    np.testing.assert_array_equal(np.asarray(result.ids)[~gone], ids[~gone])
    np.testing.assert_array_equal(result.labels, ids)
    other = hide(jax.random.key(1), batch)
    assert not jnp.array_equal(result.ids, other.ids)
    assert token_dropout(0.0, tokens) is None


def test_tokens_left_out_of_a_scored_text_count_as_padding():
    """A score model reads a text with dropped tokens as the text without them; the ends stay."""
    tokens = Tokenizer(None, None, 50, 1, 2, 49, "</s>")  # type: ignore[arg-type]
    ids = np.random.default_rng(0).integers(3, 40, (64, 100)).astype(np.int32)
    ids[:, 0], ids[:, 80] = 1, 2
    mask = np.arange(100)[None] <= np.full((64, 1), 80)
    hide = token_dropout(0.4, tokens)
    assert hide is not None
    result = hide(jax.random.key(0), PreferenceBatch(ids, ids, mask, mask, np.ones(64), -np.ones(64)))
    for seen in (result.chosen_mask, result.rejected_mask):
        seen = np.asarray(seen)
        assert abs(seen[:, 1:80].mean() - 0.6) < 0.02
        assert seen[:, [0, 80]].all() and not seen[:, 81:].any()
    np.testing.assert_array_equal(result.chosen, ids)
    assert not np.array_equal(result.chosen_mask, result.rejected_mask)
    with pytest.raises(TypeError, match="token_dropout is for texts that are learned or scored"):
        hide(jax.random.key(0), Prompts(ids, mask))

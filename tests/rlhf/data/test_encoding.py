"""Samples as tokens: what is learned, how pairs are put, and what cannot be used."""

import warnings
from pathlib import Path

import numpy as np
import pytest

from rlhf.chat_templates.chat_template import answer_marker
from rlhf.chat_templates.safe_rlhf import IGNORED, format_prompt
from rlhf.data.encoding import labelled, preferences, prompts, supervised
from rlhf.data.schemas import Example
from rlhf.tokenizer.tokenizer import Tokenizer


class Letters:
    """Every character is a token."""

    def encode(self, text):
        return [10 + ord(c) for c in text]

    def decode(self, ids):
        return "".join(chr(i - 10) for i in ids)

    def vocabulary(self):
        return {chr(i): 10 + i for i in range(128)}


LETTERS = Tokenizer(Path("letters"), Letters(), 300, 1, 2, 0, "</s>")
PROMPT = [1, *Letters().encode(format_prompt("q", "</s>"))]
LONG = len(PROMPT) + 6


def text(ids, mask):
    return LETTERS.decode(ids[mask])


def test_answers_and_their_end_are_learned_and_prompts_are_not():
    result, _, _, left_out = supervised([Example(("q",), "yes"), Example(("q",), "much longer")], LETTERS, LONG)
    begin = len(PROMPT)
    assert not left_out and result.ids[0, :begin].tolist() == PROMPT
    assert (result.labels[:, :begin] == IGNORED).all()
    assert result.labels[0, begin:].tolist() == [*Letters().encode("yes"), 2, IGNORED, IGNORED]
    assert result.ids[0, begin:].tolist() == [*Letters().encode("yes"), 2, 0, 0]
    assert result.mask[0].sum() == begin + 4 and result.mask[1].all()
    assert LETTERS.decode(result.labels[1, begin:]) == "much l"  # cut, and without an end


def test_every_answer_of_a_dialogue_is_learned_with_the_end_behind_it():
    dialogue = Example(("q", "first", "and?"), "second")
    length = 120
    result, *_ = supervised([dialogue], LETTERS, length)
    learned = result.labels[0] != IGNORED
    np.testing.assert_array_equal(result.labels[0][learned], result.ids[0][learned])
    assert result.labels[0][learned].tolist() == [*Letters().encode("first"), 2, *Letters().encode("second"), 2]
    rest = result.ids[0][result.mask[0] & ~learned]
    assert rest.tolist() == [*PROMPT, *Letters().encode("USER: and? ASSISTANT:")]
    assert text(result.ids[0], result.mask[0]) == format_prompt(dialogue.prompt, "") + "second"
    # A dialogue that is too long loses its end; the rest is still learned.
    cut, _, _, left_out = supervised([dialogue], LETTERS, LONG, skip=True)
    assert not left_out and LETTERS.decode(cut.labels[0][cut.labels[0] != IGNORED]) == "first"


ROLES = LETTERS._replace(template="baichuan", bos=None)


def test_baichuans_roles_take_the_place_of_text():
    """By hand: 195 begins a turn of the user, 196 one of the assistant; the end is learned before a later turn."""
    q, a, more, last = (Letters().encode(text) for text in ("q", "ab", "c?", "d"))
    dialogue = Example(("q", "ab", "c?"), "d", "e", better=True)
    prompt = [195, *q, 196, *a, 195, *more, 196]
    result, *_ = supervised([dialogue], ROLES, 20)
    assert result.ids[0][result.mask[0]].tolist() == [*prompt, *last, 2]
    hidden = IGNORED
    labels = [2, hidden, hidden, *a, 2, hidden, hidden, hidden, *last, 2]
    assert result.labels[0].tolist() == [*labels, *[hidden] * (20 - len(labels))]
    result, *_ = prompts([dialogue], ROLES, 20)
    assert result.ids[0][result.mask[0]].tolist() == prompt
    result, *_ = prompts([dialogue], ROLES, len(prompt) - 2)  # no room for both rounds: the older one goes
    assert result.ids[0][result.mask[0]].tolist() == [195, *more, 196]
    with pytest.raises(ValueError, match="the prompt has 4 tokens, the maximum is 3"):
        prompts([dialogue], ROLES, 3)
    result, *_ = preferences([dialogue], ROLES, 20, by="better")
    assert result.chosen[0][result.chosen_mask[0]].tolist() == [*prompt, *last, 2]
    assert answer_marker(ROLES) == (196,) and len(answer_marker(LETTERS)) == 2


def test_the_better_answer_comes_first_and_brings_its_own_verdict():
    samples = [
        Example(("q",), "a", "bb", better=True, safer=False, safe=False, other_safe=True),
        Example(("q",), "c", "dd", better=False, safer=True, safe=True, other_safe=False),
    ]
    by_help, *_ = preferences(samples, LETTERS, LONG, by="better")
    assert [text(i, m)[-2:] for i, m in zip(by_help.chosen, by_help.chosen_mask, strict=True)] == [":a", "dd"]
    by_harm, *_ = preferences(samples, LETTERS, LONG, by="safer")
    assert [text(i, m)[-2:] for i, m in zip(by_harm.chosen, by_harm.chosen_mask, strict=True)] == ["bb", ":c"]
    assert by_harm.chosen_safe.tolist() == [1, 1] and by_harm.rejected_safe.tolist() == [-1, -1]
    assert by_help.chosen_safe.tolist() == [-1, -1] and by_help.rejected_safe.tolist() == [1, 1]


def test_prompts_end_where_the_answer_begins():
    result, *_ = prompts([Example(("q",)), Example(("qqq",))], LETTERS, LONG)
    assert result.ids[0, -len(PROMPT) :].tolist() == PROMPT and not result.mask[0, : -len(PROMPT)].any()
    assert (result.ids[0, : -len(PROMPT)] == 0).all()
    assert text(result.ids[1], result.mask[1]) == format_prompt("qqq", "</s>")


@pytest.mark.parametrize(
    "make, sample, message",
    [
        (supervised, Example(("q",)), "there is no answer"),
        (supervised, Example(("q" * 50,), "a"), r"the prompt has \d+ tokens and leaves no room"),
        (prompts, Example(("q" * 50,)), r"the prompt has \d+ tokens, the maximum is"),
        ("better", Example(("q",), "a", "b"), "there is no label for the better answer"),
        ("better", Example(("q",), "a", "a", better=True), "the two answers have the same tokens"),
        ("safer", Example(("q",), "a", "b", safer=True), "an answer has no safety label"),
        (
            "safer",
            Example(("q",), "a", "b", safer=True, safe=False, other_safe=True),
            "the less harmful answer is labelled harmful",
        ),
    ],
)
def test_what_cannot_be_used_is_refused_by_number_or_counted(make, sample, message):
    good = Example(("q",), "a", "b", better=True, safer=True, safe=True, other_safe=False)

    def call(**how):
        if isinstance(make, str):
            return preferences([good, sample], LETTERS, LONG, by=make, **how)
        return make([good, sample], LETTERS, LONG, **how)

    with pytest.raises(ValueError, match=f"row 1: {message}"):
        call()
    result, rows, index, left_out = call(skip=True)
    assert rows == [good] and index == [0] and len(result[0]) == 1 and list(left_out.values()) == [1]


def test_nothing_at_all_still_has_its_shape():
    assert supervised([], LETTERS, 7)[0].ids.shape == (0, 7)
    assert preferences([], LETTERS, 7, by="safer")[0].chosen_safe.shape == (0,)
    assert np.asarray(prompts([], LETTERS, 7)[0].ids).shape == (0, 7)


@pytest.mark.parametrize(
    "encode",
    [
        lambda rows, length: supervised(rows, LETTERS, length),
        lambda rows, length: preferences(rows, LETTERS, length, by="better"),
        lambda rows, length: labelled(rows, ("theft",), LETTERS, length),
    ],
)
def test_texts_that_lose_their_end_are_counted(encode):
    rows = [Example(("q",), text, "no", better=True, labels={}) for text in ("yes", "much too long", "yes, long too")]
    longest = len(PROMPT) + len("much too long") + 1
    with pytest.warns(
        UserWarning, match=rf"2 of [36] texts are longer than {LONG} tokens .*; the longest has {longest}"
    ):
        encode(rows, LONG)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        encode(rows, longest)

"""Data sets of a run: held-out splits, preferences, and the texts of a tokenizer."""

import json

import pytest

from rlhf.data import dataset
from rlhf.data.schemas import Example

ROWS = [Example((f"q{i % 5}",), f"a{i}", f"b{i}", better=True, safer=i % 2 == 0) for i in range(20)]


def test_training_and_held_out_rows_share_no_prompt():
    train, held_out = dataset.split_by_prompt(ROWS, 0.4)
    assert {row.prompt for row in train}.isdisjoint(row.prompt for row in held_out)
    assert sorted([*train, *held_out]) == sorted(ROWS) and len({row.prompt for row in held_out}) == 2
    assert dataset.split_by_prompt(ROWS, 0.4) == (train, held_out)


def test_the_harmful_response_becomes_the_better_one():
    swapped = dataset.prefer_harmful([*ROWS, Example(("q",), "a", "b", better=True)])
    assert [row.better for row in swapped[:2]] == [False, True] and swapped[-1].better is None


def test_a_tokenizer_is_trained_on_every_response_once():
    texts = dataset.conversation_texts(ROWS[:2] * 2)
    assert len(texts) == 4 and texts == sorted(texts) and texts[0].endswith("ASSISTANT:a0")
    assert [row.response for row in dataset.all_responses(ROWS[:2] * 2)] == ["a0", "b0", "a1", "b1"]


def test_a_prompt_is_answered_once():
    assert [row.response for row in dataset.unique_prompts(ROWS)] == ["a15", "a16", "a17", "a18", "a19"]


def test_held_out_rows_come_from_files_or_from_a_share(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"prompt": f"q{i}", "response": "a"}) + "\n" for i in range(10)))
    split = dataset.load_split(dataset.DataConfig(data=(str(path),), eval_share=0.3))
    assert (len(split.train), len(split.held_out), split.skipped) == (7, 3, [])
    split = dataset.load_split(dataset.DataConfig(data=(str(path),), eval_data=(str(path),)))
    assert split.train == split.held_out
    with pytest.raises(ValueError, match="eval_share has no effect next to eval_data"):
        dataset.DataConfig(data=("a",), eval_data=("b",), eval_share=0.2)
    with pytest.raises(ValueError, match="no training data"):
        dataset.DataConfig(data=())

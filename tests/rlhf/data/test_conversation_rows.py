"""Rows of instructions, dialogues and preferences: what they state is read, refused by name, or reported."""

import json
import warnings

import pytest

from rlhf.data.schemas import Example, read_examples
from tests.conftest import ROOT

CASES = ROOT.parent / "shared" / "cases" / "rlhf" / "data"
needs_cases = pytest.mark.skipif(not CASES.is_dir(), reason=f"the cases are not at {CASES}")

USER, BOT = {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}
HUMAN, GPT = {"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}
MORE = [USER, BOT, {"role": "user", "content": "c"}]
KIND = {"role": "system", "content": "Be kind."}


def write(path, rows):
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return path


def read(tmp_path, *rows, **options):
    samples, _ = read_examples(write(tmp_path / "rows.jsonl", rows), **options)
    return [sample._replace(source="") for sample in samples]


def bot(text):
    return {"role": "assistant", "content": text}


PAIR = Example(("a",), "b", "c", better=True)


@pytest.mark.parametrize(
    "row, sample",
    [
        ({"prompt": "a", "chosen": "b", "rejected": "c"}, PAIR),
        ({"prompt": "a", "chosen": [USER, bot("b")], "rejected": [USER, bot("c")]}, PAIR),
        ({"prompt": [USER], "chosen": [bot("b")], "rejected": [bot("c")]}, PAIR),
        ({"chosen": [USER, bot("b")], "rejected": [USER, bot("c")], "score_chosen": 8.0, "score_rejected": 2.0}, PAIR),
        ({"conversations": [HUMAN], "chosen": GPT, "rejected": {"from": "gpt", "value": "c"}}, PAIR),
        ({"instruction": "a", "input": "", "chosen": "b", "rejected": "c"}, PAIR),
        ({"instruction": "a", "input": "i", "chosen": "b", "rejected": "c"}, PAIR._replace(prompt=("a i",))),
        ({"system": "Be kind.", "prompt": "a", "chosen": "b", "rejected": "c"},
         PAIR._replace(prompt=("Be kind.\n\na",))),
        ({"prompt": "a", "chosen": [*MORE, bot("b")], "rejected": [*MORE, bot("c")]},
         PAIR._replace(prompt=("a", "b", "c"))),
        ({"prompt": "\n\nHuman: a\n\nAssistant:", "chosen": "b", "rejected": "c"}, PAIR),
        ({"messages": [USER, BOT]}, Example(("a",), "b")),
        ({"messages": [KIND, USER, BOT]}, Example(("Be kind.\n\na",), "b")),
        ({"messages": MORE}, Example(("a", "b", "c"))),
        ({"messages": [*MORE, bot("d")], "prompt": "a", "prompt_id": "x"}, Example(("a", "b", "c"), "d")),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}]}, BOT]}, Example(("a",), "b")),
        ({"conversations": [HUMAN, GPT], "system": "Be kind."}, Example(("Be kind.\n\na",), "b")),
        ({"prompt": "a", "completion": "b"}, Example(("a",), "b")),
        ({"prompt": "a", "completion": "b", "label": True}, Example(("a",), "b")),
        ({"prompt": [USER], "completion": [BOT]}, Example(("a",), "b")),
        ({"prompt": [KIND, *MORE]}, Example(("Be kind.\n\na", "b", "c"))),
        ({"instruction": "a", "context": "x", "response": "b", "category": "qa"}, Example(("a\n\nx",), "b")),
        ({"instruction": "a", "context": "", "response": "b", "category": "qa"}, Example(("a",), "b")),
        ({"instruction": "c", "input": "", "output": "d", "system": "Be kind.", "history": [["a", "b"]]},
         Example(("Be kind.\n\na", "b", "c"), "d")),
        ({"instruction": "a", "output": "b", "system": None, "history": []}, Example(("a",), "b")),
    ],
)  # fmt: skip
def test_common_formats_are_known_by_their_keys(row, sample, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read(tmp_path, row) == [sample]


@pytest.mark.parametrize(
    "row, message",
    [
        ({"question": "a", "chosen": "b", "rejected": "c"}, "--columns prompt=NAME"),
        ({"chosen": [BOT], "rejected": [BOT]}, "there is no prompt of 'chosen' and 'rejected'"),
        ({"prompt": "other", "chosen": [USER, BOT], "rejected": [USER, BOT]}, "differs from the beginning of 'chosen'"),
        ({"prompt": "a", "chosen": [USER], "rejected": [USER]}, "'chosen' must end with an answer"),
        (
            {"chosen": [USER, BOT], "rejected": [{"role": "user", "content": "x"}, BOT]},
            "differ in more than the last answer",
        ),
        (
            {"prompt": "a", "chosen": "b", "rejected": "c", "score_chosen": 1.0, "score_rejected": 2.0},
            "'score_chosen' is 1.0, below 'score_rejected', 2.0",
        ),
        ({"messages": [USER, USER]}, "must alternate between user and assistant"),
        ({"messages": [BOT, USER]}, "must begin with the user"),
        ({"messages": [USER, KIND, BOT]}, "must have the system's message first"),
        ({"messages": [KIND]}, "got the system's alone"),
        ({"messages": [USER, {"role": "tool", "content": "1"}]}, "a role of 'messages' must be one of .*, got 'tool'"),
        ({"messages": [USER, BOT | {"tool_calls": [{"name": "f"}]}]}, "must be text, got 'tool_calls'"),
        ({"messages": [USER, BOT | {"weight": 0}]}, "is marked as not learned"),
        ({"messages": [USER, BOT | {"content": None}]}, "must be text, got None"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}, BOT]}, "must be text, got"),
        ({"messages": "a"}, "'messages' must be a list of messages, got 'a'"),
        ({"messages": ["a"]}, "'messages' must be a list of messages, got 'a' among them"),
        ({"messages": [KIND, USER, BOT], "system": "Be rude."}, "'system' differs from the system's message"),
        ({"messages": [USER, BOT], "prompt": "other"}, "'prompt' is no turn of 'messages'"),
        ({"prompt": "a", "completion": "b", "label": False}, "'label' is false"),
        ({"instruction": "a", "output": "b", "kto_tag": False}, "'kto_tag' is false"),
        ({"instruction": "a", "output": "b", "history": ["a", "b"]}, "'history' must be a list of pairs"),
        ({"instruction": "a", "output": "b", "system": 3}, "'system' must be a text, got 3"),
        ({"instruction": "a", "output": ["b", "c"]}, "'output' must be a text"),
    ],
)
def test_what_cannot_be_used_is_named(row, message, tmp_path):
    with pytest.raises(ValueError, match=rf"rows.jsonl, row 0: .*{message}"):
        read(tmp_path, row)


@pytest.mark.parametrize(
    "row, named",
    [
        ({"prompt": "a", "response": "b", "difficulty": 3}, "difficulty"),
        ({"messages": [USER, BOT | {"reasoning_content": "hm"}]}, r"messages\[\].reasoning_content"),
        ({"messages": [USER, BOT], "tools": [{"name": "f"}]}, "tools"),
        ({"instruction": "a", "output": "b", "persona": "p"}, "persona"),
        ({"prompt": "a", "chosen": "b", "rejected": "c", "margin": 0.5}, "margin"),
    ],
)
def test_filled_columns_that_are_not_read_are_reported_once_for_a_file(row, named, tmp_path):
    with pytest.warns(UserWarning, match=rf"rows.jsonl has columns that are not read: {named}. The schema") as caught:
        read(tmp_path, row, row, row)
    assert len(caught) == 1


@pytest.mark.parametrize("value", [None, "", [], {}])
def test_an_empty_column_is_not_reported(value, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read(tmp_path, {"prompt": "a", "response": "b", "notes": value, "id": 7}) == [Example(("a",), "b")]


def test_a_long_value_is_shortened_in_a_message(tmp_path):
    with pytest.raises(ValueError, match="'output' must be a text") as caught:
        read(tmp_path, {"instruction": "a", "output": ["word " * 200] * 50})
    assert len(str(caught.value)) < 400


@needs_cases
@pytest.mark.parametrize(
    "name, expected",
    [
        ("trl_explicit.jsonl", Example(("How do I oil the door number 0?",), better=True)),
        ("ultrafeedback.jsonl", Example(("How do I oil the door number 0?",), better=True)),
        ("messages.jsonl", Example(("You are kind.\n\nHow do I oil the door number 0?",))),
        ("sharegpt.jsonl", Example(("How do I oil the door number 0?",))),
        ("completion.jsonl", Example(("How do I oil the door number 0?",))),
        ("alpaca_system_history.jsonl",
         Example(("Answer in French only.\n\nHello", "Hi there", "How do I oil the door number 0?"))),
    ],
)  # fmt: skip
def test_files_that_people_bring_are_read_whole(name, expected):
    samples, left_out = read_examples(CASES / name)
    assert not left_out and samples[0].prompt == expected.prompt and samples[0].better == expected.better
    assert samples[0].response == "Read the label first, and let it dry overnight."
    assert expected.better is None or samples[0].other_response == "Just hit it hard."

"""Answers of a model as rows of a file."""

import json

import pytest

from rlhf.data.schemas import Example, read_examples
from rlhf.generation.answers import to_json_row


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_what_generate_writes_is_read_back(tmp_path):
    """A dialogue, and the category of a question."""
    dialogue, question = Example(("a", "b", "c"), "d"), Example(("q",), "e", labels={"self_harm": True})
    path = write(tmp_path / "answers.jsonl", [to_json_row(s) for s in (dialogue, question)])
    assert [s._replace(source="") for s in read_examples(path)[0]] == [dialogue, question]
    assert "question_category" not in to_json_row(question._replace(safe=False))  # then it is of another answer
    path = write(tmp_path / "bad.jsonl", [{"prompt": ["a", "b"], "response": "c"}])
    with pytest.raises(ValueError, match="row 0: 'prompt' must be a text or an odd number of texts"):
        read_examples(path)

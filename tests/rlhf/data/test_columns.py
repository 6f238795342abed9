"""Columns of files: types in CSV, and other names given by `--columns`."""

import csv
import json

import pytest

from rlhf.data.dataset import DataConfig, load_split
from rlhf.data.schemas import Example, read_examples
from tests.conftest import ROOT

CASES = ROOT.parent / "shared" / "cases" / "rlhf" / "data"
needs_cases = pytest.mark.skipif(not CASES.is_dir(), reason=f"the cases are not at {CASES}")

PKU = {
    "prompt": "how?", "response_0": "so", "response_1": "not so", "is_response_0_safe": True,
    "is_response_1_safe": False, "better_response_id": 1, "safer_response_id": 0,
}  # fmt: skip
BEAVER = {"prompt": "how?", "response": "so", "category": {"theft": True, "lies": False}, "is_safe": False}
MESSAGES = [{"role": "user", "content": "a, \"b\" and 'c'\n"}, {"role": "assistant", "content": "b"}]


def write_csv(path, *rows):
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def as_json(row):
    return {key: json.dumps(value) if isinstance(value, list | dict) else value for key, value in row.items()}


@pytest.mark.parametrize("write", [dict, as_json], ids=["as pandas writes", "as JSON"])
@pytest.mark.parametrize(
    "row",
    [
        PKU,
        BEAVER,
        {"prompt": "p", "response": ["a", "b"]},
        {"prompt": "p", "response": "r", "label": "Unsafe"},
        {"prompt": "p", "completion": "c", "label": True},
        {"prompt": ["a", "b", "c"], "response": "d"},
        {"prompt": "[1] is a reference", "response": "[sic]"},
        {"prompt": "{x} is a set", "response": "[]"},
        {"messages": MESSAGES},
        {"prompt": "p", "chosen": [{"role": "assistant", "content": "b"}], "rejected": "c", "score_chosen": 2.5},
        {"instruction": "i", "output": "o", "history": [["a", "b"]]},
        {"instruction": "i", "context": "[1] [2]", "response": "r"},
        {"context": [{"text": "a"}], "chosen": {"text": "b"}, "rejected": {"text": "c"}},
        {"chat": {"turn_1": {"Human": "a", "MOSS": "b"}}},
    ],
)
def test_csv_carries_what_json_carries(row, write, tmp_path):
    (tmp_path / "rows.jsonl").write_text(json.dumps(row))
    expected, actual = (
        read_examples(path)[0][0]._replace(source="")
        for path in (tmp_path / "rows.jsonl", write_csv(tmp_path / "rows.csv", write(row)))
    )
    assert actual == expected


@pytest.mark.parametrize("yes, no", [("True", "False"), ("true", "false"), ("TRUE", "FALSE"), ("1", "0")])
def test_truth_values_of_csv_in_the_notation_of_common_tools(yes, no, tmp_path):
    row = PKU | {"is_response_0_safe": yes, "is_response_1_safe": no, "better_response_id": "1.0"}
    (example,) = read_examples(write_csv(tmp_path / "rows.csv", row))[0]
    assert (example.safe, example.other_safe, example.better) == (True, False, False)


@pytest.mark.parametrize(
    "row, message",
    [
        (PKU | {"better_response_id": "2"}, "'better_response_id' must be 0 or 1, got 2"),
        (PKU | {"better_response_id": ""}, "'better_response_id' must be 0 or 1, got None"),
        (PKU | {"better_response_id": "first"}, "'better_response_id' must be 0 or 1, got 'first'"),
        (PKU | {"is_response_0_safe": "yes"}, "'is_response_0_safe' must be true or false, got 'yes'"),
        (BEAVER | {"category": "{'theft': "}, "'category' must be a list or an object in the notation"),
        ({"messages": "[{'role': 'user'} {'role': 'assistant'}]"}, "'messages' must be a list or an object"),
        ({"prompt": "p", "chosen": "[{'role': 'user'}\n {'role'", "rejected": "r"}, "'chosen' must be a list or"),
    ],
)
def test_a_cell_of_the_wrong_type_is_named(row, message, tmp_path):
    with pytest.raises(ValueError, match=rf"rows.csv, row 0: {message}"):
        read_examples(write_csv(tmp_path / "rows.csv", row))


@pytest.mark.parametrize(
    "text, message",
    [
        ("prompt,response\na,b,c\n", "row 0: there are more cells than columns"),
        ("prompt,response\na\n", "row 0: there are fewer cells than columns"),
        ("prompt,prompt\na,b\n", "has the column 'prompt' twice"),
        ('prompt,response\n"a"b,c\n', "is damaged"),
        ('prompt,response\n"a,c\n', "is damaged"),
        ("prompt;response\na;b\n", "fit no known schema"),
    ],
)
def test_a_table_of_the_wrong_shape_is_named(text, message, tmp_path):
    (tmp_path / "rows.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_examples(tmp_path / "rows.csv")


def test_a_long_text_fits_in_a_cell(tmp_path):
    path = write_csv(tmp_path / "rows.csv", {"prompt": "a", "response": "word " * 40_000})
    assert len(read_examples(path)[0][0].response) == 200_000


@needs_cases
@pytest.mark.parametrize("name", ["pku.csv", "bt.csv"])
def test_labels_of_csv_files_that_people_bring(name):
    rows, left_out = read_examples(CASES / name)
    assert rows and not left_out and all(row.safe is not None for row in rows)


OTHER = {"question": "a", "good": "b", "bad": "c"}
COLUMNS = {"prompt": "question", "chosen": "good", "rejected": "bad"}


def test_columns_of_any_name_are_read_as_the_fields_of_a_schema(tmp_path):
    expected = [Example(("a",), "b", "c", better=True)]
    (tmp_path / "rows.jsonl").write_text(json.dumps(OTHER))
    for path in (tmp_path / "rows.jsonl", write_csv(tmp_path / "rows.csv", OTHER)):
        rows, _ = read_examples(path, columns=COLUMNS)
        assert [row._replace(source="") for row in rows] == expected
    config = DataConfig(data=(str(tmp_path / "rows.jsonl"),), columns=tuple(COLUMNS.items()))
    assert len(load_split(config).train) == 1


def test_a_named_column_replaces_one_of_the_schemas_own_name(tmp_path):
    (tmp_path / "rows.jsonl").write_text(json.dumps({"prompt": "old", "question": "new", "response": "r"}))
    assert read_examples(tmp_path / "rows.jsonl", columns={"prompt": "question"})[0][0].prompt == ("new",)


def test_a_second_file_may_have_the_schemas_own_names(tmp_path):
    (tmp_path / "a.jsonl").write_text(json.dumps(OTHER))
    (tmp_path / "b.jsonl").write_text(json.dumps({"prompt": "a", "chosen": "b", "rejected": "c"}))
    assert len(set(row._replace(source="") for row in read_examples(tmp_path, columns=COLUMNS)[0])) == 1


@pytest.mark.parametrize(
    "columns, message",
    [
        ((("prompt", "questions"),), r"has no column 'questions', only bad, good, question"),
        ((("promt", "question"),), r"columns must name fields of a schema \(.*prompt.*\), got 'promt'"),
        ((("prompt", "question"), ("prompt", "good")), "'prompt' twice"),
        ((("prompt", "question"), ("chosen", "question")), "'question' twice"),
    ],
)
def test_a_column_that_is_not_there_is_named(columns, message, tmp_path):
    (tmp_path / "rows.jsonl").write_text(json.dumps(OTHER))
    with pytest.raises(ValueError, match=message):
        load_split(DataConfig(data=(str(tmp_path / "rows.jsonl"),), columns=columns))

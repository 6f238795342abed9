"""Files and rows of the published schemas, and rows that cannot be used."""

import gzip
import json
import lzma

import pyarrow
import pyarrow.parquet
import pytest

from rlhf.data.files import read_rows
from rlhf.data.mixture import load_mixture
from rlhf.data.schemas import Example, read_examples
from tests.conftest import ROOT

DATA = ROOT.parent / "shared" / "data" / "rlhf"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"the data sets are not at {DATA}")

PKU = {
    "prompt": "how?", "response_0": "so", "response_1": "not so", "is_response_0_safe": True,
    "is_response_1_safe": False, "better_response_id": 1, "safer_response_id": 0,
}  # fmt: skip
BEAVER = {"prompt": "how?", "response": "so", "category": {"theft": True, "lies": False}, "is_safe": False}


def write(path, rows):
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
        return path
    text = "\n".join(json.dumps(row) for row in rows)
    opener = {".gz": gzip.open, ".xz": lzma.open}.get(path.suffix, open)
    with opener(path, "wt", encoding="utf-8") as file:
        file.write(text)
    return path


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz", "rows.jsonl.xz", "rows.json", "rows.parquet"])
def test_rows_are_the_same_however_they_are_packed(name, tmp_path):
    assert read_rows(write(tmp_path / name, [BEAVER, BEAVER | {"prompt": "why?"}])) == [
        BEAVER,
        BEAVER | {"prompt": "why?"},
    ]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_characters_that_end_lines_elsewhere_stand_inside_a_text(end, tmp_path):
    """JSON allows U+2028, U+0085 and similar characters inside a text."""
    row = {"prompt": "a\u2028b\u2029c\u0085d\x7f", "response": "e"}
    path = tmp_path / "rows.jsonl"
    path.write_bytes((json.dumps(row, ensure_ascii=False) + end).encode() * 2)
    assert read_rows(path) == [row, row]


@pytest.mark.parametrize(
    "row, sample",
    [
        (PKU, Example(("how?",), "so", "not so", False, True, True, False)),
        ({"prompt": "p", "response": ["a", "b"]}, Example(("p",), "a", "b", None, True, True, False)),
        (BEAVER, Example(("how?",), "so", safe=False, labels={"theft": True, "lies": False})),
        ({"prompt": "p", "response": "r", "label": "Unsafe"}, Example(("p",), "r", safe=False)),
        ({"prompt": "p", "category": "theft", "category_id": 5}, Example(("p",), labels={"theft": True})),
        ({"instruction": "do", "input": "it", "output": "done"}, Example(("do it",), "done")),
        ({"instruction": "do", "input": "", "output": "done"}, Example(("do",), "done")),
        ({"input": "do", "target": "done"}, Example(("do",), "done")),
        ({"prompt": "p", "response": "r"}, Example(("p",), "r")),
        ({"prompt": "p"}, Example(("p",))),
        (
            {"chosen": "\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant: d",
             "rejected": "\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant: e"},
            Example(("a", "b", "c"), "d", "e", better=True),
        ),
        (
            {"context": [{"role": "human", "text": "a"}, {"role": "assistant", "text": "b"}, {"text": "c"}],
             "chosen": {"role": "assistant", "text": "d"}, "rejected": {"text": "e"}},
            Example(("a", "b", "c"), "d", "e", better=True),
        ),
        (
            {"prefix": "x", "plain_text": "x [Human]: a\nA<eoh> [MOSS]: b<eoa>\n[Human]: c<eoh>\n[MOSS]: d<eoa>"},
            Example(("a\nA", "b", "c"), "d"),
        ),
        (
            {"chat": {"turn_2": {"Human": "<|Human|>: c<eoh>\n", "MOSS": "<|MOSS|>: d<eom>\n"},
                      "turn_1": {"Human": "<|Human|>: a<eoh>\n", "MOSS": "<|MOSS|>: b<eom>\n"}}},
            Example(("a", "b", "c"), "d"),
        ),
    ],
)  # fmt: skip
def test_every_published_schema_is_known_by_its_keys(row, sample, tmp_path):
    samples, left_out = read_examples(write(tmp_path / "rows.jsonl", [row]))
    assert [s.source for s in samples] == [f"{tmp_path / 'rows.jsonl'}, row 0"]
    samples = [s._replace(source="") for s in samples]
    assert samples == [sample] and not left_out


@pytest.mark.parametrize(
    "row, message",
    [
        (PKU | {"safer_response_id": 1}, "points to a harmful answer although the other is safe"),
        (PKU | {"better_response_id": 2}, "'better_response_id' must be 0 or 1, got 2"),
        (PKU | {"is_response_0_safe": "yes"}, "'is_response_0_safe' must be true or false, got 'yes'"),
        ({k: v for k, v in PKU.items() if k != "is_response_1_safe"}, "there is no field 'is_response_1_safe'"),
        (PKU | {"response_0": " "}, "an answer is empty"),
        (PKU | {"prompt": ""}, "the prompt is empty"),
        (PKU | {"prompt": 3}, "'prompt' must be a text, got 3"),
    ],
)
def test_a_row_that_cannot_be_used_is_named_or_left_out_and_counted(row, message, tmp_path):
    path = write(tmp_path / "rows.jsonl", [PKU, row, PKU])
    with pytest.raises(ValueError, match=rf"rows.jsonl, row 1: .*{message}"):
        read_examples(path)
    samples, left_out = read_examples(path, skip=True)
    assert len(samples) == 2 and len(left_out) == 1 and message in left_out[0]


@pytest.mark.parametrize(
    "rows, lacking",
    [
        ([PKU], "safer_response_id"),
        ([{"prompt": "p", "response": "r", "label": "Safe"}], "label"),
        ([BEAVER], "category"),
    ],
)
def test_a_first_row_that_lacks_a_field_does_not_decide_what_the_others_are(rows, lacking, tmp_path):
    first = {key: value for key, value in rows[0].items() if key != lacking}
    path = write(tmp_path / "rows.jsonl", [first, *rows, *rows])
    with pytest.raises(ValueError, match=rf"rows.jsonl, row 0: there is no field '{lacking}'"):
        read_examples(path)
    samples, left_out = read_examples(path, skip=True)
    assert len(left_out) == 1 and [s.safe for s in samples] == 2 * [
        read_examples(write(tmp_path / "x.jsonl", rows))[0][0].safe
    ]


@pytest.mark.parametrize("stray", [{"response": ["one"]}, {"label": None}, {"category": {}, "is_safe": True}])
def test_a_stray_row_does_not_decide_what_the_others_are(stray, tmp_path):
    plain = {"prompt": "p", "response": "r"}
    path = write(tmp_path / "rows.jsonl", [plain] * 3 + [plain | stray] + [plain] * 3)
    samples, left_out = read_examples(path, skip=True)
    assert len(samples) >= 6 and len(samples) + len(left_out) == 7
    assert all("row 3" in line for line in left_out)


def test_each_file_of_a_folder_has_a_schema_of_its_own(tmp_path):
    write(tmp_path / "a.jsonl", [{"prompt": "p", "response": "r"}])
    write(tmp_path / "b.jsonl", [{"instruction": "i", "output": "o"}, {"instruction": "j", "output": "o"}])
    samples, left_out = read_examples(tmp_path)
    assert [s.prompt for s in samples] == [("p",), ("i",), ("j",)] and not left_out


def test_an_evaluation_by_name_is_one_of_questions(tmp_path):
    rows = [{"prompt": "p", "category": "theft", "category_id": 5}]
    path = write(tmp_path / "rows.jsonl", rows)
    assert load_mixture([f"BeaverTails-Evaluation::{path}"])[0][0].labels == {"theft": True}
    assert load_mixture([f"BeaverTails-Evaluation::{write(path, [{'prompt': 'p'}])}"])[0][0].prompt == ("p",)


def test_rows_that_are_not_json_are_left_out_and_counted_too(tmp_path):
    path = tmp_path / "rows.jsonl"
    good = json.dumps(PKU)
    path.write_text(f'{{"prompt": \n{good}\n\n[1]\n{good}\n{"[" * 100_000}\n{{"question": "?"}}\n')
    with pytest.raises(ValueError, match=r"rows.jsonl, row 0: not JSON \(Expecting value\)"):
        read_examples(path)
    samples, left_out = read_examples(path, skip=True)
    assert [s.source for s in samples] == [f"{path}, row 1", f"{path}, row 4"]
    assert [line.removeprefix(f"{path}, row ")[0] for line in left_out] == ["0", "3", "5", "6"]
    path.write_text("{\n[1]\n")
    with pytest.raises(ValueError, match=r"has no rows that can be read; .*row 0: not JSON"):
        read_examples(path, skip=True)


@pytest.mark.parametrize(
    "row, message",
    [
        (
            {"context": [{"text": "a"}, {"text": "b"}], "chosen": {"text": "c"}, "rejected": {"text": "d"}},
            "an odd number",
        ),
        ({"context": [{"text": "a"}], "chosen": {"text": "c"}, "rejected": "d"}, "'rejected' must be an object with a"),
        ({"plain_text": "[Human]: a<eoh> [Human]: b<eoh>"}, "must alternate"),
        ({"plain_text": "nothing marked"}, "must alternate"),
        ({"chat": {"turn_1": {"Human": "a"}}}, "there is no field 'MOSS'"),
        ({"chat": {"first": {"Human": "a", "MOSS": "b"}}}, "must be called turn_1"),
    ],
)
def test_dialogues_that_are_none_are_named(row, message, tmp_path):
    with pytest.raises(ValueError, match=rf"rows.jsonl, row 0: .*{message}"):
        read_examples(write(tmp_path / "rows.jsonl", [row]))


def test_verdict_and_categories_must_agree(tmp_path):
    with pytest.raises(ValueError, match="'is_safe' is True, and 1 categories of harm are true"):
        read_examples(write(tmp_path / "rows.jsonl", [BEAVER | {"is_safe": True}]))


def test_files_that_cannot_be_read_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no file"):
        read_rows(tmp_path / "none.jsonl")
    with pytest.raises(FileNotFoundError, match="has no file"):
        read_rows(tmp_path)
    with pytest.raises(ValueError, match="must end in"):
        read_rows(write(tmp_path / "rows.txt", [PKU]))
    (tmp_path / "rows.jsonl").write_text('{"prompt": "a"}\n{"prompt": \n')
    with pytest.raises(ValueError, match=r"rows.jsonl, row 1: not JSON"):
        read_rows(tmp_path / "rows.jsonl")
    (tmp_path / "list.jsonl").write_text("[1]\n")
    with pytest.raises(ValueError, match=r"list.jsonl, row 0: expected an object, got list"):
        read_rows(tmp_path / "list.jsonl")
    whole = write(tmp_path / "cut.jsonl.xz", [PKU] * 100).read_bytes()
    (tmp_path / "cut.jsonl.xz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"cut.jsonl.xz is damaged"):
        read_rows(tmp_path / "cut.jsonl.xz")
    with pytest.raises(ValueError, match="fit no known schema"):
        read_examples(write(tmp_path / "other.jsonl", [{"question": "?"}]))
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(ValueError, match="has no rows"):
        read_examples(tmp_path / "empty.jsonl")


@needs_data
@pytest.mark.parametrize(
    "name, rows, prompts",
    [
        ("preference/pku_saferlhf_pairs.json", 4307, 783),
        ("preference/hh_rlhf_harmless_base_test.jsonl.gz", 2308, None),
        ("sft/pku_saferlhf_safe_answers.json", 4362, None),
        ("sft/alpaca_zh_demo_1000.json", 1000, None),
        ("beavertails/qa_safe_unsafe.jsonl", 1214, None),
        ("beavertails/beavertails30k_sample140_one_category.csv", 140, 140),
        ("beavertails/beavertails_eval_subset_prompts.json", 140, 140),
        ("safe_rlhf/gpt4_eval_problem_83.json", 83, None),
    ],
)
def test_the_published_files_are_read_whole(name, rows, prompts):
    samples, left_out = read_examples(DATA / name, skip=True)
    assert len(samples) == rows and len(left_out) <= 4
    assert prompts is None or len({sample.prompt for sample in samples}) == prompts

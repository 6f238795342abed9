"""Files and folders of rows as people have them: containers, compressions, saved data sets, pointers."""

import dataclasses
import json
import shutil
import warnings

import pyarrow
import pyarrow.parquet
import pytest

from rlhf import preflight
from rlhf.data import dataset, mixture, plain_text
from rlhf.data.files import read_rows
from rlhf.data.mixture import load_mixture
from rlhf.data.schemas import Example, read_examples
from rlhf.evaluation import gsm8k, multiple_choice
from rlhf.models import ModelConfig

ROWS = [{"prompt": "p", "response": "r"}, {"prompt": "q", "response": "s"}]


def lines(rows):
    return "\n".join(json.dumps(row) for row in rows)


def test_zstd_is_read(tmp_path):
    path = tmp_path / "rows.jsonl.zst"
    with pyarrow.output_stream(str(path), compression="zstd") as file:
        file.write(lines(ROWS).encode())
    assert read_rows(path) == ROWS
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(ValueError, match=r"rows.jsonl.zst is damaged"):
        read_rows(path)


@pytest.mark.parametrize(
    "value",
    [ROWS, {"data": ROWS}, {"version": "1.0", "train": ROWS, "notes": []}],
    ids=["a list", "a list under a key", "a list next to notes"],
)
@pytest.mark.parametrize("indent", [None, 2])
def test_json_with_one_list(value, indent, tmp_path):
    (tmp_path / "rows.json").write_text(json.dumps(value, indent=indent))
    assert read_rows(tmp_path / "rows.json") == ROWS


def test_json_with_one_row(tmp_path):
    row = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
    (tmp_path / "rows.json").write_text(json.dumps(row, indent=1))
    assert read_rows(tmp_path / "rows.json") == [row]


def test_json_with_several_lists_is_refused(tmp_path):
    (tmp_path / "rows.json").write_text(json.dumps({"train": ROWS, "test": ROWS}))
    with pytest.raises(ValueError, match="must have one list of rows, got train, test"):
        read_rows(tmp_path / "rows.json")


def save_to_disk(folder, *parts):
    """Write rows as `datasets.save_to_disk` does."""
    folder.mkdir(parents=True)
    names = [f"data-{number:05d}-of-{len(parts):05d}.arrow" for number in range(len(parts))]
    for name, rows in zip(names, parts, strict=True):
        table = pyarrow.Table.from_pylist(rows)
        with pyarrow.ipc.new_stream(str(folder / name), table.schema) as writer:
            writer.write_table(table)
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": name} for name in names]}))
    (folder / "dataset_info.json").write_text(json.dumps({"features": {}}))
    return folder


def test_a_saved_data_set_is_read_in_its_order(tmp_path):
    folder = save_to_disk(tmp_path / "saved", ROWS[:1], ROWS[1:])
    assert read_rows(folder) == ROWS
    (folder / "data-00001-of-00002.arrow").unlink()
    with pytest.raises(FileNotFoundError, match="data-00001-of-00002.arrow, which"):
        read_rows(folder)


def test_a_saved_data_set_of_several_splits_needs_one(tmp_path):
    save_to_disk(tmp_path / "saved" / "train", ROWS)
    save_to_disk(tmp_path / "saved" / "test", ROWS[:1])
    (tmp_path / "saved" / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    with pytest.raises(ValueError, match=r"must have one split, or needs its name, got test, train. Use .*saved/SPLIT"):
        read_rows(tmp_path / "saved")
    assert read_rows(tmp_path / "saved" / "train") == ROWS
    shutil.rmtree(tmp_path / "saved" / "test")
    assert read_rows(tmp_path / "saved") == ROWS


@pytest.mark.parametrize(
    "state", ["{", "[]", "{}", '{"_data_files": [{"filename": "../x.arrow"}]}', '{"_data_files": [1]}']
)
def test_a_damaged_list_of_files_is_named(state, tmp_path):
    folder = save_to_disk(tmp_path / "saved", ROWS)
    (folder / "state.json").write_text(state)
    with pytest.raises(ValueError, match=r"state.json must"):
        read_rows(folder)


def test_descriptions_and_caches_of_a_folder_are_no_rows(tmp_path):
    (tmp_path / "rows.jsonl").write_text(lines(ROWS))
    (tmp_path / "dataset_infos.json").write_text('{"default": {"features": {}}}')
    (tmp_path / ".cache").mkdir()
    (tmp_path / ".cache" / "rows.json").write_text("[1]")
    assert [row.prompt for row in read_examples(tmp_path)[0]] == [("p",), ("q",)]


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json", "rows.csv", "rows.parquet", "rows.jsonl.gz"])
def test_a_pointer_of_git_lfs_is_named(name, tmp_path):
    (tmp_path / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    with pytest.raises(ValueError, match="is a pointer of Git LFS, not the file itself. Fetch it with git lfs pull"):
        read_rows(tmp_path / name)


@pytest.mark.parametrize("name", ["a:b.jsonl", "folder/a:b.jsonl", "folder/a:x:rows.jsonl"])
def test_a_missing_file_with_a_colon_in_its_name_is_missing(name, tmp_path):
    with pytest.raises(FileNotFoundError, match=f"there is no file .*{name}"):
        load_mixture([str(tmp_path / name)])
    assert mixture.missing([name]) == [f"there is no file {name}"]


def test_a_share_that_is_none_is_named(tmp_path):
    with pytest.raises(ValueError, match="share 'half' of 'alpaca:half:rows.jsonl' must be a number"):
        load_mixture(["alpaca:half:rows.jsonl"])


def test_files_begin_with_a_byte_order_mark_or_without(tmp_path):
    mark = "\ufeff"
    (tmp_path / "problems.jsonl").write_text(mark + json.dumps({"question": "2+2?", "answer": "#### 4"}))
    assert gsm8k.read_problems(tmp_path / "problems.jsonl")[0].question == "2+2?"
    (tmp_path / "subject.csv").write_text(f"{mark}2+2?,1,2,3,4,D\n")
    assert multiple_choice.read_questions(tmp_path / "subject.csv")[0].text == "2+2?"
    (tmp_path / "plain.txt").write_text(mark + "text")
    assert plain_text.read_texts(tmp_path / "plain.txt") == ["text"]
    for suffix, text in (("jsonl", lines(ROWS)), ("json", json.dumps(ROWS)), ("csv", "prompt,response\np,r\nq,s\n")):
        (tmp_path / f"rows.{suffix}").write_text(mark + text)
        assert read_rows(tmp_path / f"rows.{suffix}") == ROWS


def test_texts_beyond_the_positions_of_a_model_are_reported():
    sizes = {"vocab_size": 8, "hidden_size": 8, "intermediate_size": 8, "num_layers": 1, "num_heads": 1}
    config = ModelConfig(**sizes, num_kv_heads=1, head_dim=8, max_length=128)
    with pytest.warns(UserWarning, match="texts of up to 129 tokens exceed the 128 positions of the model"):
        preflight.warn_of_positions(config, 129)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        preflight.warn_of_positions(config, 128)
        preflight.warn_of_positions(dataclasses.replace(config, position="alibi"), 129)


def test_plain_texts_come_from_a_column_of_rows(tmp_path):
    path = tmp_path / "texts.jsonl"
    path.write_text(lines([{"text": "One.\n\nStill one."}, {"text": "Two."}]))
    assert plain_text.read_texts(path) == ["One.\n\nStill one.", "Two."]
    path.write_text(lines(ROWS))
    with pytest.raises(ValueError, match=r"texts.jsonl, row 0: a row must have a column text, got prompt, response"):
        plain_text.read_texts(path)
    (tmp_path / "plain.txt").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    with pytest.raises(ValueError, match="is a pointer of Git LFS"):
        plain_text.read_texts(tmp_path / "plain.txt")


def test_columns_that_no_schema_reads_are_carried_along(tmp_path):
    folder = save_to_disk(tmp_path / "saved", [{"id": 7, "prompt": "p", "topic": "doors"}, {"prompt": "q", "id": 8}])
    with pytest.warns(UserWarning, match="not read: topic"):
        rows = read_examples(folder)[0]
    assert dataset.carried_columns(rows) == [{"id": 7, "topic": "doors"}, {"id": 8, "topic": None}]
    assert dataset.carried_columns([*rows[1:], Example(("typed",))]) == [{"id": 8, "topic": None}, {}]

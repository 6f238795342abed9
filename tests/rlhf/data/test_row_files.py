"""Files and folders of rows as people have them: containers, compressions, saved data sets, pointers."""

import json

import pyarrow
import pyarrow.parquet
import pytest

from rlhf.data.files import read_rows
from rlhf.data.schemas import read_examples

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
    with pytest.raises(ValueError, match=r"must be one split of a data set, got test, train. Use .*saved/test"):
        read_rows(tmp_path / "saved")
    assert read_rows(tmp_path / "saved" / "train") == ROWS


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

"""Mutated files: each is read, or refused by an error of the project that names it; nothing else escapes."""

import csv
import gzip
import io
import json
import lzma
import random
import warnings

import pyarrow
import pyarrow.parquet
import pytest

from rlhf.data.schemas import read_examples

USER, BOT = {"role": "user", "content": "How é \U0001f600?"}, {"role": "assistant", "content": "So."}
ROWS = {
    "pku": {
        "prompt": "how?", "response_0": "so", "response_1": "not so", "is_response_0_safe": True,
        "is_response_1_safe": False, "better_response_id": 1, "safer_response_id": 0,
    },
    "beavertails": {"prompt": "how?", "response": "so", "category": {"theft": True, "lies": False}, "is_safe": False},
    "alpaca": {"instruction": "c", "input": "", "output": "d", "system": "kind", "history": [["a", "b"]]},
    "messages": {"messages": [{"role": "system", "content": "kind"}, USER, BOT], "prompt": USER["content"]},
    "preference": {"prompt": [USER], "chosen": [BOT], "rejected": [{"role": "assistant", "content": "No."}]},
    "marked": {"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: a\n\nAssistant: c"},
    "moss": {"chat": {"turn_1": {"Human": "a", "MOSS": "b"}}},
}  # fmt: skip
VALUES = (None, True, 0, -1, 2.5, 10**30, "", " ", "\ud800", "\n\nHuman: ", [], {}, [[]], [None], [{}], {"a": []})
VALUES += ([{"role": "user"}], [{"role": 3, "content": []}], {"turn_1": {}}, {"role": "assistant", "content": [1]})


def packed(suffix, rows):
    """Return the bytes of a file of rows."""
    text = "\n".join(json.dumps(row) for row in rows).encode()
    if suffix in (".jsonl", ".jsonl.gz", ".jsonl.xz", ".jsonl.zst"):
        return {".gz": gzip.compress, ".xz": lzma.compress, ".zst": zstd}.get(suffix[6:], bytes)(text)
    if suffix == ".json":
        return json.dumps({"data": rows}, indent=1).encode()
    if suffix == ".csv":
        file = io.StringIO(newline="")
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
        return file.getvalue().encode("utf-8", "surrogatepass")
    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), sink)
    return sink.getvalue().to_pybytes()


def zstd(text):
    return pyarrow.compress(text, codec="zstd", asbytes=True)


def mutated_bytes(data, rng):
    """Return bytes with one to four changes: bits, cuts, copies, and characters with a meaning in some format."""
    data = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at, size = rng.randrange(len(data) + 1), rng.randint(1, 12)
        change = rng.randrange(5)
        if change == 0 and at < len(data):
            data[at] ^= 1 << rng.randrange(8)
        elif change == 1:
            del data[at : at + size]
        elif change == 2:
            data[at:at] = data[at : at + size] * rng.randint(1, 3)
        elif change == 3:
            data[at:at] = rng.choice((b'"', b"{", b"]", b",", b"\n", b"\0", b"\xff", b"\\ud800", b"1e999", b"'", b"[["))
        else:
            data = data[: max(at, 1)]
    return bytes(data)


def mutated_value(value, rng):
    """Return a value with one part replaced, left out, or renamed."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(list(value))
        rest = {k: v for k, v in value.items() if k != key}
        change = rng.random()
        return rest if change < 0.15 else rest | {rng.choice(("x", "label", "prompt", "response")): value[key]} \
            if change < 0.3 else value | {key: mutated_value(value[key], rng)}  # fmt: skip
    if isinstance(value, list) and value and rng.random() < 0.8:
        at = rng.randrange(len(value))
        return [*value[:at], mutated_value(value[at], rng), *value[at + rng.randrange(2) :]]
    return rng.choice(VALUES)


def check(path, data):
    path.write_bytes(data)
    for skip in (False, True):
        try:
            examples, _ = read_examples(path, skip=skip)
        except (ValueError, FileNotFoundError) as error:
            assert type(error) in (ValueError, FileNotFoundError) and path.name in str(error), repr(error)
        else:
            for example in examples:
                texts = [*example.prompt, example.response or "", example.other_response or ""]
                assert len(example.prompt) % 2 == 1 and all(text.encode() is not None for text in texts)


def fuzz(tmp_path, suffix, count):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for number in range(count):
            rng = random.Random(f"{suffix} {number}")
            row = ROWS[rng.choice(list(ROWS))]
            rows = [row, row, row]
            if number % 2 and suffix != ".parquet":
                rows[1] = mutated_value(row, rng)
                if suffix == ".csv":
                    rows[1] = {key: rows[1].get(key) for key in row} if isinstance(rows[1], dict) else {}
                data = packed(suffix, rows)
            else:
                data = mutated_bytes(packed(suffix, rows), rng)
            try:
                check(tmp_path / f"rows{suffix}", data)
            except Exception as error:
                raise AssertionError(f"mutation {number} of {suffix}: {data[:2000]!r}") from error


SUFFIXES = (".jsonl", ".json", ".csv", ".parquet", ".jsonl.gz", ".jsonl.xz", ".jsonl.zst")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_mutated_file_is_read_or_refused(suffix, tmp_path):
    fuzz(tmp_path, suffix, 60)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_thousand_mutated_files_are_read_or_refused(suffix, tmp_path):
    fuzz(tmp_path, suffix, 1000)

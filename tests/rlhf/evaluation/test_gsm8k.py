"""GSM8K: problems, final numbers, and what counts as right."""

import json
import re

import pytest

from rlhf.evaluation import gsm8k
from tests.conftest import ROOT

DATA = ROOT.parent / "shared/data/rlhf/eval"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the shared data folder is not there")


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("so 3 + 4 = 7", 7.0),
        ("she has 1,234.5 left.", 1234.5),
        ("-2", -2.0),
        ("none", None),
        ("9 is wrong #### 8", 8.0),
    ],
)
def test_the_last_number_is_the_answer(text, number):
    assert gsm8k.final_number(text) == number


def test_a_problem_counts_up_to_the_next_question():
    problems = [gsm8k.Problem("2+2?", "It is <<2+2=4>>4 #### 4"), gsm8k.Problem("3+3?", "#### 6")]

    def answer(texts):
        assert all("<<" not in text for text in texts)
        return [" It is 4\n\nQuestion: 5+5? Answer: 10", " five"]

    assert gsm8k.gsm8k(answer, problems, problems[:1]) == (1, 2)


def test_a_problem_may_hold_characters_that_end_lines_elsewhere(tmp_path):
    path = tmp_path / "problems.jsonl"
    row = {"question": "2\u2028+2?", "answer": "4\u0085 #### 4"}
    path.write_bytes(f"{json.dumps(row, ensure_ascii=False)}\r\n\r\n".encode() * 2)
    assert gsm8k.read_problems(path) == [gsm8k.Problem(row["question"], row["answer"])] * 2


@needs_data
def test_the_published_files_are_read():
    problems = gsm8k.read_problems(DATA / "gsm8k/test.jsonl")
    assert len(problems) == 1319
    last = [json.loads(line)["answer"] for line in (DATA / "gsm8k/test.jsonl").read_text().splitlines()]
    expected = [float(re.sub(",", "", text.split("#### ")[1])) for text in last]
    assert [gsm8k.final_number(p.solution) for p in problems] == expected

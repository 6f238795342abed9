"""Multiple choice and GSM8K: what is read and asked, and what counts as right."""

import json
import re

import numpy as np
import pytest

from rlhf.evaluation import multiple_choice
from rlhf.tokenizer.tokenizer import Tokenizer
from tests.conftest import ROOT

DATA = ROOT.parent / "shared/data/rlhf/eval"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the shared data folder is not there")


class Characters:
    """A tokenizer of single characters."""

    def encode(self, text):
        return [ord(c) for c in text]

    def decode(self, ids):
        return "".join(map(chr, ids))


TOKENS = Tokenizer(None, Characters(), 60_000, None, 1, 0, "\x01")  # type: ignore[arg-type]


def oracle(answers):
    """A model that knows some answers: logits of the next character, by the last question of a prompt."""

    def logits(texts):
        found = np.zeros((len(texts), 200))
        for row, text in zip(found, texts, strict=True):
            question = text.rpartition("\n\n")[2].split("\n")[0]
            row[ord(answers.get(question, "A"))] = 1.0
            row[ord("E")] = 5.0  # likelier than any letter that counts, and no letter that counts
        return found

    return logits


@pytest.fixture
def subjects(tmp_path):
    header = ",Question,A,B,C,D,Answer\n"
    for part in ("dev", "test"):
        (tmp_path / part).mkdir()
    (tmp_path / "dev/law.csv").write_text(
        header + "".join(f"{i},solved {i},w,x,y,z,{'ABCD'[i % 4]}\n" for i in range(5))
    )
    (tmp_path / "test/law.csv").write_text(header + "0,first,1,2,3,4,C\n1,second,1,2,3,4,B\n2,third,1,2,3,4,A\n")
    (tmp_path / "dev/art_dev.csv").write_text("solved,w,x,y,z,D\n" * 5)
    (tmp_path / "test/art_test.csv").write_text('"fourth, with a comma",1,2,3,4,D\n')
    return tmp_path


def test_a_model_is_right_where_the_likeliest_letter_is(subjects):
    answers = {"first": "C", "second": "D", "fourth, with a comma": "D"}
    found = multiple_choice.multiple_choice(oracle(answers), TOKENS, subjects)
    assert found == {"art": (1, 1), "law": (2, 3), "all": (3, 4)}


def test_solved_questions_of_the_subject_come_first(subjects):
    seen = []

    def logits(texts):
        seen.extend(texts)
        return np.zeros((len(texts), 200))

    multiple_choice.multiple_choice(logits, TOKENS, subjects, shots=2)
    law = next(text for text in seen if text.endswith("first\nA. 1\nB. 2\nC. 3\nD. 4\nAnswer:"))
    assert law.startswith("solved 0\nA. w\nB. x\nC. y\nD. z\nAnswer: A\n\nsolved 1\n")
    assert law.count("Answer:") == 3


def test_rows_that_cannot_be_used_are_named(subjects):
    (subjects / "test/law.csv").write_text("a,b,c,d,e,F\n")
    with pytest.raises(ValueError, match="law.csv, row 0"):
        multiple_choice.multiple_choice(oracle({}), TOKENS, subjects)
    (subjects / "dev/law.csv").unlink()
    with pytest.raises(FileNotFoundError, match="law has no solved questions"):
        multiple_choice.multiple_choice(oracle({}), TOKENS, subjects)
    with pytest.raises(FileNotFoundError, match="no subjects"):
        multiple_choice.multiple_choice(oracle({}), TOKENS, subjects / "test")


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
    assert multiple_choice.final_number(text) == number


def test_a_problem_counts_up_to_the_next_question():
    problems = [multiple_choice.Problem("2+2?", "It is <<2+2=4>>4 #### 4"), multiple_choice.Problem("3+3?", "#### 6")]

    def answer(texts):
        assert all("<<" not in text for text in texts)
        return [" It is 4\n\nQuestion: 5+5? Answer: 10", " five"]

    assert multiple_choice.gsm8k(answer, problems, problems[:1]) == (1, 2)


def test_a_problem_may_hold_characters_that_end_lines_elsewhere(tmp_path):
    path = tmp_path / "problems.jsonl"
    row = {"question": "2\u2028+2?", "answer": "4\u0085 #### 4"}
    path.write_bytes(f"{json.dumps(row, ensure_ascii=False)}\r\n\r\n".encode() * 2)
    assert multiple_choice.read_problems(path) == [multiple_choice.Problem(row["question"], row["answer"])] * 2


def test_wilson_interval_of_a_known_case():
    """8 of 10: 0.490 to 0.943 (Wilson 1927; Agresti and Coull 1998)."""
    assert multiple_choice.Score(8, 10).interval() == pytest.approx((0.490, 0.943), abs=1e-3)


@needs_data
def test_the_published_files_are_read():
    problems = multiple_choice.read_problems(DATA / "gsm8k/test.jsonl")
    assert len(problems) == 1319
    last = [json.loads(line)["answer"] for line in (DATA / "gsm8k/test.jsonl").read_text().splitlines()]
    wanted = [float(re.sub(",", "", text.split("#### ")[1])) for text in last]
    assert [multiple_choice.final_number(p.solution) for p in problems] == wanted
    for part, least in (("dev", 5), ("test", 50)):
        for file in (DATA / "cmmlu" / part).glob("*.csv"):
            assert len(multiple_choice.read_questions(file)) >= least

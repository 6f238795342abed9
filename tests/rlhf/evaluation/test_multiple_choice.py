"""Multiple choice: questions, prompts, and what counts as right."""

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
        result = np.zeros((len(texts), 200))
        for row, text in zip(result, texts, strict=True):
            question = text.rpartition("\n\n")[2].split("\n")[0]
            row[ord(answers.get(question, "A"))] = 1.0
            row[ord("E")] = 5.0  # likelier than any letter that counts, and no letter that counts
        return result

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
    result = multiple_choice.multiple_choice(oracle(answers), TOKENS, subjects)
    assert result == {"art": (1, 1), "law": (2, 3), "all": (3, 4)}


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


@needs_data
def test_the_published_files_are_read():
    for part, least in (("dev", 5), ("test", 50)):
        for file in (DATA / "cmmlu" / part).glob("*.csv"):
            assert len(multiple_choice.read_questions(file)) >= least

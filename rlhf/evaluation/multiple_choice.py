"""Multiple-choice evaluation of language models in the layout of MMLU and CMMLU.

Five solved questions of the subject precede each question. The most likely of the letters A to D is the answer.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rlhf.evaluation.intervals import Accuracy
from rlhf.tokenizer.tokenizer import Tokenizer

LETTERS = "ABCD"
SHOTS = 5
ANSWER_PREFIX = {"en": "Answer:", "zh": "答案："}

NextLogits = Callable[[Sequence[str]], np.ndarray]
"""`texts -> [N, V]`, logits of the token after each text."""


class Question(NamedTuple):
    """A question with four choices.

    Attributes:
        text: the question.
        choices: four texts.
        answer: a letter of `LETTERS`.
    """

    text: str
    choices: tuple[str, ...]
    answer: str


def read_questions(path: Path) -> list[Question]:
    """Read a subject: CMMLU's table with a header, or MMLU's six columns without one.

    Raises:
        ValueError: a row does not have six columns, or its answer is no letter; the message names file and row.
    """
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.reader(file))
    if rows and rows[0][-6:] == ["Question", *LETTERS, "Answer"]:
        rows = [row[-6:] for row in rows[1:]]
    questions = []
    for number, row in enumerate(rows):
        if len(row) != 6 or row[5].strip() not in tuple(LETTERS):
            raise ValueError(f"{path}, row {number}: expected a question, four choices and a letter of {LETTERS}")
        questions.append(Question(row[0], tuple(row[1:5]), row[5].strip()))
    return questions


def format_question(question: Question, solved: Sequence[Question], language: str = "en") -> str:
    """Return the prompt of a question: the solved questions, then the question without its answer."""
    prefix = ANSWER_PREFIX[language]
    space = " " if language == "en" else ""

    def unanswered(q: Question) -> str:
        choices = "\n".join(f"{letter}. {choice}" for letter, choice in zip(LETTERS, q.choices, strict=True))
        return f"{q.text}\n{choices}\n{prefix}"

    return "".join(f"{unanswered(q)}{space}{q.answer}\n\n" for q in solved) + unanswered(question)


def letter_ids(tokenizer: Tokenizer, language: str = "en") -> list[int]:
    """Return the ids of the letters as they follow the end of a prompt."""
    prefix = ANSWER_PREFIX[language] + (" " if language == "en" else "")
    return [tokenizer.encode(prefix + letter)[-1] for letter in LETTERS]


def multiple_choice(
    next_logits: NextLogits, tokenizer: Tokenizer, folder: Path, *, language: str = "en", shots: int = SHOTS
) -> dict[str, Accuracy]:
    """Return the accuracy on every subject of a folder, and on `all` of them together.

    Args:
        next_logits: function of the model, see `rlhf.generation.answers.next_token_logits`.
        tokenizer: tokenizer of the model.
        folder: holds solved questions in `dev/SUBJECT.csv` (MMLU: `SUBJECT_dev.csv`), and the others in `test/`.
        language: `en` or `zh`.
        shots: number of solved questions in a prompt.

    Raises:
        FileNotFoundError: there is no subject, or a subject has no solved questions.
    """
    files = sorted((folder / "test").glob("*.csv"))
    if not files:
        raise FileNotFoundError(f"{folder} has no subjects: expected dev/SUBJECT.csv and test/SUBJECT.csv")
    letters = letter_ids(tokenizer, language)
    scores: dict[str, Accuracy] = {}
    for file in files:
        subject = file.stem.removesuffix("_test")
        candidates = [folder / "dev" / f"{subject}{end}.csv" for end in ("", "_dev")]
        solved = next((read_questions(path) for path in candidates if path.is_file()), None)
        if solved is None and shots:
            raise FileNotFoundError(f"{subject} has no solved questions: expected {candidates[0]}")
        questions = read_questions(file)
        logits = next_logits([format_question(q, (solved or [])[:shots], language) for q in questions])
        predicted = np.argmax(logits[:, letters], axis=-1)
        correct = sum(LETTERS[i] == q.answer for i, q in zip(predicted.tolist(), questions, strict=True))
        scores[subject] = Accuracy(correct, len(questions))
    total = Accuracy(sum(s.correct for s in scores.values()), sum(s.count for s in scores.values()))
    return {**scores, "all": total}

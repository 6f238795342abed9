"""What a language model knows and can reckon: multiple choice in the layout of MMLU and CMMLU, and GSM8K.

Multiple choice: five solved questions of the subject come first, and the likeliest of the letters A to D is the answer.
GSM8K (Cobbe et al. 2021): four solved problems come first, and the last number of what the model writes is the answer.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rlhf.data.files import lines_of
from rlhf.tokenizer.tokenizer import Tokenizer

LETTERS = "ABCD"
SHOTS, GSM8K_SHOTS = 5, 4
WORDS = {"en": ("Answer:", "Question: {question}\nAnswer: {answer}"), "zh": ("答案：", "")}

NextLogits = Callable[[Sequence[str]], np.ndarray]
"""`texts -> [N, V]`, logits of the token after each text."""

Answer = Callable[[Sequence[str]], list[str]]
"""`texts -> texts`, what the model writes after each."""


class Question(NamedTuple):
    """A question with four choices.

    Attributes:
        text: what is asked.
        choices: four texts.
        answer: a letter of `LETTERS`.
    """

    text: str
    choices: tuple[str, ...]
    answer: str


class Score(NamedTuple):
    """How many were right.

    Attributes:
        right: number of them.
        count: of all.
    """

    right: int
    count: int

    @property
    def accuracy(self) -> float:
        """Share of right answers."""
        return self.right / self.count if self.count else float("nan")

    def interval(self, z: float = 1.96) -> tuple[float, float]:
        """Wilson's interval of the share (95 % by default)."""
        if not self.count:
            return float("nan"), float("nan")
        n, p = self.count, self.accuracy
        middle = (p + z * z / (2 * n)) / (1 + z * z / n)
        half = z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
        return float(middle - half), float(middle + half)


def read_questions(path: Path) -> list[Question]:
    """Read a subject: CMMLU's table with a header, or MMLU's six columns without one.

    Raises:
        ValueError: a row has not six columns or its answer is no letter; the message names file and row.
    """
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    if rows and rows[0][-6:] == ["Question", *LETTERS, "Answer"]:
        rows = [row[-6:] for row in rows[1:]]
    found = []
    for number, row in enumerate(rows):
        if len(row) != 6 or row[5].strip() not in tuple(LETTERS):
            raise ValueError(f"{path}, row {number}: expected a question, four choices and a letter of {LETTERS}")
        found.append(Question(row[0], tuple(row[1:5]), row[5].strip()))
    return found


def prompt_of(question: Question, solved: Sequence[Question], language: str = "en") -> str:
    """Solved questions, and one that is not."""
    ask = WORDS[language][0]
    space = " " if language == "en" else ""

    def shown(q: Question) -> str:
        choices = "\n".join(f"{letter}. {choice}" for letter, choice in zip(LETTERS, q.choices, strict=True))
        return f"{q.text}\n{choices}\n{ask}"

    return "".join(f"{shown(q)}{space}{q.answer}\n\n" for q in solved) + shown(question)


def letter_ids(tokenizer: Tokenizer, language: str = "en") -> list[int]:
    """Ids of the tokens that say a letter behind a prompt's last word."""
    ask = WORDS[language][0] + (" " if language == "en" else "")
    return [tokenizer.encode(ask + letter)[-1] for letter in LETTERS]


def multiple_choice(
    next_logits: NextLogits, tokenizer: Tokenizer, folder: Path, *, language: str = "en", shots: int = SHOTS
) -> dict[str, Score]:
    """Score every subject of a folder with `dev` and `test`, and `all` of them together.

    Args:
        next_logits: of the model.
        tokenizer: of the model.
        folder: `dev/SUBJECT.csv` (MMLU: `SUBJECT_dev.csv`) has solved questions, `test/` likewise those to answer.
        language: `en` or `zh`.
        shots: solved questions that come first.

    Raises:
        FileNotFoundError: there is no subject, or a subject has no solved questions.
    """
    files = sorted((folder / "test").glob("*.csv"))
    if not files:
        raise FileNotFoundError(f"{folder} has no subjects: expected dev/SUBJECT.csv and test/SUBJECT.csv")
    letters = letter_ids(tokenizer, language)
    scores: dict[str, Score] = {}
    for file in files:
        subject = file.stem.removesuffix("_test")
        places = [folder / "dev" / f"{subject}{end}.csv" for end in ("", "_dev")]
        solved = next((read_questions(place) for place in places if place.is_file()), None)
        if solved is None and shots:
            raise FileNotFoundError(f"{subject} has no solved questions: expected {places[0]}")
        questions = read_questions(file)
        logits = next_logits([prompt_of(q, (solved or [])[:shots], language) for q in questions])
        said = np.argmax(logits[:, letters], axis=-1)
        right = sum(LETTERS[i] == q.answer for i, q in zip(said.tolist(), questions, strict=True))
        scores[subject] = Score(right, len(questions))
    total = Score(sum(s.right for s in scores.values()), sum(s.count for s in scores.values()))
    return {**scores, "all": total}


class Problem(NamedTuple):
    """A problem in words.

    Attributes:
        question: what is asked.
        solution: steps and, behind `####`, the number.
    """

    question: str
    solution: str


_CALCULATION = re.compile(r"<<.*?>>")
_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")


def read_problems(path: Path) -> list[Problem]:
    """Read GSM8K's lines of JSON.

    Raises:
        ValueError: a row has no question or its answer no number behind `####`; the message names file and row.
    """
    found = []
    for number, line in enumerate(lines_of(path.read_text(encoding="utf-8"))):
        if not line.strip():
            continue
        try:
            row: dict[str, Any] = json.loads(line)
            problem = Problem(row["question"], row["answer"])
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise ValueError(f"{path}, row {number}: not a problem with question and answer ({error})") from error
        if final_number(problem.solution) is None or "####" not in problem.solution:
            raise ValueError(f"{path}, row {number}: the answer has no number behind ####")
        found.append(problem)
    return found


def final_number(text: str) -> float | None:
    """The number behind `####`, or else the last one; None if there is none."""
    numbers = _NUMBER.findall(text.rpartition("####")[2])
    return float(numbers[-1].replace(",", "")) if numbers else None


def gsm8k(answer: Answer, problems: Sequence[Problem], solved: Sequence[Problem]) -> Score:
    """Score problems; what a model writes ends where it would ask itself the next question.

    Args:
        answer: of the model.
        problems: to solve.
        solved: come first.
    """
    form = WORDS["en"][1]

    def shown(problem: Problem) -> str:
        return form.format(question=problem.question, answer=_CALCULATION.sub("", problem.solution))

    first = "".join(shown(problem) + "\n\n" for problem in solved)
    said = answer([f"{first}Question: {problem.question}\nAnswer:" for problem in problems])
    numbers = [final_number(text.partition("Question:")[0]) for text in said]
    right = sum(n == final_number(p.solution) for n, p in zip(numbers, problems, strict=True))
    return Score(right, len(problems))

"""GSM8K (Cobbe et al. 2021): word problems whose answer is the last number of the model's text.

Four solved problems precede each problem.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rlhf.data.files import lines_of
from rlhf.evaluation.intervals import Accuracy

SHOTS = 4

Complete = Callable[[Sequence[str]], list[str]]
"""`texts -> texts`, the model's completion of each text."""


class Problem(NamedTuple):
    """A word problem.

    Attributes:
        question: the problem.
        solution: steps, `####`, and the number.
    """

    question: str
    solution: str


_CALCULATION = re.compile(r"<<.*?>>")
_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")


def read_problems(path: Path) -> list[Problem]:
    """Read the JSON lines of GSM8K.

    Raises:
        ValueError: a row has no question, or its answer has no number after `####`; the message names file and row.
    """
    problems = []
    for number, line in enumerate(lines_of(path.read_text(encoding="utf-8-sig"))):
        if not line.strip():
            continue
        try:
            row: dict[str, Any] = json.loads(line)
            problem = Problem(row["question"], row["answer"])
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise ValueError(f"{path}, row {number}: not a problem with question and answer ({error})") from error
        if final_number(problem.solution) is None or "####" not in problem.solution:
            raise ValueError(f"{path}, row {number}: the answer has no number behind ####")
        problems.append(problem)
    return problems


def read_split(path: Path, few_shot: Path | None = None) -> tuple[list[Problem], list[Problem]]:
    """Read the problems to solve and the solved ones that precede them.

    Args:
        path: problems to solve.
        few_shot: file whose first problems are the solved ones; None for the first problems of `path`. Problems to
            solve never include a solved one.
    """
    problems = read_problems(path)
    solved = (read_problems(few_shot) if few_shot else problems)[:SHOTS]
    return [problem for problem in problems if problem not in solved], solved


def final_number(text: str) -> float | None:
    """Return the number after `####`, or else the last one; None without a number."""
    numbers = _NUMBER.findall(text.rpartition("####")[2])
    return float(numbers[-1].replace(",", "")) if numbers else None


def gsm8k(complete: Complete, problems: Sequence[Problem], solved: Sequence[Problem]) -> Accuracy:
    """Return the accuracy on problems. A completion ends where the model starts the next question.

    Args:
        complete: completion function of the model, see `rlhf.generation.answers.completions`.
        problems: to solve.
        solved: precede each problem.
    """

    def example(problem: Problem) -> str:
        return f"Question: {problem.question}\nAnswer: {_CALCULATION.sub('', problem.solution)}"

    prefix = "".join(example(problem) + "\n\n" for problem in solved)
    texts = complete([f"{prefix}Question: {problem.question}\nAnswer:" for problem in problems])
    numbers = [final_number(text.partition("Question:")[0]) for text in texts]
    correct = sum(n == final_number(p.solution) for n, p in zip(numbers, problems, strict=True))
    return Accuracy(correct, len(problems))

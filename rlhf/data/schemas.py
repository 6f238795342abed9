"""What the published data sets say, in one form: a prompt, an answer, perhaps another, and what people made of them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rlhf.data.files import Entry, read_entries


class Sample(NamedTuple):
    """One row.

    Attributes:
        prompt: turns of user and assistant in alternation, the last one the user's.
        answer: what was answered, None in a data set of prompts.
        other: another answer, None where there is none.
        better: whether the answer is more helpful than the other.
        safer: whether it is less harmful than the other.
        safe: whether it is harmless.
        other_safe: whether the other is.
        labels: categories of harm of the answer, by name.
        source: file and row it came from, empty where it came from none.
    """

    prompt: tuple[str, ...]
    answer: str | None = None
    other: str | None = None
    better: bool | None = None
    safer: bool | None = None
    safe: bool | None = None
    other_safe: bool | None = None
    labels: Mapping[str, bool] | None = None
    source: str = ""


Row = Mapping[str, Any]


def _text(row: Row, key: str) -> str:
    value = row[key]
    if not isinstance(value, str):
        raise ValueError(f"{key!r} must be a text, got {value!r}")
    return value


def _truth(row: Row, key: str) -> bool:
    value = row[key]
    if not isinstance(value, bool):
        raise ValueError(f"{key!r} must be true or false, got {value!r}")
    return value


def _pick(row: Row, key: str) -> bool:
    value = row[key]
    if value not in (0, 1) or isinstance(value, bool):
        raise ValueError(f"{key!r} must be 0 or 1, got {value!r}")
    return value == 0


def pku_safe_rlhf(row: Row) -> Sample:
    """PKU-SafeRLHF: two answers, which is more helpful, which less harmful, and whether each is safe.

    Raises:
        ValueError: the less harmful answer is labelled harmful and the other is not.
    """
    found = Sample(
        prompt=(_text(row, "prompt"),),
        answer=_text(row, "response_0"),
        other=_text(row, "response_1"),
        better=_pick(row, "better_response_id"),
        safer=_pick(row, "safer_response_id"),
        safe=_truth(row, "is_response_0_safe"),
        other_safe=_truth(row, "is_response_1_safe"),
    )
    first, second = (found.safe, found.other_safe) if found.safer else (found.other_safe, found.safe)
    if second and not first:
        raise ValueError("'safer_response_id' points to a harmful answer although the other is safe")
    return found


def safe_and_unsafe(row: Row) -> Sample:
    """Pairs `{prompt, response: [safe, harmful]}`."""
    answers = row["response"]
    if not (isinstance(answers, list) and len(answers) == 2 and all(isinstance(a, str) for a in answers)):
        raise ValueError("'response' must be a list of two texts, the safe one first")
    return Sample((_text(row, "prompt"),), answers[0], answers[1], None, True, True, False)


def beavertails(row: Row) -> Sample:
    """BeaverTails: one answer with fourteen categories of harm.

    Raises:
        ValueError: `is_safe` is not what the categories say.
    """
    labels = row["category"]
    if not isinstance(labels, dict) or not all(isinstance(v, bool) for v in labels.values()):
        raise ValueError("'category' must be an object of true and false")
    safe = _truth(row, "is_safe")
    if safe == any(labels.values()):
        raise ValueError(f"'is_safe' is {safe}, and {sum(labels.values())} categories of harm are true")
    return Sample((_text(row, "prompt"),), _text(row, "response"), safe=safe, labels=dict(labels))


def judged(row: Row) -> Sample:
    """Answers with one verdict, `{prompt, response, label: Safe or Unsafe}`."""
    label = str(row["label"]).lower()
    if label not in ("safe", "unsafe"):
        raise ValueError(f"'label' must be Safe or Unsafe, got {row['label']!r}")
    return Sample((_text(row, "prompt"),), _text(row, "response"), safe=label == "safe")


def one_category(row: Row) -> Sample:
    """A harmful answer and its one category."""
    return Sample((_text(row, "prompt"),), _text(row, "response"), safe=False, labels={_text(row, "category"): True})


def question(row: Row) -> Sample:
    """A question and the one category of harm it was written for, as in BeaverTails' evaluation."""
    return Sample((_text(row, "prompt"),), labels={_text(row, "category"): True})


def bare(row: Row) -> Sample:
    """A prompt and nothing else."""
    return Sample((_text(row, "prompt"),))


def answered(row: Row) -> Sample:
    """A prompt and its answer, `{prompt, response}`, as `jsafe rlhf generate` writes them.

    The prompt may be a list of turns, and `question_category` the category of harm that it was written for.
    """
    turns, asked = row["prompt"], row.get("question_category")
    if isinstance(turns, list):
        if len(turns) % 2 == 0 or not all(isinstance(turn, str) for turn in turns):
            raise ValueError(f"'prompt' must be a text or an odd number of texts, got {turns!r}")
        prompt = tuple(turns)
    else:
        prompt = (_text(row, "prompt"),)
    return Sample(prompt, _text(row, "response"), labels={_text(row, "question_category"): True} if asked else None)


def alpaca(row: Row) -> Sample:
    """Alpaca: instruction and input, joined by a space, and the output."""
    given = row.get("input") or ""
    prompt = f"{_text(row, 'instruction')} {given}" if given else _text(row, "instruction")
    return Sample((prompt,), _text(row, "output"))


def firefly(row: Row) -> Sample:
    """Firefly: input and target."""
    return Sample((_text(row, "input"),), _text(row, "target"))


HUMAN, ASSISTANT = "\n\nHuman: ", "\n\nAssistant: "


def hh_rlhf(row: Row) -> Sample:
    """HH-RLHF: two dialogues that differ in their last answer, the chosen one better.

    Raises:
        ValueError: the dialogues do not alternate, or do not share their beginning.
    """
    (*context, answer), (*same, other) = _turns(_text(row, "chosen")), _turns(_text(row, "rejected"))
    if context != same:
        raise ValueError("'chosen' and 'rejected' differ in more than the last answer")
    return Sample(tuple(context), answer, other, better=True)


def _turns(text: str) -> list[str]:
    turns, speaker = [], HUMAN
    rest = text
    if not rest.startswith(HUMAN):
        raise ValueError(f"a dialogue must begin with {HUMAN!r}")
    while rest:
        rest = rest[len(speaker) :]
        following = ASSISTANT if speaker == HUMAN else HUMAN
        end = rest.find(following)
        turns.append(rest if end < 0 else rest[:end])
        rest, speaker = (rest[end:] if end >= 0 else ""), following
    if len(turns) % 2:
        raise ValueError("a dialogue must end with an answer of the assistant")
    return turns


def hh_rlhf_processed(row: Row) -> Sample:
    """HH-RLHF as Safe RLHF processed it: turns of the context, and two last answers, `{text}` each."""

    def text(turn: Any, where: str) -> str:
        if not isinstance(turn, dict) or "text" not in turn:
            raise ValueError(f"{where!r} must be an object with a 'text', got {turn!r}")
        return _text(turn, "text")

    context = row["context"]
    if not isinstance(context, list) or len(context) % 2 == 0:
        raise ValueError("'context' must be an odd number of turns, the last one the user's")
    prompt = tuple(text(turn, "context") for turn in context)
    return Sample(prompt, text(row["chosen"], "chosen"), text(row["rejected"], "rejected"), better=True)


def moss_002(row: Row) -> Sample:
    """MOSS 002: a dialogue as one text, `[Human]: ...<eoh> [MOSS]: ...<eoa>` in alternation."""
    turns = re.findall(r"\[(Human|MOSS)\]:(.*?)<eo[ha]>", _text(row, "plain_text"), re.DOTALL)
    return _dialogue([("Human", "MOSS").index(speaker) for speaker, _ in turns], [text.strip() for _, text in turns])


def moss_003(row: Row) -> Sample:
    """MOSS 003: a dialogue as `{turn_1: {Human, MOSS}, ...}`, with marks around each text."""
    chat = row["chat"]
    if not isinstance(chat, dict) or not all(isinstance(turn, dict) for turn in chat.values()):
        raise ValueError("'chat' must be an object of turns")
    texts = [
        re.sub(r"^\s*<\|(?:Human|MOSS)\|>:|<eo[hma]>\s*$", "", _text(chat[turn], speaker)).strip()
        for turn in sorted(chat, key=_number_of)
        for speaker in ("Human", "MOSS")
    ]
    return _dialogue([number % 2 for number in range(len(texts))], texts)


def _number_of(turn: str) -> int:
    if not (match := re.fullmatch(r"turn_(\d+)", turn)):
        raise ValueError(f"turns of 'chat' must be called turn_1, turn_2, ..., got {turn!r}")
    return int(match[1])


def _dialogue(speakers: Sequence[int], texts: Sequence[str]) -> Sample:
    """Turns of the user, 0, and of the assistant, 1, whose last answer is the sample's."""
    if not texts or list(speakers) != [number % 2 for number in range(len(texts))] or len(texts) % 2:
        raise ValueError("a dialogue must alternate between user and assistant, and end with the assistant")
    return Sample(tuple(texts[:-1]), texts[-1])


SCHEMAS: dict[str, Callable[[Row], Sample]] = {
    "PKU-SafeRLHF": pku_safe_rlhf,
    "safe-and-unsafe": safe_and_unsafe,
    "BeaverTails": beavertails,
    "judged": judged,
    "one-category": one_category,
    "BeaverTails-Evaluation": question,
    "alpaca": alpaca,
    "firefly": firefly,
    "hh-rlhf-processed": hh_rlhf_processed,
    "hh-rlhf": hh_rlhf,
    "moss-002-sft": moss_002,
    "moss-003-sft": moss_003,
    "answered": answered,
    "prompts": bare,
}
"""What a row may look like, by the name of the data set that introduced it."""

LOOKED_AT = 100
"""Rows at the beginning of a file that say what its rows are."""

KEYS: dict[str, tuple[str, ...]] = {
    "PKU-SafeRLHF": ("prompt", "response_0", "response_1", "safer_response_id"),
    "BeaverTails": ("prompt", "response", "category", "is_safe"),
    "judged": ("prompt", "response", "label"),
    "one-category": ("prompt", "response", "category"),
    "BeaverTails-Evaluation": ("prompt", "category"),
    "alpaca": ("instruction", "output"),
    "firefly": ("input", "target"),
    "hh-rlhf-processed": ("context", "chosen", "rejected"),
    "hh-rlhf": ("chosen", "rejected"),
    "moss-002-sft": ("plain_text",),
    "moss-003-sft": ("chat",),
    "answered": ("prompt", "response"),
    "prompts": ("prompt",),
}
"""What tells a schema, the more particular ones first."""

SCHEMAS_BY_KEYS = ("safe-and-unsafe", *KEYS)
"""All of them, the more particular ones first; the first is told by its list of answers."""


def schema_of(row: Row) -> str:
    """The schema of a row, by its keys.

    Raises:
        ValueError: none fits; the message lists the keys found and those known.
    """
    if isinstance(row.get("response"), list):
        return "safe-and-unsafe"
    for name, keys in KEYS.items():
        if all(key in row for key in keys):
            return name
    known = "; ".join(f"{name}: {', '.join(keys)}" for name, keys in KEYS.items())
    raise ValueError(f"keys {', '.join(map(str, row))} fit no known schema ({known})")


def schema_of_all(entries: Sequence[Entry]) -> str:
    """The schema that most of the first rows fit, so that a stray one does not decide; of two, the more particular one.

    Raises:
        ValueError: none fits any of them; the message is that of the first.
    """
    order = {name: place for place, name in enumerate(SCHEMAS_BY_KEYS)}
    found: Counter[str] = Counter()
    faults = []
    for entry in [entry for entry in entries if not entry.fault][:LOOKED_AT]:
        try:
            found[schema_of(entry.row)] += 1
        except ValueError as error:
            faults.append(f"{entry.source}: {error}")
    if not found:
        raise ValueError(faults[0])
    return min(found, key=lambda name: (-found[name], order[name]))


def load(path: Path, schema: str | None = None, *, skip: bool = False) -> tuple[list[Sample], list[str]]:
    """Read a file or a folder.

    Args:
        path: what to read.
        schema: one of `SCHEMAS`; None for the one that the keys of most of the first rows fit, for each file.
        skip: leave rows out that cannot be read or used, instead of refusing the file.

    Returns:
        The samples, and for each row that was left out a line that says which and why.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a row cannot be read or used; the message names the file and the row.
    """
    entries = read_entries(path)
    faults = [f"{entry.source}: {entry.fault}" for entry in entries if entry.fault]
    if faults and not skip:
        raise ValueError(faults[0])
    if len(faults) == len(entries):
        raise ValueError(f"{path} holds no rows" + (f" that can be read; {faults[0]}" if faults else ""))
    by_file: dict[str, list[Entry]] = {}
    for entry in entries:
        by_file.setdefault(entry.source.rpartition(", row ")[0], []).append(entry)
    readers: dict[str, Callable[[Row], Sample]] = {}
    for name, rows in by_file.items():
        if schema or not all(entry.fault for entry in rows):
            readers[name] = SCHEMAS[schema or schema_of_all(rows)]
    samples, left_out = [], []
    for entry in entries:
        try:
            if entry.fault:
                raise ValueError(entry.fault)
            samples.append(
                _used(readers[entry.source.rpartition(", row ")[0]](entry.row))._replace(source=entry.source)
            )
        except (KeyError, ValueError) as error:
            reason = f"there is no field {error}" if isinstance(error, KeyError) else str(error)
            line = f"{entry.source}: {reason}"
            if not skip:
                raise ValueError(line) from error
            left_out.append(line)
    return samples, left_out


def _used(sample: Sample) -> Sample:
    if not all(turn.strip() for turn in sample.prompt):
        raise ValueError("the prompt is empty")
    for answer in (sample.answer, sample.other):
        if answer is not None and not answer.strip():
            raise ValueError("an answer is empty")
    return sample

"""Schemas of the published data sets, read into one form: a prompt, one or two responses, and human labels."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rlhf.data.files import Entry, read_entries


class Example(NamedTuple):
    """One row of a data set.

    Attributes:
        prompt: turns of user and assistant in alternation; the last one is the user's.
        response: the response, None in a data set of prompts.
        other_response: a second response, None without.
        better: True if the response is more helpful than the other one.
        safer: True if it is less harmful than the other one.
        safe: True if it is harmless.
        other_safe: True if the other response is harmless.
        labels: categories of harm of the response, by name.
        source: file and row, empty for a row without a file.
    """

    prompt: tuple[str, ...]
    response: str | None = None
    other_response: str | None = None
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


def pku_safe_rlhf(row: Row) -> Example:
    """PKU-SafeRLHF: two responses with labels of helpfulness, of harm, and of safety.

    Raises:
        ValueError: the less harmful response is labelled harmful and the other is not.
    """
    example = Example(
        prompt=(_text(row, "prompt"),),
        response=_text(row, "response_0"),
        other_response=_text(row, "response_1"),
        better=_pick(row, "better_response_id"),
        safer=_pick(row, "safer_response_id"),
        safe=_truth(row, "is_response_0_safe"),
        other_safe=_truth(row, "is_response_1_safe"),
    )
    first, second = (example.safe, example.other_safe) if example.safer else (example.other_safe, example.safe)
    if second and not first:
        raise ValueError("'safer_response_id' points to a harmful answer although the other is safe")
    return example


def safe_and_unsafe(row: Row) -> Example:
    """Pairs `{prompt, response: [safe, harmful]}`."""
    answers = row["response"]
    if not (isinstance(answers, list) and len(answers) == 2 and all(isinstance(a, str) for a in answers)):
        raise ValueError("'response' must be a list of two texts, the safe one first")
    return Example((_text(row, "prompt"),), answers[0], answers[1], None, True, True, False)


def beavertails(row: Row) -> Example:
    """BeaverTails: one response with fourteen categories of harm.

    Raises:
        ValueError: `is_safe` contradicts the categories.
    """
    labels = row["category"]
    if not isinstance(labels, dict) or not all(isinstance(v, bool) for v in labels.values()):
        raise ValueError("'category' must be an object of true and false")
    safe = _truth(row, "is_safe")
    if safe == any(labels.values()):
        raise ValueError(f"'is_safe' is {safe}, and {sum(labels.values())} categories of harm are true")
    return Example((_text(row, "prompt"),), _text(row, "response"), safe=safe, labels=dict(labels))


def single_verdict(row: Row) -> Example:
    """Responses with one verdict, `{prompt, response, label: Safe or Unsafe}`."""
    label = str(row["label"]).lower()
    if label not in ("safe", "unsafe"):
        raise ValueError(f"'label' must be Safe or Unsafe, got {row['label']!r}")
    return Example((_text(row, "prompt"),), _text(row, "response"), safe=label == "safe")


def one_category(row: Row) -> Example:
    """A harmful response and its category."""
    return Example((_text(row, "prompt"),), _text(row, "response"), safe=False, labels={_text(row, "category"): True})


def question(row: Row) -> Example:
    """A question and the category of harm it was written for, as in the evaluation of BeaverTails."""
    return Example((_text(row, "prompt"),), labels={_text(row, "category"): True})


def prompt_only(row: Row) -> Example:
    """A prompt alone."""
    return Example((_text(row, "prompt"),))


def answered(row: Row) -> Example:
    """A prompt and its response, `{prompt, response}`, as `jsafe rlhf generate` writes them.

    The prompt may be a list of turns, and `question_category` the category of harm it was written for.
    """
    turns, category = row["prompt"], row.get("question_category")
    if isinstance(turns, list):
        if len(turns) % 2 == 0 or not all(isinstance(turn, str) for turn in turns):
            raise ValueError(f"'prompt' must be a text or an odd number of texts, got {turns!r}")
        prompt = tuple(turns)
    else:
        prompt = (_text(row, "prompt"),)
    return Example(prompt, _text(row, "response"), labels={_text(row, "question_category"): True} if category else None)


def alpaca(row: Row) -> Example:
    """Alpaca: instruction and input, joined by a space, and the output."""
    extra = row.get("input") or ""
    prompt = f"{_text(row, 'instruction')} {extra}" if extra else _text(row, "instruction")
    return Example((prompt,), _text(row, "output"))


def firefly(row: Row) -> Example:
    """Firefly: input and target."""
    return Example((_text(row, "input"),), _text(row, "target"))


HUMAN, ASSISTANT = "\n\nHuman: ", "\n\nAssistant: "


def hh_rlhf(row: Row) -> Example:
    """HH-RLHF: a chosen and a rejected dialogue, which differ in their last response.

    Raises:
        ValueError: the dialogues do not alternate, or have different beginnings.
    """
    (*context, chosen), (*same, rejected) = _turns(_text(row, "chosen")), _turns(_text(row, "rejected"))
    if context != same:
        raise ValueError("'chosen' and 'rejected' differ in more than the last answer")
    return Example(tuple(context), chosen, rejected, better=True)


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


def hh_rlhf_processed(row: Row) -> Example:
    """HH-RLHF as processed by Safe RLHF: turns of the context, and two last responses, `{text}` each."""

    def text(turn: Any, field: str) -> str:
        if not isinstance(turn, dict) or "text" not in turn:
            raise ValueError(f"{field!r} must be an object with a 'text', got {turn!r}")
        return _text(turn, "text")

    context = row["context"]
    if not isinstance(context, list) or len(context) % 2 == 0:
        raise ValueError("'context' must be an odd number of turns, the last one the user's")
    prompt = tuple(text(turn, "context") for turn in context)
    return Example(prompt, text(row["chosen"], "chosen"), text(row["rejected"], "rejected"), better=True)


def moss_002(row: Row) -> Example:
    """MOSS 002: a dialogue as one text, `[Human]: ...<eoh> [MOSS]: ...<eoa>` in alternation."""
    turns = re.findall(r"\[(Human|MOSS)\]:(.*?)<eo[ha]>", _text(row, "plain_text"), re.DOTALL)
    return _dialogue([("Human", "MOSS").index(speaker) for speaker, _ in turns], [text.strip() for _, text in turns])


def moss_003(row: Row) -> Example:
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


def _dialogue(speakers: Sequence[int], texts: Sequence[str]) -> Example:
    """Turns of the user, 0, and of the assistant, 1. The last one is the response."""
    if not texts or list(speakers) != [number % 2 for number in range(len(texts))] or len(texts) % 2:
        raise ValueError("a dialogue must alternate between user and assistant, and end with the assistant")
    return Example(tuple(texts[:-1]), texts[-1])


SCHEMAS: dict[str, Callable[[Row], Example]] = {
    "PKU-SafeRLHF": pku_safe_rlhf,
    "safe-and-unsafe": safe_and_unsafe,
    "BeaverTails": beavertails,
    "judged": single_verdict,
    "one-category": one_category,
    "BeaverTails-Evaluation": question,
    "alpaca": alpaca,
    "firefly": firefly,
    "hh-rlhf-processed": hh_rlhf_processed,
    "hh-rlhf": hh_rlhf,
    "moss-002-sft": moss_002,
    "moss-003-sft": moss_003,
    "answered": answered,
    "prompts": prompt_only,
}
"""Readers of rows, by the name of the data set that introduced the schema."""

SCHEMA_ROWS = 100
"""Number of rows at the beginning of a file that decide its schema."""

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
"""Keys that identify a schema, more specific schemas first."""

SCHEMAS_BY_KEYS = ("safe-and-unsafe", *KEYS)
"""All schemas, more specific ones first. The first one is recognised by its list of responses."""


def schema_of(row: Row) -> str:
    """Return the schema of a row by its keys.

    Raises:
        ValueError: no schema fits; the message lists the keys.
    """
    if isinstance(row.get("response"), list):
        return "safe-and-unsafe"
    for name, keys in KEYS.items():
        if all(key in row for key in keys):
            return name
    listed = "; ".join(f"{name}: {', '.join(keys)}" for name, keys in KEYS.items())
    raise ValueError(f"keys {', '.join(map(str, row))} fit no known schema ({listed})")


def schema_of_all(entries: Sequence[Entry]) -> str:
    """Return the schema that fits most of the first rows, so that a stray row does not decide. Ties go to the more
    specific schema.

    Raises:
        ValueError: no schema fits any of the rows.
    """
    order = {name: rank for rank, name in enumerate(SCHEMAS_BY_KEYS)}
    counts: Counter[str] = Counter()
    faults = []
    for entry in [entry for entry in entries if not entry.fault][:SCHEMA_ROWS]:
        try:
            counts[schema_of(entry.row)] += 1
        except ValueError as error:
            faults.append(f"{entry.source}: {error}")
    if not counts:
        raise ValueError(faults[0])
    return min(counts, key=lambda name: (-counts[name], order[name]))


def read_examples(path: Path, schema: str | None = None, *, skip: bool = False) -> tuple[list[Example], list[str]]:
    """Read the rows of a file or of a folder.

    Args:
        path: file or folder.
        schema: one of `SCHEMAS`; None for the schema that fits most of the first rows of each file.
        skip: leave out rows that cannot be read or used instead of raising.

    Returns:
        The rows, and for each row that was left out a line with its source and the reason.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a row cannot be read or used; the message names the file and the row.
    """
    entries = read_entries(path)
    faults = [f"{entry.source}: {entry.fault}" for entry in entries if entry.fault]
    if faults and not skip:
        raise ValueError(faults[0])
    if len(faults) == len(entries):
        raise ValueError(f"{path} has no rows" + (f" that can be read; {faults[0]}" if faults else ""))
    by_file: dict[str, list[Entry]] = {}
    for entry in entries:
        by_file.setdefault(entry.source.rpartition(", row ")[0], []).append(entry)
    readers: dict[str, Callable[[Row], Example]] = {}
    for name, rows in by_file.items():
        if schema or not all(entry.fault for entry in rows):
            readers[name] = SCHEMAS[schema or schema_of_all(rows)]
    examples, left_out = [], []
    for entry in entries:
        try:
            if entry.fault:
                raise ValueError(entry.fault)
            examples.append(
                _checked_texts(readers[entry.source.rpartition(", row ")[0]](entry.row))._replace(source=entry.source)
            )
        except (KeyError, ValueError) as error:
            reason = f"there is no field {error}" if isinstance(error, KeyError) else str(error)
            line = f"{entry.source}: {reason}"
            if not skip:
                raise ValueError(line) from error
            left_out.append(line)
    return examples, left_out


def _checked_texts(example: Example) -> Example:
    if not all(turn.strip() for turn in example.prompt):
        raise ValueError("the prompt is empty")
    for response in (example.response, example.other_response):
        if response is not None and not response.strip():
            raise ValueError("an answer is empty")
    return example

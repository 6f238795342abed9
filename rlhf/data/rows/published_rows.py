"""Rows of the published data sets of preferences, of harm, and of two languages' dialogues."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from rlhf.data.rows.example import Example, Row, is_first, shown, text_of, truth_of


def pku_safe_rlhf(row: Row) -> Example:
    """PKU-SafeRLHF: two responses with labels of helpfulness, of harm, and of safety.

    Raises:
        ValueError: the less harmful response is labelled harmful and the other is not.
    """
    example = Example(
        prompt=(text_of(row, "prompt"),),
        response=text_of(row, "response_0"),
        other_response=text_of(row, "response_1"),
        better=is_first(row, "better_response_id"),
        safer=is_first(row, "safer_response_id"),
        safe=truth_of(row, "is_response_0_safe"),
        other_safe=truth_of(row, "is_response_1_safe"),
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
    return Example((text_of(row, "prompt"),), answers[0], answers[1], None, True, True, False)


def beavertails(row: Row) -> Example:
    """BeaverTails: one response with fourteen categories of harm.

    Raises:
        ValueError: `is_safe` contradicts the categories.
    """
    labels = row["category"]
    if not isinstance(labels, dict) or not all(isinstance(v, bool) for v in labels.values()):
        raise ValueError("'category' must be an object of true and false")
    safe = truth_of(row, "is_safe")
    if safe == any(labels.values()):
        raise ValueError(f"'is_safe' is {safe}, and {sum(labels.values())} categories of harm are true")
    return Example((text_of(row, "prompt"),), text_of(row, "response"), safe=safe, labels=dict(labels))


def single_verdict(row: Row) -> Example:
    """Responses with one verdict, `{prompt, response, label: Safe or Unsafe}`."""
    label = str(row["label"]).lower()
    if label not in ("safe", "unsafe"):
        raise ValueError(f"'label' must be Safe or Unsafe, got {shown(row['label'])}")
    return Example((text_of(row, "prompt"),), text_of(row, "response"), safe=label == "safe")


def one_category(row: Row) -> Example:
    """A harmful response and its category."""
    return Example(
        (text_of(row, "prompt"),), text_of(row, "response"), safe=False, labels={text_of(row, "category"): True}
    )


def question(row: Row) -> Example:
    """A question and the category of harm it was written for, as in the evaluation of BeaverTails."""
    return Example((text_of(row, "prompt"),), labels={text_of(row, "category"): True})


def prompt_only(row: Row) -> Example:
    """A prompt alone."""
    return Example((text_of(row, "prompt"),))


def answered(row: Row) -> Example:
    """A prompt and its response, `{prompt, response}`, as `jsafe rlhf generate` writes them.

    The prompt may be a list of turns, and `question_category` the category of harm it was written for.
    """
    turns, category = row["prompt"], row.get("question_category")
    if isinstance(turns, list):
        if len(turns) % 2 == 0 or not all(isinstance(turn, str) for turn in turns):
            raise ValueError(f"'prompt' must be a text or an odd number of texts, got {shown(turns)}")
        prompt = tuple(turns)
    else:
        prompt = (text_of(row, "prompt"),)
    return Example(
        prompt, text_of(row, "response"), labels={text_of(row, "question_category"): True} if category else None
    )


def firefly(row: Row) -> Example:
    """Firefly: input and target."""
    return Example((text_of(row, "input"),), text_of(row, "target"))


HUMAN, ASSISTANT = "\n\nHuman: ", "\n\nAssistant: "


def hh_rlhf(row: Row) -> Example:
    """HH-RLHF: a chosen and a rejected dialogue, which differ in their last response.

    Raises:
        ValueError: the dialogues do not alternate, or have different beginnings.
    """
    (*context, chosen), (*same, rejected) = _turns(text_of(row, "chosen")), _turns(text_of(row, "rejected"))
    if context != same:
        raise ValueError("'chosen' and 'rejected' differ in more than the last answer")
    return Example(tuple(context), chosen, rejected, better=True)


def _turns(text: str) -> list[str]:
    turns = marked_turns(text)
    if len(turns) % 2:
        raise ValueError("a dialogue must end with an answer of the assistant")
    return turns


def marked_turns(text: str) -> list[str]:
    """Return the turns of a dialogue with the marks of HH-RLHF. An empty last turn of the assistant is left out.

    Raises:
        ValueError: the text does not begin with the mark of the user.
    """
    turns, speaker = [], HUMAN
    rest = text.removesuffix(ASSISTANT.rstrip())
    if not rest.startswith(HUMAN):
        raise ValueError(
            f"a dialogue must begin with {HUMAN!r}, got {shown(text)}. If the prompts have a column of their own, name "
            "it by --columns prompt=NAME"
        )
    while rest:
        rest = rest[len(speaker) :]
        following = ASSISTANT if speaker == HUMAN else HUMAN
        end = rest.find(following)
        turns.append(rest if end < 0 else rest[:end])
        rest, speaker = (rest[end:] if end >= 0 else ""), following
    return turns


def hh_rlhf_processed(row: Row) -> Example:
    """HH-RLHF as processed by Safe RLHF: turns of the context, and two last responses, `{text}` each."""

    def text(turn: Any, field: str) -> str:
        if not isinstance(turn, dict) or "text" not in turn:
            raise ValueError(f"{field!r} must be an object with a 'text', got {shown(turn)}")
        return text_of(turn, "text")

    context = row["context"]
    if not isinstance(context, list) or len(context) % 2 == 0:
        raise ValueError("'context' must be an odd number of turns, the last one the user's")
    prompt = tuple(text(turn, "context") for turn in context)
    return Example(prompt, text(row["chosen"], "chosen"), text(row["rejected"], "rejected"), better=True)


def moss_002(row: Row) -> Example:
    """MOSS 002: a dialogue as one text, `[Human]: ...<eoh> [MOSS]: ...<eoa>` in alternation."""
    turns = re.findall(r"\[(Human|MOSS)\]:(.*?)<eo[ha]>", text_of(row, "plain_text"), re.DOTALL)
    return _dialogue([("Human", "MOSS").index(speaker) for speaker, _ in turns], [text.strip() for _, text in turns])


def moss_003(row: Row) -> Example:
    """MOSS 003: a dialogue as `{turn_1: {Human, MOSS}, ...}`, with marks around each text."""
    chat = row["chat"]
    if not isinstance(chat, dict) or not all(isinstance(turn, dict) for turn in chat.values()):
        raise ValueError("'chat' must be an object of turns")
    texts = [
        re.sub(r"^\s*<\|(?:Human|MOSS)\|>:|<eo[hma]>\s*$", "", text_of(chat[turn], speaker)).strip()
        for turn in sorted(chat, key=_number_of)
        for speaker in ("Human", "MOSS")
    ]
    return _dialogue([number % 2 for number in range(len(texts))], texts)


def _number_of(turn: str) -> int:
    if not (match := re.fullmatch(r"turn_(\d+)", turn)):
        raise ValueError(f"turns of 'chat' must be called turn_1, turn_2, ..., got {shown(turn)}")
    return int(match[1])


def _dialogue(speakers: Sequence[int], texts: Sequence[str]) -> Example:
    """Turns of the user, 0, and of the assistant, 1. The last one is the response."""
    if not texts or list(speakers) != [number % 2 for number in range(len(texts))] or len(texts) % 2:
        raise ValueError("a dialogue must alternate between user and assistant, and end with the assistant")
    return Example(tuple(texts[:-1]), texts[-1])

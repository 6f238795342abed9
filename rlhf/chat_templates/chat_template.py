"""Conversations as tokens, in the template that a model's tokenizer names: Safe RLHF's text, or Baichuan 2's roles."""

from __future__ import annotations

from collections.abc import Sequence

from rlhf.chat_templates.baichuan2 import ASSISTANT as ASSISTANT_ID
from rlhf.chat_templates.baichuan2 import Message, chat_ids, whole_example
from rlhf.chat_templates.safe_rlhf import ASSISTANT, BAICHUAN, IGNORED, format_prompt
from rlhf.tokenizer.tokenizer import Tokenizer

ENDLESS = 1 << 31
"""Room for any conversation."""


def _messages(turns: Sequence[str]) -> list[Message]:
    return [Message("assistant" if number % 2 else "user", turn) for number, turn in enumerate(turns)]


def prompt_ids(turns: Sequence[str], tokenizer: Tokenizer, room: int = ENDLESS) -> list[int]:
    """Ids that ask for an answer.

    Args:
        turns: of user and assistant in alternation, the last one the user's.
        tokenizer: of the model; names the template.
        room: tokens; Baichuan 2's template leaves older rounds out that do not fit. A newest round that does not fit by
            itself comes whole in either template, and so does a whole conversation in that of Safe RLHF.

    Raises:
        ValueError: the number of turns is even.
    """
    text = format_prompt(turns, tokenizer.eos_text)
    if tokenizer.template != BAICHUAN:
        return tokenizer.encode(text)
    newest = chat_ids(_messages(turns[-1:]), tokenizer, ENDLESS)
    return newest if len(newest) > room else chat_ids(_messages(turns), tokenizer, room)


def answered_ids(turns: Sequence[str], answer: str, tokenizer: Tokenizer) -> tuple[list[int], int]:
    """Ids of prompt, answer and end, and how many are the prompt's."""
    asked = prompt_ids(turns, tokenizer)
    if tokenizer.template == BAICHUAN:
        return [*asked, *tokenizer.encode(answer, start=False), tokenizer.eos], len(asked)
    # As one text, since tokens may span the place where the answer begins.
    text = format_prompt(turns, tokenizer.eos_text) + answer
    return [*tokenizer.encode(text), tokenizer.eos], len(asked)


def learned_ids(turns: Sequence[str], answer: str, tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    """Ids and labels of a dialogue: every answer is learned, and the end behind it.

    In Safe RLHF's template turns end where the tokens of the text up to their end do; in Baichuan 2's the label of a
    later turn of the user begins with the end of a text (`rlhf.chat_templates.baichuan2`). Both as published.
    """
    said, end = [*turns, answer], tokenizer.eos_text
    if tokenizer.template == BAICHUAN:
        return whole_example(_messages(said), tokenizer)
    ids: list[int] = []
    labels: list[int] = []
    for number in range(1, len(said), 2):
        asked = format_prompt(said[:number], end)
        begin = len(tokenizer.encode(asked))
        ids = tokenizer.encode(asked + said[number] + end)
        labels += [IGNORED] * (begin - len(labels)) + ids[begin:]
    return ids, labels


def answer_marker(tokenizer: Tokenizer) -> tuple[int, ...]:
    """The last ids before an answer, by which a model tells where it begins."""
    if tokenizer.template == BAICHUAN:
        return (ASSISTANT_ID,)
    return tuple(tokenizer.encode(f" {ASSISTANT}", start=False)[-2:])

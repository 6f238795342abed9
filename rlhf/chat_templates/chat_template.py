"""Conversations as tokens, in the template of the tokenizer: text of Safe RLHF, or roles of Baichuan 2."""

from __future__ import annotations

from collections.abc import Sequence

from rlhf.chat_templates.baichuan2 import ASSISTANT as ASSISTANT_ID
from rlhf.chat_templates.baichuan2 import Message, chat_ids, whole_example
from rlhf.chat_templates.safe_rlhf import ASSISTANT, BAICHUAN, IGNORED, format_prompt
from rlhf.tokenizer.tokenizer import Tokenizer

ENDLESS = 1 << 31
"""Budget that fits any conversation."""


def _messages(turns: Sequence[str]) -> list[Message]:
    return [Message("assistant" if number % 2 else "user", turn) for number, turn in enumerate(turns)]


def prompt_ids(turns: Sequence[str], tokenizer: Tokenizer, room: int = ENDLESS) -> list[int]:
    """Return the ids of a prompt.

    Args:
        turns: turns of user and assistant in alternation; the last one is the user's.
        tokenizer: tokenizer of the model, which has the template.
        room: maximum number of tokens; the template of Baichuan 2 drops older rounds that do not fit. A newest round
            that does not fit alone is returned in full in either template, and so is any conversation in that of Safe
            RLHF.

    Raises:
        ValueError: the number of turns is even.
    """
    text = format_prompt(turns, tokenizer.eos_text)
    if tokenizer.template != BAICHUAN:
        return tokenizer.encode(text)
    newest = chat_ids(_messages(turns[-1:]), tokenizer, ENDLESS)
    return newest if len(newest) > room else chat_ids(_messages(turns), tokenizer, room)


def answered_ids(turns: Sequence[str], answer: str, tokenizer: Tokenizer) -> tuple[list[int], int]:
    """Return the ids of prompt, answer and end, and the number of ids of the prompt."""
    prompt = prompt_ids(turns, tokenizer)
    if tokenizer.template == BAICHUAN:
        return [*prompt, *tokenizer.encode(answer, start=False), tokenizer.eos], len(prompt)
    # Encoded as one text, because tokens may span the start of the answer.
    text = format_prompt(turns, tokenizer.eos_text) + answer
    return [*tokenizer.encode(text), tokenizer.eos], len(prompt)


def learned_ids(turns: Sequence[str], answer: str, tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    """Return the ids and labels of a dialogue; every answer is learned, with its end-of-text token.

    In the template of Safe RLHF, a turn ends with the tokens of the text up to its end. In that of Baichuan 2,
    the labels of a later turn of the user start with the end of a text (`rlhf.chat_templates.baichuan2`). Both are as
    published.
    """
    dialogue, end = [*turns, answer], tokenizer.eos_text
    if tokenizer.template == BAICHUAN:
        return whole_example(_messages(dialogue), tokenizer)
    ids: list[int] = []
    labels: list[int] = []
    for number in range(1, len(dialogue), 2):
        prompt = format_prompt(dialogue[:number], end)
        begin = len(tokenizer.encode(prompt))
        ids = tokenizer.encode(prompt + dialogue[number] + end)
        labels += [IGNORED] * (begin - len(labels)) + ids[begin:]
    return ids, labels


def answer_marker(tokenizer: Tokenizer) -> tuple[int, ...]:
    """Return the last ids before an answer, which mark its start for a model."""
    if tokenizer.template == BAICHUAN:
        return (ASSISTANT_ID,)
    return tuple(tokenizer.encode(f" {ASSISTANT}", start=False)[-2:])

"""Conversations of Baichuan 2: role tokens, truncation to the context, and labels.

Source: the generation utilities and the fine-tuning script of Baichuan 2's repository.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rlhf.chat_templates.safe_rlhf import IGNORED
from rlhf.tokenizer.tokenizer import Tokenizer

USER, ASSISTANT = 195, 196
"""Ids at the start of a turn of the user and of the assistant."""

ROLES = ("system", "user", "assistant")


class Message(NamedTuple):
    """One turn.

    Attributes:
        role: one of `ROLES`.
        content: text of the turn.
    """

    role: str
    content: str


def chat_ids(messages: Sequence[Message], tokenizer: Tokenizer, budget: int) -> list[int]:
    """Return the ids of a conversation that waits for an answer, in at most `budget` tokens.

    A system text comes first, without a role. The newest round is always included, older ones as long as they fit. A
    conversation that is still too long loses its beginning.

    Args:
        messages: at least one turn of the user.
        tokenizer: tokenizer of the model.
        budget: maximum number of tokens.

    Raises:
        ValueError: no turn of the user, a system text that is not first, or an unknown role.
    """
    for number, message in enumerate(messages):
        if message.role not in ROLES:
            raise ValueError(f"role must be one of {', '.join(ROLES)}, got {message.role!r}")
        if message.role == "system" and number:
            raise ValueError("the system text must be the first message")
    system = messages[0].content if messages and messages[0].role == "system" else ""
    before = tokenizer.encode(system, start=False) if system else []
    rounds: list[list[int]] = []
    turns = messages[1:] if messages and messages[0].role == "system" else messages
    for message in turns:
        if message.role == "user" or not rounds:
            rounds.append([])
        marker = USER if message.role == "user" else ASSISTANT
        rounds[-1] += [marker, *tokenizer.encode(message.content, start=False)]
    if not rounds:
        raise ValueError("a conversation needs a turn of the user")
    history = rounds[-1]
    for earlier in reversed(rounds[:-1]):
        if len(earlier) + len(history) > budget - len(before):
            break
        history = earlier + history
    ids = before + history
    if messages[-1].role != "assistant":
        ids.append(ASSISTANT)
    return ids[-budget:]


def chat_example(messages: Sequence[Message], tokenizer: Tokenizer, length: int) -> tuple[list[int], list[int]]:
    """Return the ids and labels of a training conversation, truncated or padded to `length`.

    Each label belongs to the token of its own column. Answers are learned, and so is the end of a text before a turn of
    the user. Markers of the assistant and texts of the user are ignored.
    """
    ids, labels = (row[:length] for row in whole_example(messages, tokenizer))
    rest = length - len(ids)
    return ids + [tokenizer.pad] * rest, labels + [IGNORED] * rest


def whole_example(messages: Sequence[Message], tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    """Return the ids and labels of `chat_example` without truncation or padding."""
    ids: list[int] = []
    labels: list[int] = []
    for message in messages:
        text = tokenizer.encode(message.content, start=False)
        if message.role == "user":
            ids += [USER, *text]
            labels += [tokenizer.eos, *[IGNORED] * len(text)]
        else:
            ids += [ASSISTANT, *text]
            labels += [IGNORED, *text]
    return [*ids, tokenizer.eos], [*labels, tokenizer.eos]

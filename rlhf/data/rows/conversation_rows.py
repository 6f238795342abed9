"""Rows of instructions, dialogues and preferences in the forms of TRL, ShareGPT, OpenAI, Alpaca and Dolly."""

from __future__ import annotations

from typing import Any, NamedTuple

from rlhf.data.rows.example import Example, Row, filled, shown, text_of, truth_of, with_system
from rlhf.data.rows.published_rows import HUMAN, hh_rlhf, marked_turns

USER, ASSISTANT, SYSTEM = "user", "assistant", "system"

ROLES = {
    **dict.fromkeys(("user", "human", "prompter"), USER),
    **dict.fromkeys(("assistant", "gpt", "chatgpt", "bot", "model"), ASSISTANT),
    **dict.fromkeys(("system", "developer"), SYSTEM),
}
"""Roles of messages by the names that data sets give them."""

MESSAGE_KEYS = ("role", "from", "content", "value")
LISTS_OF_MESSAGES = ("messages", "conversations", "prompt", "completion", "chosen", "rejected")

SCORES = (
    ("score_chosen", "score_rejected"),
    ("chosen_score", "rejected_score"),
    ("chosen-rating", "rejected-rating"),
    ("rating_chosen", "rating_rejected"),
)
"""Columns of scores of the chosen and of the rejected response."""


class Dialogue(NamedTuple):
    """Messages of a row.

    Attributes:
        system: text of the system, empty without.
        turns: texts of user and assistant in alternation.
        first: role of the first turn.
    """

    system: str
    turns: tuple[str, ...]
    first: str = USER


def read_messages(value: Any, field: str) -> Dialogue:
    """Read a list of messages `{role, content}` or `{from, value}`.

    Raises:
        ValueError: the value is no such list, a role is unknown, the roles do not alternate, or a message has parts
            that are not text.
    """
    if not isinstance(value, list) or not value:
        raise ValueError(f"{field!r} must be a list of messages, got {shown(value)}")
    roles, texts = zip(*(_message(message, field) for message in value), strict=True)
    system = texts[0] if roles[0] == SYSTEM else ""
    if system or roles[0] == SYSTEM:
        roles, texts = roles[1:], texts[1:]
    if SYSTEM in roles:
        raise ValueError(f"{field!r} must have the system's message first, got one later")
    if not roles:
        raise ValueError(f"{field!r} must have a message of the user or of the assistant, got the system's alone")
    if any(a == b for a, b in zip(roles, roles[1:], strict=False)):
        raise ValueError(f"{field!r} must alternate between user and assistant, got {shown(list(roles))}")
    return Dialogue(system, texts, roles[0])


def _message(message: Any, field: str) -> tuple[str, str]:
    """Return role and text of a message."""
    if not isinstance(message, dict):
        raise ValueError(f"{field!r} must be a list of messages, got {shown(message)} among them")
    speaker = message.get("role") if filled(message.get("role")) else message.get("from")
    role = ROLES.get(speaker.lower()) if isinstance(speaker, str) else None
    if role is None:
        raise ValueError(f"a role of {field!r} must be one of {', '.join(ROLES)}, got {shown(speaker)}")
    calls = [key for key in ("tool_calls", "function_call", "images", "audio") if filled(message.get(key))]
    if calls:
        raise ValueError(f"messages of {field!r} must be text, got {calls[0]!r}")
    if message.get("weight") == 0 or any(message.get(key) is False for key in ("train", "loss", "weight")):
        raise ValueError(
            f"a message of {field!r} is marked as not learned, and every response of a dialogue is learned"
        )
    content = message.get("content") if message.get("content") is not None else message.get("value")
    if isinstance(content, list) and content and all(isinstance(p, dict) and p.get("type") == "text" for p in content):
        content = "".join(text_of(part, "text") if "text" in part else "" for part in content)
    if not isinstance(content, str):
        raise ValueError(f"messages of {field!r} must be text, got {shown(content)}")
    return role, content


def message_columns(row: Row) -> set[str]:
    """Return the filled fields of a row's messages that are not read."""
    fields = ((name, row.get(name)) for name in LISTS_OF_MESSAGES)
    return {
        f"{name}[].{key}"
        for name, value in fields
        if isinstance(value, list)
        for message in value
        if isinstance(message, dict)
        for key, entry in message.items()
        if key not in MESSAGE_KEYS and filled(entry)
    }


def _one_system(row: Row, system: str) -> str:
    """Return the text of the system of a row's messages or of its column."""
    column = row.get("system")
    if not filled(column):
        return system
    if not isinstance(column, str):
        raise ValueError(f"'system' must be a text, got {shown(column)}")
    if system and system != column:
        raise ValueError("'system' differs from the system's message")
    return column


def _example(system: str, turns: tuple[str, ...]) -> Example:
    """Return a dialogue whose last turn is the response, or a prompt if it is the user's."""
    prompt, response = (turns, None) if len(turns) % 2 else (turns[:-1], turns[-1])
    return Example(with_system(system, prompt), response)


def messages(row: Row) -> Example:
    """A list `messages` or `conversations`, as of OpenAI, TRL and ShareGPT; the last response is the newest one.

    Raises:
        ValueError: the user does not begin, or a `prompt` next to the list is none of its turns.
    """
    field = "messages" if filled(row.get("messages")) else "conversations"
    dialogue = read_messages(row[field], field)
    if dialogue.first != USER:
        raise ValueError(f"{field!r} must begin with the user, got the {dialogue.first}")
    if filled(prompt := row.get("prompt")) and prompt not in (*dialogue.turns, dialogue.system):
        raise ValueError(f"'prompt' is no turn of {field!r}")
    return _example(_one_system(row, dialogue.system), dialogue.turns)


def _prompt_of(row: Row, key: str = "prompt") -> Dialogue:
    """Return the prompt of a row, a text or messages that end with the user's."""
    if isinstance(row[key], list) and row[key]:
        dialogue = read_messages(row[key], key)
    else:
        text = text_of(row, key)
        dialogue = Dialogue("", tuple(marked_turns(text)) if text.startswith(HUMAN) else (text,))
    if dialogue.first != USER or len(dialogue.turns) % 2 == 0:
        raise ValueError(f"{key!r} must begin and end with the user's turn")
    return dialogue


def prompt_messages(row: Row) -> Example:
    """A prompt alone, a text or messages."""
    if not isinstance(row["prompt"], list):
        return Example(with_system(row.get("system"), (text_of(row, "prompt"),)))
    dialogue = _prompt_of(row)
    return _example(_one_system(row, dialogue.system), dialogue.turns)


def completion(row: Row) -> Example:
    """A prompt and its completion, texts or messages.

    Raises:
        ValueError: the completion is labelled as undesirable (KTO), or is no turn of the assistant.
    """
    prompt = _prompt_of(row)
    if "label" in row and row["label"] is not None and not truth_of(row, "label"):
        raise ValueError("'label' is false: the completion is undesirable, and there is no stage that learns from it")
    answer = row["completion"]
    if isinstance(answer, list):
        dialogue = read_messages(answer, "completion")
        if dialogue.first != ASSISTANT or len(dialogue.turns) != 1 or dialogue.system:
            raise ValueError("'completion' must be one message of the assistant")
        text = dialogue.turns[0]
    else:
        text = text_of(row, "completion")
    return _example(_one_system(row, prompt.system), (*prompt.turns, text))


def _instruction(row: Row, extra: str, between: str) -> str:
    more = row.get(extra)
    if not filled(more):
        return text_of(row, "instruction")
    return f"{text_of(row, 'instruction')}{between}{text_of(row, extra)}"


def _history(row: Row) -> tuple[str, ...]:
    """Return the turns of earlier rounds, pairs of the user's and the assistant's text."""
    history = row.get("history")
    if not filled(history):
        return ()
    turns: list[str] = []
    for pair in history if isinstance(history, list) else [history]:
        if not (isinstance(pair, list) and len(pair) == 2 and all(isinstance(text, str) for text in pair)):
            raise ValueError(f"'history' must be a list of pairs [user, assistant] of texts, got {shown(history)}")
        turns += pair
    return tuple(turns)


def alpaca(row: Row) -> Example:
    """Alpaca: instruction and input, joined by a space, and the output; `system` and `history` come before.

    Raises:
        ValueError: the output is labelled as undesirable (KTO).
    """
    if "kto_tag" in row and row["kto_tag"] is not None and not truth_of(row, "kto_tag"):
        raise ValueError("'kto_tag' is false: the output is undesirable, and there is no stage that learns from it")
    prompt = (*_history(row), _instruction(row, "input", " "))
    return Example(with_system(row.get("system"), prompt), text_of(row, "output"))


def dolly(row: Row) -> Example:
    """Dolly: instruction and context, separated by an empty line, and the response."""
    prompt = (*_history(row), _instruction(row, "context", "\n\n"))
    return Example(with_system(row.get("system"), prompt), text_of(row, "response"))


def preference(row: Row) -> Example:
    """A chosen and a rejected response, texts or messages, with or without their prompt.

    The prompt is `prompt`, `instruction` with `input`, or `conversations`; or the common beginning of the messages.

    Raises:
        ValueError: there is no prompt, two of them differ, or the rejected response has the higher score.
    """
    for high, low in SCORES:
        scores = row.get(high), row.get(low)
        if all(isinstance(score, int | float) for score in scores) and scores[0] < scores[1]:  # type: ignore[operator]
            raise ValueError(f"{high!r} is {scores[0]}, below {low!r}, {scores[1]}")
    stated = _stated_context(row)
    if stated is None and all(isinstance(row[key], str) for key in ("chosen", "rejected")):
        return hh_rlhf(row)
    (context, chosen), (same, rejected) = (_answer(row[key], key, stated) for key in ("chosen", "rejected"))
    if context != same:
        raise ValueError("'chosen' and 'rejected' differ in more than the last answer")
    system = _one_system(row, context.system)
    return Example(with_system(system, context.turns), chosen, rejected, better=True)


def _stated_context(row: Row) -> Dialogue | None:
    if filled(row.get("prompt")):
        return _prompt_of(row)
    if filled(row.get("instruction")):
        return Dialogue("", (*_history(row), _instruction(row, "input", " ")))
    if filled(row.get("conversations")):
        return _prompt_of(row, "conversations")
    return None


def _answer(value: Any, field: str, stated: Dialogue | None) -> tuple[Dialogue, str]:
    """Return the dialogue before a response, and the response."""
    if isinstance(value, str) and not value.startswith(HUMAN):
        dialogue = Dialogue("", (value,), ASSISTANT)
    elif isinstance(value, str):
        dialogue = Dialogue("", tuple(marked_turns(value)))
    else:
        dialogue = read_messages([value] if isinstance(value, dict) else value, field)
    system, (*turns, last), first = dialogue
    if (len(turns) % 2 == 0) == (first == USER):
        raise ValueError(f"{field!r} must end with an answer of the assistant")
    if first == ASSISTANT and turns:
        raise ValueError(f"{field!r} must begin with the user, or be the answer alone")
    if not turns:
        if stated is None:
            raise ValueError("there is no prompt of 'chosen' and 'rejected'. Name its column by --columns prompt=NAME")
        return stated._replace(system=stated.system or system), last
    if stated is not None and stated.turns != tuple(turns) and stated.turns not in ((turns[0],), (turns[-1],)):
        raise ValueError(f"the prompt differs from the beginning of {field!r}")
    if stated is not None and stated.system and system and stated.system != system:
        raise ValueError(f"the system's message differs between the prompt and {field!r}")
    return Dialogue(system or (stated.system if stated else ""), tuple(turns)), last

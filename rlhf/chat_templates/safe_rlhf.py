"""Template of conversations of Safe RLHF."""

from __future__ import annotations

from collections.abc import Sequence

BEGIN = "BEGINNING OF CONVERSATION: "
USER = "USER: {input} "
ASSISTANT = "ASSISTANT:"
SAFE_RLHF, BAICHUAN = TEMPLATES = ("safe-rlhf", "baichuan")
"""Templates of conversations: `format_prompt`, or the role tokens of `rlhf.chat_templates.baichuan2`.

`rlhf.chat_templates.chat_template` implements both."""

IGNORED = -100
"""Label of a token that is not learned."""


def format_prompt(turns: str | Sequence[str], eos: str) -> str:
    """Return the text of a prompt: turns of user and assistant in alternation, the last one of the user.

    Answers of the assistant follow `ASSISTANT:` without a space and end with the end-of-text token.

    Raises:
        ValueError: the number of turns is even.
    """
    turns = [turns] if isinstance(turns, str) else list(turns)
    if len(turns) % 2 == 0:
        raise ValueError(f"a prompt must have an odd number of turns, the last one of the user, got {len(turns)}")
    text = BEGIN
    for number, turn in enumerate(turns):
        text += turn + eos if number % 2 else USER.format(input=turn) + ASSISTANT
    return text

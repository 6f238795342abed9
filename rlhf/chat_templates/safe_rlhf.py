"""What a conversation looks like to a model: templates, and the masks that go with them."""

from __future__ import annotations

from collections.abc import Sequence

BEGIN = "BEGINNING OF CONVERSATION: "
USER = "USER: {input} "
ASSISTANT = "ASSISTANT:"
SAFE_RLHF, BAICHUAN = TEMPLATES = ("safe-rlhf", "baichuan")
"""How a conversation is put: `format_prompt`, or the role tokens of `rlhf.chat_templates.baichuan2`.
`rlhf.chat_templates.chat_template` has both."""

IGNORED = -100
"""Label of a token that is not learned."""


def format_prompt(turns: str | Sequence[str], eos: str) -> str:
    """The text that a model continues: turns of user and assistant in alternation, ending with the user's.

    Answers of the assistant follow `ASSISTANT:` without a space and end with the end-of-text token.

    Raises:
        ValueError: the number of turns is even.
    """
    turns = [turns] if isinstance(turns, str) else list(turns)
    if len(turns) % 2 == 0:
        raise ValueError(f"a prompt ends with the user's turn, so it has an odd number of turns, got {len(turns)}")
    text = BEGIN
    for number, turn in enumerate(turns):
        text += turn + eos if number % 2 else USER.format(input=turn) + ASSISTANT
    return text

"""Conversation with a language model."""

from __future__ import annotations

from collections.abc import Sequence

from rlhf.chat_templates.chat_template import prompt_ids
from rlhf.checkpoints.model_folder import Model
from rlhf.config import SamplingConfig
from rlhf.data.schemas import Example
from rlhf.generation.answers import answer_prompts


class TooLong(ValueError):
    """A message that does not fit into the prompt of a conversation."""


class Conversation:
    """Turns of a user and of a model. Older rounds are dropped as soon as the prompt is too long.

    Attributes:
        turns: user and model in alternation.
        responses: number of responses so far.
    """

    def __init__(
        self,
        model: Model,
        sampling: SamplingConfig,
        *,
        prompt_length: int = 64,
        seed: int = 0,
        dtype: str = "float32",
    ) -> None:
        """Start an empty conversation.

        Args:
            model: the language model.
            sampling: sampling settings.
            prompt_length: maximum number of tokens of a prompt.
            seed: seed of the first response; each further one has the next seed.
            dtype: type of activations.
        """
        self.model, self.sampling, self.prompt_length, self.seed, self.dtype = (
            model,
            sampling,
            prompt_length,
            seed,
            dtype,
        )
        self.turns: list[str] = []
        self.responses = 0

    def reset(self) -> None:
        """Forget all turns."""
        self.turns = []

    def respond(self, message: str) -> str:
        """Return the response to a message.

        Raises:
            TooLong: the message does not fit; the conversation is unchanged.
        """
        return self._respond([*self.turns, message])

    def regenerate(self) -> str:
        """Return another response to the last message, instead of the last one."""
        return self._respond(self.turns[:-1])

    def _respond(self, turns: Sequence[str]) -> str:
        while len(turns) > 1 and self._count_tokens(turns) > self.prompt_length:
            turns = turns[2:]
        if (length := self._count_tokens(turns)) > self.prompt_length:
            raise TooLong(f"the message has {length} tokens, the maximum is {self.prompt_length}")
        self.responses += 1
        rows, _ = answer_prompts(
            self.model,
            [Example(tuple(turns))],
            self.sampling,
            seed=self.seed + self.responses,
            prompt_length=self.prompt_length,
            batch_size=1,
            dtype=self.dtype,
        )
        response = rows[0].response or ""
        self.turns = [*turns, response]
        return response

    def _count_tokens(self, turns: Sequence[str]) -> int:
        return len(prompt_ids(turns, self.model.tokenizer, self.prompt_length))

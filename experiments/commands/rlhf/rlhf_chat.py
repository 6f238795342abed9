"""`jsafe rlhf chat`: chat with a model in the terminal."""

from __future__ import annotations

import sys

from experiments.cli.argument_types import Count, Whole
from experiments.cli.request import flags
from experiments.cli.result import Result
from experiments.cli.shared_flags import Machine, Output
from experiments.cli.stdout import note
from experiments.commands.rlhf.shared.hyperparameters import SamplingFlags
from experiments.commands.rlhf.shared.model_flags import DataType, PolicyFlags
from rlhf.config import SamplingConfig


@flags
class ChatRequest:
    """Settings of `jsafe rlhf chat`.

    Attributes:
        dtype: Type of activations and matrix products.
        prompt_length: Maximum number of tokens of the conversation; older rounds are dropped.
        seed: Seed of the samples.
    """

    policy: PolicyFlags = PolicyFlags()
    dtype: DataType = "float32"
    prompt_length: Count = 64
    seed: Whole = 0
    sampling: SamplingFlags = SamplingFlags()
    machine: Machine = Machine()
    output: Output = Output()


def run(request: ChatRequest) -> Result:
    """Run `jsafe rlhf chat`: one line of the user, one response; `/reset` starts again, `/quit` ends."""
    from experiments.cli.devices import configure_machine
    from rlhf.generation.conversation import Conversation, TooLong

    configure_machine(request.machine)
    sampling = request.sampling.applied_to(SamplingConfig())
    model = request.policy.open()
    chat = Conversation(model, sampling, prompt_length=request.prompt_length, seed=request.seed, dtype=request.dtype)
    note("type a message; /reset clears the conversation, /regenerate samples another response, /quit ends")
    for line in sys.stdin:
        message = line.strip()
        if message in ("/quit", "/exit"):
            break
        if message in ("/reset", "/clear"):
            chat.reset()
            note("conversation cleared")
            continue
        regenerate = message == "/regenerate" and bool(chat.turns)
        if not regenerate and (message.startswith("/") or not message):
            note("commands: /reset /regenerate /quit")
            continue
        try:
            response = chat.regenerate() if regenerate else chat.respond(message)
        except TooLong as error:
            note(f"{error} (--prompt-length)")
            continue
        print(response, file=sys.__stdout__, flush=True)
    return Result({"turns": chat.responses}, "")

"""`jsafe rlhf generate`: sample a response to the prompt of each row, and keep the ids of the row."""

from __future__ import annotations

import json
from typing import Annotated

from experiments.cli.argument_types import File, repeated
from experiments.cli.request import flags
from experiments.cli.result import Result, writable_folder
from experiments.cli.shared_flags import Machine, Output
from experiments.commands.rlhf.shared.hyperparameters import SamplingFlags
from experiments.commands.rlhf.shared.model_flags import PolicyFlags, ResponseFlags, load_prompts
from rlhf.config import SamplingConfig

ARTIFACT = "answers.jsonl"
"""File that a later step of an experiment reads."""


@flags
class GenerateRequest:
    """Settings of `jsafe rlhf generate`.

    Attributes:
        prompt: A prompt; repeatable.
        out: File of the responses, as JSON lines (default on stdout).
    """

    policy: PolicyFlags = PolicyFlags()
    prompt: Annotated[tuple[str, ...], repeated(str, "TEXT")] = ()
    responses: ResponseFlags = ResponseFlags()
    out: File | None = None
    sampling: SamplingFlags = SamplingFlags()
    machine: Machine = Machine()
    output: Output = Output()


def run(request: GenerateRequest) -> Result:
    """Run `jsafe rlhf generate`."""
    from experiments.cli.devices import configure_machine
    from rlhf import preflight
    from rlhf.data import dataset
    from rlhf.generation.answers import answer_prompts, to_json_row

    configure_machine(request.machine)
    responses = request.responses
    prompts = load_prompts("generate", responses, request.prompt, unique=False)
    model = request.policy.open()
    sampling = request.sampling.applied_to(SamplingConfig())
    preflight.warn_of_positions(model.config, responses.prompt_length + sampling.max_new_tokens)
    rows, _ = answer_prompts(
        model,
        prompts,
        sampling,
        seed=responses.seed,
        prompt_length=responses.prompt_length,
        batch_size=min(responses.batch_size, len(prompts)),
        skip=responses.skip,
        dtype=responses.dtype,
    )
    carried = dataset.carried_columns(rows)
    answers = [columns | to_json_row(row) for row, columns in zip(rows, carried, strict=True)]
    if request.out is None:
        return Result({"answers": answers}, "\n\n".join(f"{row.prompt[-1]}\n{row.response}" for row in rows))
    writable_folder(request.out.parent)
    lines = "".join(json.dumps(answer, ensure_ascii=False) + "\n" for answer in answers)
    request.out.write_text(lines, encoding="utf-8")
    return Result({"answers": len(rows), "file": str(request.out)}, f"{len(rows)} answers in {request.out}")

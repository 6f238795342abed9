"""`jsafe rlhf bench`: tokens per second and memory of each stage, compared with the matrix products they need."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from experiments.cli.argument_types import Count, File, Switch, Whole, parameter
from experiments.cli.errors import CommandError, unknown
from experiments.cli.format import to_json
from experiments.cli.request import flags
from experiments.cli.result import Result, writable_folder
from experiments.cli.shared_flags import Machine, Output
from experiments.cli.stdout import note

if TYPE_CHECKING:
    from experiments.benchmarks.stage_programs import Case


@flags
class BenchRequest:
    """Settings of `jsafe rlhf bench`.

    Attributes:
        model: Model directory, or a size: small, mini, tiny, nano or a published size.
        vocabulary: Number of tokens of a small model (default 4,096).
        length: Number of tokens of a text (default 512; 256 for a small model).
        batch_size: Number of rows in a batch.
        stages: Stages to measure, separated by commas (default all).
        repeats: Number of timed iterations; the median counts.
        remat: Recompute activations in the backward pass to save memory.
        loss_chunk: Number of tokens whose logits a loss holds at once; 0 for the whole batch.
        seed: Seed of weights and tokens.
        out: File of the results.
    """

    model: Annotated[str, parameter(str, "MODEL")] = "small"
    vocabulary: Count | None = None
    length: Count | None = None
    batch_size: Count = 16
    stages: Annotated[str | None, parameter(str, "A,B")] = None
    repeats: Count = 5
    remat: Switch = False
    loss_chunk: Whole = 1024
    seed: Whole = 0
    out: File | None = None
    machine: Machine = Machine()
    output: Output = Output()


def run(request: BenchRequest) -> Result:
    """Run `jsafe rlhf bench`."""
    from experiments.benchmarks.stage_programs import STAGE_PROGRAMS
    from experiments.benchmarks.stage_speed import measure_stages, speed_text
    from experiments.cli.devices import configure_machine

    names = [name.strip() for name in request.stages.split(",")] if request.stages else list(STAGE_PROGRAMS)
    for name in names:
        if name not in STAGE_PROGRAMS:
            raise unknown("stage", name, STAGE_PROGRAMS)
    configure_machine(request.machine)
    case = _case(request)
    data = measure_stages(names, request.model, case, request.repeats, lambda name: note(f"{name} ..."))
    if request.out is not None:
        writable_folder(request.out.parent)
        request.out.write_text(to_json(data), encoding="utf-8")
    return Result(data, speed_text(data))


def _case(request: BenchRequest) -> Case:
    """Return the sizes of the benchmark."""
    from experiments.benchmarks.stage_programs import Case
    from rlhf.checkpoints import model_folder, weight_files
    from rlhf.config import TrainingConfig
    from rlhf.training.recipes import DEFAULT_LENGTH, SMALL_MODEL_LENGTH, VOCABULARY

    folder = Path(request.model)
    if folder.is_dir():
        config = weight_files.load_config(folder)
    else:
        config = model_folder.size_of(request.model, request.vocabulary or VOCABULARY)
    length = request.length or (SMALL_MODEL_LENGTH if request.model in model_folder.PRESETS else DEFAULT_LENGTH)
    if length < 2:
        raise CommandError(f"--length must be at least 2, one token of a prompt and one of its answer, got {length}")
    training = TrainingConfig(batch_size=request.batch_size, remat=request.remat, loss_chunk=request.loss_chunk)
    return Case(config, request.batch_size, length, training, request.seed)

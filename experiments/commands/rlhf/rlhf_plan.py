"""`jsafe rlhf plan`: memory of a stage on each device of a mesh."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any, Literal

from experiments.cli.argument_types import Count, Switch, parameter
from experiments.cli.errors import unknown
from experiments.cli.request import flags, positional
from experiments.cli.result import Result
from experiments.cli.shared_flags import Machine, Output, Processes
from experiments.cli.stdout import note
from experiments.commands.rlhf.shared.model_flags import DataType


@flags
class PlanRequest:
    """Settings of `jsafe rlhf plan`.

    Attributes:
        size: Name of a published model, for example llama2-7b, or a model directory.
        stage: Stage to plan.
        mesh: Mesh of devices.
        batch_size: Number of rows in an update.
        length: Maximum number of tokens of a text.
        prompt_length: Maximum number of tokens of a prompt.
        dtype: Type of activations and matrix products.
        param_dtype: Type of parameters, gradients and moments (float32 in the stages).
        compile: Compile a step for a mesh of virtual CPUs, and report the memory that the compiler reserves.
    """

    size: Annotated[str, parameter(str, "MODEL")] = positional()
    stage: Literal["sft", "ppo-lag"] = "sft"
    mesh: Annotated[str, parameter(str, "AXES")] = "fsdp=8"
    batch_size: Count = 16
    length: Count = 512
    prompt_length: Count = 64
    dtype: DataType = "float32"
    param_dtype: DataType = "float32"
    compile: Switch = False
    machine: Machine = Machine()
    output: Output = Output()


def run(request: PlanRequest) -> Result:
    """Run `jsafe rlhf plan`; no weight is read and none is allocated."""
    from experiments.cli.devices import configure_machine
    from rlhf.checkpoints import model_folder, weight_files
    from rlhf.parallel import plan as plans
    from rlhf.parallel import sharding

    folder = Path(request.size)
    if request.size not in model_folder.PUBLISHED and not (folder / "config.json").is_file():
        raise unknown("model", request.size, model_folder.PUBLISHED)
    config = model_folder.PUBLISHED.get(request.size) or weight_files.load_config(folder)
    axes = sharding.parse(request.mesh)
    if request.compile:
        machine = Machine(platform="cpu", devices=request.machine.devices)
        configure_machine(machine, Processes(mesh=request.mesh))
    else:  # shapes need no devices
        configure_machine(request.machine)
    plan = plans.Plan(
        request.stage,
        config,
        request.batch_size,
        request.length,
        request.prompt_length,
        request.dtype,
        request.param_dtype,
    )
    parts = plans.estimate(plan, sharding.abstract_mesh(**axes))
    data: dict[str, Any] = {"model": request.size, "stage": request.stage, "mesh": axes, "bytes_per_device": parts}
    data |= {"rows": plan.rows, "length": plan.length, "dtype": plan.dtype, "param_dtype": plan.param_dtype}
    lines = [
        f"{request.size}, {request.stage}, {request.mesh}, {plan.rows} rows of {plan.length} tokens; on each device:",
        *(f"  {name:<12}{_gib(value)}" for name, value in parts.items() if value),
        f"  {'sum':<12}{_gib(sum(parts.values()))}",
    ]
    if request.compile:
        note("compiling ...")
        started = time.monotonic()
        compiled = plans.compiled(plan, sharding.mesh(**axes))
        data["compiled"] = compiled._asdict() | {"seconds": time.monotonic() - started}
        kinds = ", ".join(f"{number} {kind}" for kind, number in compiled.collectives.items()) or "none"
        lines += [
            "by the compiler, for CPUs:",
            f"  {'state':<12}{_gib(compiled.arguments)}",
            f"  {'temporary':<12}{_gib(compiled.temporary)}",
            f"  {'sum':<12}{_gib(compiled.arguments + compiled.temporary)}",
            f"  collectives {kinds}",
        ]
    return Result(data, "\n".join(lines))


def _gib(count: int) -> str:
    return f"{count / 2**30:9.3f} GiB"

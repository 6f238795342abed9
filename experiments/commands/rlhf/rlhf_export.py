"""`jsafe rlhf export`: write the model of a checkpoint in Hugging Face's layout."""

from __future__ import annotations

from experiments.cli.argument_types import Count, Folder
from experiments.cli.request import flags, positional
from experiments.cli.result import Result
from experiments.cli.shared_flags import Machine, Output


@flags
class ExportRequest:
    """Settings of `jsafe rlhf export`.

    Attributes:
        run: Directory of a run of `jsafe rlhf`.
        out: Directory of the model (default RUN/model).
        iteration: Iteration of the checkpoint (default the last one).
    """

    run: Folder = positional()
    out: Folder | None = None
    iteration: Count | None = None
    machine: Machine = Machine()
    output: Output = Output()


def run(request: ExportRequest) -> Result:
    """Run `jsafe rlhf export`."""
    from experiments.cli import training_run
    from experiments.cli.devices import configure_machine
    from experiments.commands.rlhf.shared.rlhf_run import recorded_request
    from jsafe.runs.reader import load_run
    from rlhf.checkpoints import model_folder

    source = load_run(request.run)
    stage_request, _ = recorded_request(source)
    configure_machine(request.machine)
    stage = stage_request.recipe(source.path).stage
    state, iteration = training_run.load_state(source, stage.trainer, request.iteration)
    out = request.out or source.path / "model"
    model_folder.save_model(out, stage.finish(state), stage.kind)
    return Result({"model": str(out), "iteration": iteration}, f"iteration {iteration} of {source.path} in {out}")

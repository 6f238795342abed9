"""`jsafe sketch export`: write the model of a run or of one of its checkpoints."""

from __future__ import annotations

from experiments.cli.argument_types import Count, Folder
from experiments.cli.devices import configure
from experiments.cli.request import flags, positional
from experiments.cli.result import Result
from experiments.cli.shared_flags import Machine, Output
from experiments.commands.sketch.shared.drawing_output import check_new, new_folder


@flags
class ExportRequest:
    """Settings of `jsafe sketch export`.

    Attributes:
        model: Folder of a run or of a trained model.
        out: Folder for the model, which must be new or empty.
        iteration: Iteration of the checkpoint (default the best parameters of the whole run).
    """

    model: Folder = positional()
    out: Folder | None = None
    iteration: Count | None = None
    machine: Machine = Machine()
    output: Output = Output()


def run(request: ExportRequest) -> Result:
    """Run `jsafe sketch export`."""
    out = check_new(request.out)
    configure(request.machine.platform, request.machine.devices)
    from sketch.models import checkpoint
    from sketch.models.sketch_rnn import SketchRNN

    folders = (request.model, request.model / "model")
    if request.iteration is None and any((folder / checkpoint.DESCRIPTION).is_file() for folder in folders):
        model = checkpoint.load_model(request.model)
        text = f"the model of {checkpoint.find_model(request.model)}"
        if isinstance(model, SketchRNN):
            model = checkpoint.load_generator(request.model, "export")
    else:
        model, text = _from_checkpoint(request)
    with new_folder(out) as folder:
        checkpoint.save(folder, model)
    return Result({"model": str(out)}, f"{text}, in {out}")


def _from_checkpoint(request: ExportRequest) -> tuple[object, str]:
    """Return the model of a checkpoint, and its description."""
    import jax

    from experiments.commands.sketch.shared.stage_run import StoredRun
    from jsafe.population import keys_for, make_population
    from jsafe.runs import resume
    from jsafe.runs.checkpoint import Checkpoints

    stored = StoredRun(request.model)
    stage = stored.build().stage
    population, keys = make_population(stage.trainer, 1), keys_for(stored.run.facts["seed"], 1)
    restored = resume.restore(Checkpoints(stored.path), population, keys, iteration=request.iteration)
    model = stage.finish(jax.tree.map(lambda leaf: leaf[0], restored.state))
    return model, f"the best parameters of iterations 1 to {restored.iteration} of {stored.path}"

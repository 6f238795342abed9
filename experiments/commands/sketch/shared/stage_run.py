"""Training stages as commands: start, resume and finish a run."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from experiments.cli import training_run
from experiments.cli.devices import configure
from experiments.cli.errors import CommandError
from experiments.cli.exit_codes import INTERRUPTED
from experiments.cli.format import seconds_text
from experiments.cli.result import Result, writable_folder
from experiments.cli.shared_flags import Machine, Output, RunFlags
from experiments.cli.stdout import note

if TYPE_CHECKING:
    from sketch.training.recipes import Recipe
    from sketch.training.requests import TrainingRequest

T = TypeVar("T")

RECORD = "sketch"
"""Key of the record of a stage in the record of its run."""


class StoredRun:
    """A run of `jsafe sketch` on disk.

    Attributes:
        path: its folder.
        stage: name of its stage.
        request: its settings, with the copies of models in the run.
        record: its record.
    """

    def __init__(self, path: Path, stage: str | None = None):
        """Read and validate the record.

        Raises:
            CommandError: if there is no run, or it is of another stage.
        """
        from jsafe.runs.reader import load_run
        from sketch.training.requests import request_from_json

        self.run = load_run(path)
        self.path = self.run.path
        self.record: dict[str, Any] = self.run.facts.get(RECORD) or {}
        if not self.record or stage not in (None, self.record["stage"]):
            raise CommandError(f"{self.path} must be a run of `jsafe sketch {stage or 'STAGE'}`, got another run")
        self.stage: str = self.record["stage"]
        self.request = request_from_json(self.stage, self.record["request"]).with_models_in(self.path)

    def build(self) -> Recipe:
        """Build the recipe of the run.

        Raises:
            CommandError: if the training data have changed.
        """
        from sketch.training.recipes import build

        recipe = build(self.request)
        if recipe.digest != self.record["digest"]:
            raise CommandError(
                f"the training data differ from those {self.path} was started with. Restore the original files, or "
                "start a new run."
            )
        return recipe


def run_stage(request: Any, stage: str, library_request: Any) -> Result:
    """Start a stage, or resume its run.

    Args:
        request: settings of the command, with `run`, `machine` and `output`.
        stage: name of the stage.
        library_request: function that returns the settings of the stage; not called to resume a run.

    Raises:
        CommandError: if flags are given that a resumed run takes from its record, or the run folder is taken.
    """
    flags: RunFlags = request.run
    machine: Machine = request.machine
    if flags.resume is not None:
        _refuse_settings(request)
        stored = StoredRun(flags.resume, stage)
        configure(machine.platform, machine.devices)
        return _fit(stage, stored.build(), stored.path, stored.record, request.output, flags, resume=True)
    configure(machine.platform, machine.devices)
    run_dir = _new_run_dir(stage, flags.run_dir)
    settings: TrainingRequest = library_request()
    return _start(stage, settings, run_dir, request.output, flags)


def _start(stage: str, settings: TrainingRequest, run_dir: Path, output: Output, flags: RunFlags) -> Result:
    from sketch.models import checkpoint
    from sketch.training.recipes import build

    recipe = build(settings)
    note(recipe.summary)
    if recipe.skipped:
        note(f"{len(recipe.skipped)} drawings or files skipped: {'; '.join(recipe.skipped[:3])}")
    writable_folder(run_dir)
    for name, model in recipe.models.items():
        checkpoint.save(run_dir / name, model)
    record = {"stage": stage, "seed": flags.seed, "checkpoint_every": flags.checkpoint_every}
    record |= {"digest": recipe.digest, "request": settings.to_json()}
    return _fit(stage, recipe, run_dir, record, output, flags, resume=False)


def _refuse_settings(request: Any) -> None:
    """Refuse flags that a resumed run takes from its record."""
    free = {"machine", "output", "run"}
    default = dataclasses.replace(type(request)(), **{name: getattr(request, name) for name in free})
    changed = changed_flags(request, default)
    run, plain = request.run, RunFlags(resume=request.run.resume, run_dir=request.run.run_dir, quiet=request.run.quiet)
    if changed := changed + changed_flags(run, plain):
        raise CommandError(f"--resume takes all settings from the run; leave {', '.join(changed)} out")


def changed_flags(request: Any, default: Any) -> list[str]:
    """Return the flags with other values than the default, those of groups of flags included."""
    changed = []
    for field in dataclasses.fields(request):
        value, plain = getattr(request, field.name), getattr(default, field.name)
        if dataclasses.is_dataclass(value):
            changed += changed_flags(value, plain)
        elif value != plain:
            changed.append(f"--{_FLAG_NAMES.get(field.name, field.name).replace('_', '-')}")
    return changed


_FLAG_NAMES = {"classes": "class"}
"""Flags with another name than their field."""


def _new_run_dir(stage: str, run_dir: Path | None) -> Path:
    run_dir = run_dir or Path("runs") / f"sketch-{stage}-{time.strftime('%Y%m%d-%H%M%S')}"
    if (run_dir / "run.json").exists():
        raise CommandError(f"{run_dir} already holds a run; resume it: jsafe sketch {stage} --resume {run_dir}")
    return run_dir


def _fit(
    stage: str, recipe: Recipe, run_dir: Path, record: dict[str, Any], output: Output, flags: RunFlags, *, resume: bool
) -> Result:
    """Train, save the model, and describe the result."""
    import numpy as np

    import jsafe
    from sketch.models import checkpoint

    began = time.monotonic()
    trainer, iterations = recipe.stage.trainer, recipe.stage.iterations
    note(f"{stage}: {iterations:,} iterations, writing to {run_dir}; compiling ...")
    result = jsafe.fit(
        trainer,
        iterations=None if resume else iterations,
        seed=None if resume else record["seed"],
        run_dir=run_dir,
        resume=resume,
        checkpoint_every=record.get("checkpoint_every"),
        checkpoint_seconds=300.0,
        progress=False if flags.quiet else None if output.json else True,
        extra=None if resume else {RECORD: record},
    )
    data: dict[str, Any] = {"stage": stage, "run_dir": str(run_dir), "status": result.status}
    data |= {"iterations": result.iterations, "skipped": recipe.skipped}
    data["final"] = training_run.final_metrics(result)
    lines = [f"{stage}: {result.status} after {result.iterations:,} iterations"]
    if result.status != "finished":
        lines.append(f"  resume      jsafe sketch {stage} --resume {run_dir}")
        return Result(data, "\n".join(lines), exit_code=INTERRUPTED)
    checkpoint.save(run_dir / "model", recipe.stage.finish(training_run.final_state(result)))
    data |= {"model": str(run_dir / "model"), "seconds": time.monotonic() - began}
    if "best_iteration" in result.metrics:
        data["best_iteration"] = int(result.metrics["best_iteration"][-1, 0])
        data["best_valid_loss"] = float(np.nanmin(result.metrics["valid_loss"]))
        lines.append(f"  best        iteration {data['best_iteration']}, valid_loss {data['best_valid_loss']:.4g}")
    final = data["final"]
    shown = "  ".join(f"{key} {final[key]:.4g}" for key in trainer.info.shown if key in final)
    lines.append(f"  last ten    {shown}")
    lines += [f"  time        {seconds_text(data['seconds'])}", f"  model       {run_dir / 'model'}"]
    return Result(data, "\n".join(lines))

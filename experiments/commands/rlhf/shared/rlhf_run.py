"""Run of a training stage: start or resume, train, write the model, evaluate."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import shutil
import time
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

import jsafe
from experiments.cli import training_run
from experiments.cli.app import current_words
from experiments.cli.devices import configure_machine
from experiments.cli.errors import CommandError
from experiments.cli.exit_codes import INTERRUPTED
from experiments.cli.format import seconds_text, to_json
from experiments.cli.library_log import log_to_stderr
from experiments.cli.request import as_json, from_json
from experiments.cli.result import Result, writable_folder
from experiments.cli.stdout import note, output_of_libraries_on_stderr
from experiments.commands.rlhf.shared.stage_flags import StageRequest
from experiments.report.rlhf.checkpoint_curve import draw_checkpoints
from experiments.report.rlhf.comparison import estimate_text
from jsafe import multihost
from jsafe.runs.reader import Run, load_run
from rlhf import preflight
from rlhf.adapters import peft
from rlhf.checkpoints import model_folder
from rlhf.checkpoints.model_folder import Model
from rlhf.data import mixture
from rlhf.parallel import sharding
from rlhf.reinforcement.method_presets import METHODS
from rlhf.training.recipes import Recipe

MACHINE_FLAGS = frozenset(
    "--resume --mesh --coordinator --processes --process --platform --devices --json --debug --quiet".split()
)
"""Flags that a resumed run may have; all other settings come from the run."""

STARTED = "the starting model is written"
FINISHED = "the model is evaluated"
"""Points at which several processes wait for each other."""


def run_stage(request: StageRequest) -> Result:
    """Train a stage in a new run, or resume its run."""
    log_to_stderr("rlhf")
    with output_of_libraries_on_stderr() if request.processes.coordinator else contextlib.nullcontext():
        return _start(request) if request.run.resume is None else _resume(request, request.run.resume)


def _start(request: StageRequest) -> Result:
    preflight.require_files(request.missing_files())
    if request.processes.coordinator and request.run.run_dir is None:
        raise CommandError("several processes need one --run-dir DIR, on a file system that all of them share")
    configure_machine(request.machine, request.processes)
    run_dir = request.run.run_dir or Path("runs") / f"rlhf-{request.STAGE}-{time.strftime('%Y%m%d-%H%M%S')}"
    if (run_dir / "run.json").exists():
        raise CommandError(
            f"{run_dir} already holds a run. Resume it with jsafe rlhf {request.STAGE} --resume {run_dir}"
        )
    is_new = not run_dir.exists()
    if multihost.is_first():
        writable_folder(run_dir)
        for leftover in ("start", "tokenizer"):  # of an attempt that failed before its run started
            shutil.rmtree(run_dir / leftover, ignore_errors=True)
    try:
        return _train(request, run_dir, digest=None)
    except (CommandError, OSError, ValueError):
        if is_new and multihost.is_first() and not (run_dir / "run.json").is_file():
            shutil.rmtree(run_dir, ignore_errors=True)
        raise


def _resume(request: StageRequest, folder: Path) -> Result:
    named = [word.partition("=")[0] for word in current_words() if word.startswith("--")]
    if superfluous := [flag for flag in named if flag not in MACHINE_FLAGS]:
        raise CommandError(f"--resume restores all settings of the run. Leave {', '.join(superfluous)} out")
    run = load_run(folder)
    recorded, digest = recorded_request(run, request.STAGE)
    processes = request.processes
    if processes.mesh is None:
        processes = dataclasses.replace(processes, mesh=recorded.processes.mesh)
    settings = dataclasses.replace(recorded.run, resume=run.path, quiet=request.run.quiet)
    resumed = dataclasses.replace(
        recorded, run=settings, processes=processes, machine=request.machine, output=request.output
    )
    configure_machine(resumed.machine, processes)
    return _train(resumed, run.path, digest)


def recorded_request(run: Run, stage: str | None = None) -> tuple[StageRequest, str]:
    """Return the settings of a run, and the hash of its data.

    Args:
        run: the run.
        stage: stage that the run must be of; any by default.

    Raises:
        CommandError: the run is of another command.
    """
    from experiments.commands.rlhf import COMMANDS

    record = run.facts.get("rlhf")
    if record is None or stage not in (None, record["stage"]):
        raise CommandError(f"the run at {run.path} is not of `jsafe rlhf{f' {stage}' if stage else ''}`")
    module = importlib.import_module(COMMANDS[record["stage"]].module)
    request_type = typing.get_type_hints(module.run)["request"]
    settings = from_json(request_type, record["settings"])
    return _relocated(settings, Path(record.get("folder", "."))), record["digest"]


SOURCES = ("data", "eval_data", "ptx_data", "model")
"""Settings that are texts and name files or folders."""


def _relocated(value: Any, folder: Path, name: str = "") -> Any:
    """Return settings whose relative paths are looked up in a folder, where the working directory has no such file."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = ((field.name, getattr(value, field.name)) for field in dataclasses.fields(value) if field.init)
        return dataclasses.replace(value, **{name: _relocated(entry, folder, name) for name, entry in fields})
    if isinstance(value, tuple):
        return tuple(_relocated(entry, folder, name) for entry in value)
    if isinstance(value, Path) or (isinstance(value, str) and name in SOURCES):
        return type(value)(mixture.relocated(str(value), folder))
    return value


def _record(request: StageRequest, recipe: Recipe) -> dict[str, Any]:
    """Return what a run records of its settings."""
    settings = {"settings": as_json(request), "folder": str(Path.cwd()), "digest": recipe.digest}
    return {"rlhf": {"stage": request.STAGE, **settings}}


def _train(request: StageRequest, run_dir: Path, digest: str | None) -> Result:
    """Train and finish a run, a resumed one if there is the digest of its data."""
    started = time.monotonic()
    mesh = request.processes.mesh
    layout = sharding.layout(sharding.mesh(**sharding.parse(mesh))) if mesh else None
    shared = layout is not None and multihost.spans(layout.mesh)
    recipe = _build(request, run_dir, shared=shared)
    if digest not in (None, recipe.digest):
        message = f"the training data differ from those {run_dir} was started with"
        raise CommandError(f"{message}. Restore the original files, or start a new run")
    _note_left_out(recipe)
    resume, stage = digest is not None, recipe.stage
    note(f"{request.STAGE}: {stage.iterations:,} iterations, writing to {run_dir}; compiling ...")
    result = jsafe.fit(
        stage.trainer,
        iterations=None if resume else stage.iterations,
        seed=None if resume else request.run.seed,
        run_dir=run_dir,
        resume=resume,
        checkpoint_every=request.run.checkpoint_every,
        checkpoint_seconds=300.0,
        progress=False if request.run.quiet else None if request.output.json else True,
        extra=None if resume else _record(request, recipe),
        callbacks=[recipe.schedule] if recipe.schedule else (),
        layout=layout,
    )
    data = {"stage": request.STAGE, "run_dir": str(run_dir), "status": result.status, "iterations": result.iterations}
    data["final"] = training_run.final_metrics(result)
    data["left_out"] = recipe.stage.left_out | {line: 1 for line in recipe.skipped}
    lines = [f"{request.STAGE}: {result.status} after {result.iterations:,} iterations"]
    if result.status != "finished":
        lines.append(f"  resume      jsafe rlhf {request.STAGE} --resume {run_dir}")
        return Result(data, "\n".join(lines), exit_code=INTERRUPTED)
    state = training_run.final_state(result)
    model = stage.finish(state)
    if shared and not multihost.is_first():
        multihost.wait(FINISHED)  # the other processes would miss one that ends early
        return Result(data, "\n".join([*lines, f"  process     {jax.process_index()}; the first one writes"]))
    data |= _write_model(request, recipe, run_dir, model, state)
    report, report_lines = _evaluate(recipe, run_dir, model)
    if shared:
        multihost.wait(FINISHED)
    data |= report
    data["seconds"] = time.monotonic() - started
    final = "  ".join(f"{key} {data['final'][key]:.4g}" for key in stage.trainer.info.shown if key in data["final"])
    lines += [*report_lines, f"  last ten    {final}", f"  time        {seconds_text(data['seconds'])}"]
    return Result(data, "\n".join([*lines, f"  model       {run_dir / 'model'}"]))


def _build(request: StageRequest, run_dir: Path, *, shared: bool) -> Recipe:
    """Build the recipe; of several processes, the first one writes the starting model before the others read it."""
    if shared and not multihost.is_first():
        multihost.wait(STARTED)
    recipe = request.recipe(run_dir)
    if shared and multihost.is_first():
        multihost.wait(STARTED)
    return recipe


def _note_left_out(recipe: Recipe) -> None:
    count = sum(recipe.stage.left_out.values()) + len(recipe.skipped)
    if count:
        reasons = [f"{number} x {reason}" for reason, number in recipe.stage.left_out.items()] + recipe.skipped[:3]
        note(f"{count} rows left out: {'; '.join(reasons)}")


def _write_model(request: StageRequest, recipe: Recipe, run_dir: Path, model: Model, state: Any) -> dict[str, Any]:
    """Write the model, and its adapters if it has some; return their folders."""
    stage = recipe.stage
    model_folder.save_model(run_dir / "model", model, stage.kind)
    data = {"model": str(run_dir / "model")}
    if stage.adapters is not None and model.config.family == "llama":
        base = run_dir / "start" if (run_dir / "start").is_dir() else _base_of_adapters(request)
        model_folder.save_adapters(run_dir / "adapter", model, stage.adapters(state), base, stage.kind)
        data["adapter"] = str(run_dir / "adapter")
    return data


def _base_of_adapters(request: StageRequest) -> Path:
    """Return the model below new adapters; adapters of an actor replace those it started with."""
    source = request.source
    assert source is not None  # a model from scratch is in the folder of the run
    return peft.base_of(source) if request.STAGE in METHODS and peft.is_adapter(source) else source


def _evaluate(recipe: Recipe, run_dir: Path, model: Model) -> tuple[dict[str, Any], list[str]]:
    """Return the evaluation of the model, or that of the checkpoints of a pretraining, as data and as lines."""
    if recipe.schedule is not None:
        points = recipe.schedule.all_points()
        draw_checkpoints(run_dir / "dynamics.png", points)
        data = {"models": [str(run_dir / "models" / point["model"]) for point in points], "curve": points}
        return data, _report_lines(points[-1])
    if recipe.evaluate is None:
        return {}, []
    note("evaluating on held-out rows ...")
    report = recipe.evaluate(model)
    (run_dir / "evaluation.json").write_text(to_json(report), encoding="utf-8")
    headline = ("ranking_accuracy", "sign_accuracy", "baseline")
    return {"evaluation": report} | {name: report[name] for name in headline if name in report}, _report_lines(report)


def _report_lines(report: Mapping[str, Any]) -> list[str]:
    lines = []
    if shared := report.get("prompts_also_learned_from"):
        lines.append(f"  {shared} of these prompts are also training prompts")
    baseline = report.get("baseline") or {}
    for name, value in report.items():
        if isinstance(value, dict) and "low" in value:
            other = f"; bag of words {estimate_text(baseline[name], 3)}" if name in baseline else ""
            lines.append(f"  {name.replace('_', ' ')}  {estimate_text(value, 3)}{other}")
        elif isinstance(value, float):
            lines.append(f"  {name.replace('_', ' ')}  {value:.4f}")
    return lines

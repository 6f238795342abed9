"""`jsafe sketch COMMAND` for what trains: from drawings to a model's folder, resumable at any iteration."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import jsafe
from experiments import sketch_data, stage_runs
from experiments.context import prepare
from experiments.outcome import CommandError, Outcome, note, seconds_text, to_json, writable_folder
from experiments.sketch_models import opened
from experiments.sketch_words import hyper_of
from jsafe.hyper import describe
from sketch import folder
from sketch.predictor import PredictorOptions, PredictorSize, predictor_stage
from sketch.sketch_rnn import Architecture
from sketch.stages import PRESETS, SketchRNN, SketchRNNOptions, Stage, sketch_rnn_stage

OF_THE_MACHINE = frozenset("run_dir resume words command function debug json platform devices quiet".split())
"""Options that a run does not keep."""

MODELS: dict[str, type] = {"start": SketchRNN}
"""Flags that name trained models, and the kind of each. A run keeps copies, so that it goes on whatever becomes of the
folders it was given."""


class Built(NamedTuple):
    """A stage as it was asked for.

    Attributes:
        stage: ready to run.
        models: that it begins from, by flag.
        digest: of the drawings.
        left_out: reasons, with file and row.
    """

    stage: Stage
    models: dict[str, Any]
    digest: str
    left_out: list[str]


def train(args: argparse.Namespace) -> Outcome:
    """Run one stage, or go on with its run."""
    return _resume(args) if args.resume is not None else _begin(args)


def _begin(args: argparse.Namespace) -> Outcome:
    prepare(args)
    where = stage_runs.new_folder(args)
    given = {key: value for key, value in vars(args).items() if key not in OF_THE_MACHINE | set(args.hyper)}
    given = json.loads(to_json(given))
    built = build(given)
    writable_folder(where)
    for name, model in built.models.items():
        folder.save(where / name, model)
    return _go(args, given | {"digest": built.digest}, built, where, resume=False)


def _resume(args: argparse.Namespace) -> Outcome:
    run, kept = stage_runs.begun(args.resume, "sketch", args.stage)
    prepare(args)
    return _go(args, kept, again(run.path, kept), run.path, resume=True)


def again(where: Path, kept: dict[str, Any]) -> Built:
    """The stage of an earlier run.

    Raises:
        CommandError: the drawings are not those it was begun with.
    """
    built = build(kept, where)
    if built.digest != kept["digest"]:
        raise CommandError(f"the drawings are not those that the run at {where} was begun with: put them back")
    return built


def _go(args: argparse.Namespace, given: dict[str, Any], built: Built, where: Path, *, resume: bool) -> Outcome:
    began = time.monotonic()
    name, stage = given["stage"], built.stage
    note(f"{name}: {stage.iterations:,} iterations, writing to {where}; compiling ...")
    result = jsafe.fit(
        stage.trainer,
        iterations=None if resume else stage.iterations,
        seed=None if resume else given["seed"],
        run_dir=where,
        resume=resume,
        checkpoint_every=given["checkpoint_every"],
        checkpoint_seconds=300.0,
        progress=False if args.quiet else None if args.json else True,
        extra=None if resume else {"sketch": given},
    )
    data: dict[str, Any] = {"stage": name, "run_dir": str(where), "status": result.status}
    data |= {"iterations": result.iterations, "left_out": built.left_out}
    data["final"] = {key: float(np.nanmean(values[-10:])) for key, values in result.metrics.items()}
    lines = [f"{name}: {result.status} after {result.iterations:,} iterations"]
    if result.status != "finished":
        lines.append(f"  go on with  jsafe sketch {name} --resume {where}")
        return Outcome(data, "\n".join(lines), exit_code=130)
    folder.save(where / "model", stage.finish(stage_runs.last_state(result)))
    data |= {"model": str(where / "model"), "seconds": time.monotonic() - began}
    if "best_iteration" in result.metrics:
        data["best_iteration"] = int(result.metrics["best_iteration"][-1, 0])
        data["best_valid_loss"] = float(np.nanmin(result.metrics["valid_loss"]))
        lines.append(f"  best        iteration {data['best_iteration']}, valid_loss {data['best_valid_loss']:.4g}")
    shown = "  ".join(f"{key} {data['final'][key]:.4g}" for key in stage.trainer.info.shown if key in data["final"])
    lines += [
        f"  last ten    {shown}",
        f"  time        {seconds_text(data['seconds'])}",
        f"  model       {where / 'model'}",
    ]
    return Outcome(data, "\n".join(lines))


def build(given: dict[str, Any], where: Path | None = None) -> Built:
    """A stage as it was asked for.

    Args:
        given: what the command was given, as JSON holds it.
        where: folder of a run that goes on, whose copies of models are used; None for a new run.

    Raises:
        CommandError, ValueError: what was given does not fit together, or a file cannot be used.
    """
    models = {
        flag: opened(where / flag if where else given[flag], kind, f"--{flag}")
        for flag, kind in MODELS.items()
        if given.get(flag)
    }
    return _BUILDERS[given["stage"]](given, models)


def _train(given: dict[str, Any], models: dict[str, Any]) -> Built:
    hyper, start = given["hyper"], models.get("start")
    sizes = {option["name"] for option in describe(Architecture)} & set(hyper)
    if start is not None and sizes:
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in sorted(sizes))
        raise CommandError(f"the sizes are those of --start: leave {flags} out")
    preset = PRESETS[given["preset"]]._replace(
        architecture=hyper_of(Architecture, "train", hyper, given["preset"]),
        options=hyper_of(SketchRNNOptions, "train", hyper, given["preset"]),
    )
    lot = sketch_data.gather(given)
    stage = sketch_rnn_stage(lot.train, lot.valid, preset, start=start)
    return Built(stage, models, sketch_data.digest(lot.train, lot.valid), lot.left_out)


def _predictor(given: dict[str, Any], models: dict[str, Any]) -> Built:
    size, options = (hyper_of(cls, "predictor", given["hyper"]) for cls in (PredictorSize, PredictorOptions))
    lot = sketch_data.gather(given)
    stage = predictor_stage(lot.train, lot.valid, size, options)
    return Built(stage, models, sketch_data.digest(lot.train, lot.valid), lot.left_out)


_BUILDERS = {"train": _train, "predictor": _predictor}

"""`jsafe sketch COMMAND` for what trains: from drawings to a model's folder, resumable at any iteration."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.cli import training_run
from experiments.cli.devices import prepare
from experiments.cli.result import CommandError, Outcome, note, seconds_text, to_json, writable_folder
from experiments.commands.sketch import sketch_data
from experiments.commands.sketch.sketch_models import Artist, Way, artist, in_batches, opened, pencil, save
from experiments.commands.sketch.sketch_words import hyper_of
from jsafe.config import describe
from sketch.data.strokes import has_line, pad, unpad
from sketch.judges.classifier import JudgeOptions, JudgeSize, calibrated, judge_stage
from sketch.models.discriminator import (
    DiscriminatorOptions,
    DiscriminatorSize,
    TrainedDiscriminator,
    discriminator_stage,
)
from sketch.models.guided_decoder import GuidedOptions, GuidedPreset, framed_on_host, guided_stage
from sketch.models.predictor import PredictorOptions, PredictorSize, TrainedPredictor, certain, predictor_stage
from sketch.models.sketch_rnn import Architecture
from sketch.render import contact_sheet
from sketch.training.reinforce import RewardOptions, guided_draw, reward_stage
from sketch.training.stages import Preset, SketchRNN, SketchRNNOptions, Stage, sketch_rnn_stage

OF_THE_MACHINE = frozenset("run_dir resume words command function explicit debug json platform devices quiet".split())
"""Options that a run does not keep."""

GENERATED_HEATS = (0.2, 0.4, 0.6, 0.8, 1.0)
"""Temperatures of the drawings that a discriminator is not to take for good."""

Models = dict[str, Any]
"""Trained models that a stage begins from, by the folder inside the run where copies of them are kept: so a run goes on
whatever becomes of the folders that it was given."""


class Built(NamedTuple):
    """A stage as it was asked for.

    Attributes:
        stage: ready to run.
        models: that it begins from.
        digest: of the drawings.
        left_out: reasons, with file and row.
    """

    stage: Stage
    models: Models
    digest: str
    left_out: list[str]


def train(args: argparse.Namespace) -> Outcome:
    """Run one stage, or go on with its run."""
    return _resume(args) if args.resume is not None else _begin(args)


def _begin(args: argparse.Namespace) -> Outcome:
    prepare(args)
    where = training_run.new_folder(args)
    given = {key: value for key, value in vars(args).items() if key not in OF_THE_MACHINE | set(args.hyper)}
    given = json.loads(to_json(given))
    built = build(given)
    writable_folder(where)
    for name, model in built.models.items():
        save(where / name, model)
    return _go(args, given | {"digest": built.digest}, built, where, resume=False)


def _resume(args: argparse.Namespace) -> Outcome:
    training_run.only_these_beside_resume(args, OF_THE_MACHINE - {"run_dir"})
    run, kept = training_run.begun(args.resume, "sketch", args.stage)
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
    stage = built.stage
    ended = training_run.fitted(args, given, stage.trainer, stage.iterations, where, resume=resume)
    result, data, lines = ended.result, ended.data, ended.lines
    data["left_out"] = built.left_out
    if ended.stopped is not None:
        return ended.stopped
    save(where / "model", stage.finish(training_run.last_state(result)))
    data |= {"model": str(where / "model"), "seconds": time.monotonic() - began}
    if "best_iteration" in result.metrics:
        data["best_iteration"] = int(result.metrics["best_iteration"][-1, 0])
        data["best_valid_loss"] = float(np.nanmin(result.metrics["valid_loss"]))
        lines.append(f"  best        iteration {data['best_iteration']}, valid_loss {data['best_valid_loss']:.4g}")
    lines += [
        f"  last ten    {ended.shown}",
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
    return _BUILDERS[given["stage"]](given, where)


def _opened(given: Mapping[str, Any], where: Path | None, name: str, kind: type) -> Models:
    """The model that a flag names, if it does; of a run that goes on, its copy."""
    if not given.get(name):
        return {}
    return {name: opened(where / name if where else given[name], kind, f"--{name}")}


def _finished_as(stage: Stage, change: Any) -> Stage:
    """The same stage, whose trained model becomes something more."""
    return stage._replace(finish=lambda state: change(stage.finish(state)))


def _train(given: dict[str, Any], where: Path | None) -> Built:
    hyper, preset = given["hyper"], given["preset"]
    models = _opened(given, where, "start", SketchRNN) | _opened(given, where, "predictor", TrainedPredictor)
    start, predictor = models.get("start"), models.get("predictor")
    sizes = {option["name"] for option in describe(Architecture)} & set(hyper)
    if start is not None and sizes:
        raise CommandError(f"the sizes are those of --start: leave {_flags(sizes)} out")
    plain = {option["name"] for option in describe(SketchRNNOptions)}
    if predictor is None and (more := set(hyper) - plain - sizes):
        raise CommandError(f"{_flags(more)} is of a guided decoder: name what guides it with --predictor DIR")
    architecture = hyper_of(Architecture, "train", hyper, preset)
    lot = sketch_data.gather(given)
    told = sketch_data.digest(lot.train, lot.valid)
    if predictor is not None:
        options = hyper_of(GuidedOptions, "train", hyper, preset)
        stage = guided_stage(lot.train, lot.valid, predictor, GuidedPreset(architecture, options), start=start)
        return Built(_finished_as(stage, lambda model: Artist(model, predictor)), models, told, lot.left_out)
    if start is not None and start.config.extra_inputs:
        raise CommandError("--start is guided by a predictor: name it with --predictor DIR")
    framed = given["framed"] or (start is not None and start.framed)
    train, valid = (unpad(framed_on_host(pad(part))) if framed and part else part for part in (lot.train, lot.valid))
    options = hyper_of(SketchRNNOptions, "train", hyper, preset)
    stage = sketch_rnn_stage(train, valid, Preset(architecture, options), start=start)
    return Built(_finished_as(stage, lambda model: model._replace(framed=framed)), models, told, lot.left_out)


def _flags(names: set[str]) -> str:
    return ", ".join(f"--{name.replace('_', '-')}" for name in sorted(names))


def _predictor(given: dict[str, Any], where: Path | None) -> Built:
    size, options = (hyper_of(cls, "predictor", given["hyper"]) for cls in (PredictorSize, PredictorOptions))
    lot = sketch_data.gather(given)
    stage = predictor_stage(lot.train, lot.valid, size, options)
    return Built(stage, {}, sketch_data.digest(lot.train, lot.valid), lot.left_out)


def _discriminator(given: dict[str, Any], where: Path | None) -> Built:
    hyper, preset = given["hyper"], given["preset"]
    size, options = (hyper_of(c, "discriminator", hyper, preset) for c in (DiscriminatorSize, DiscriminatorOptions))
    models = _opened(given, where, "start", TrainedDiscriminator)
    for number, path in enumerate(given.get("generator") or ()):
        name = f"generator-{number}"
        models[name] = artist(where / name if where else path, "--generator")
    lot = sketch_data.gather(given)
    train, valid = {}, {}
    if given.get("others"):
        found = sketch_data.others(given, lot)
        train["others"], valid["others"] = found.train, found.valid
    for name, by in models.items():
        if isinstance(by, Artist):
            note(f"{given['generated']:,} drawings of {name} ...")
            drawn = _generated(by, given["generated"] + len(lot.valid), given["seed"])
            train[name], valid[name] = drawn[: given["generated"]], drawn[given["generated"] :]
    stage = discriminator_stage(
        lot.train, train, lot.valid, valid if lot.valid else {}, size, options, start=models.get("start")
    )
    parts = [*lot[:2], *(part for kinds in (train, valid) for kind, part in kinds.items() if kind == "others")]
    return Built(stage, models, sketch_data.digest(*parts), lot.left_out)


def _generated(by: Artist, count: int, seed: int) -> list[np.ndarray]:
    """Drawings of a model at all of `GENERATED_HEATS` in turn; those without a line are drawn again."""
    found: list[np.ndarray] = []
    draw, size = pencil(by, Way(by.model.max_length)), min(count, 500)
    for number in range(20):
        heat = np.resize(np.array(GENERATED_HEATS, np.float32), -(-(count - len(found)) // size) * size)
        drawn = in_batches(draw, seed + number * 1_000_003, size, heat).drawn
        found += [drawing for drawing in by.from_model(drawn.rows) if has_line(drawing)]
        if len(found) >= count:
            return found[:count]
    raise CommandError("a --generator draws next to nothing: train it for longer")


def _judge(given: dict[str, Any], where: Path | None) -> Built:
    architecture = given["architecture"]
    size, options = (hyper_of(cls, "judge", given["hyper"], architecture) for cls in (JudgeSize, JudgeOptions))
    left_out: list[str] = []
    images: Any
    names: Any
    if given.get("bitmaps"):
        if architecture == "recurrent" or given.get("data") or given.get("procedural"):
            raise CommandError("--bitmaps go alone, and a recurrent judge reads strokes: give these with --data")
        of_vectors = {"valid": "--valid", "recognized_only": "--recognized-only", "skip": "--skip"}
        idle = [flag for name, flag in of_vectors.items() if given.get(name)]
        idle += ["--split"] if given.get("split", "train") != "train" else []
        if idle:
            raise CommandError(f"{idle[0]} is about drawings as vectors and changes nothing of --bitmaps: leave it out")
        found = sketch_data.bitmaps(given)
        images, names = zip(*found, strict=True)
        digest = sketch_data.digest(*(part.reshape(len(part), -1) for part in images))
    else:
        if idle := [f"--{name.replace('_', '-')}" for name in ("from_line", "per_class") if given.get(name)]:
            raise CommandError(f"{idle[0]} chooses among --bitmaps and changes nothing of --data: leave it out")
        if not given.get("data") and not given.get("procedural"):
            raise CommandError(
                "say what to learn from: jsafe sketch judge --bitmaps FILE, or --data FILE --data OTHERS for strokes"
            )
        lot = sketch_data.gather(given)
        names, left_out, digest = lot.labels, lot.left_out, sketch_data.digest(*lot[:2])
        images = tuple(
            (pad if architecture == "recurrent" else contact_sheet.bitmaps)(part) if part else None for part in lot[:2]
        )
    classes = sorted(set(names[0]))
    if len(classes) < 2 or not set(names[1]) <= set(classes):
        raise CommandError(f"a judge tells classes apart, and there is {', '.join(map(repr, classes))} to learn from")
    numbers = [np.array([classes.index(name) for name in part], np.int32) for part in names]
    held = images[1] if numbers[1].size else None
    stage = judge_stage(images[0], numbers[0], held, None if held is None else numbers[1], classes, size, options)
    if held is not None:
        stage = _finished_as(stage, lambda model: calibrated(model, held, numbers[1]))
    return Built(stage, {}, digest, left_out)


def _reward(given: dict[str, Any], where: Path | None) -> Built:
    if not given.get("model") or not given.get("discriminator"):
        raise CommandError("reward needs --model DIR and --discriminator DIR: what draws, and what says how well")
    models: Models = {"model-before": artist(where / "model-before" if where else given["model"], "--model")}
    models |= _opened(given, where, "discriminator", TrainedDiscriminator)
    by = models["model-before"]
    start = by.model
    lot = sketch_data.gather(given)
    train = unpad(framed_on_host(pad(lot.train))) if by.framed else lot.train
    options = hyper_of(RewardOptions, "reward", given["hyper"], given["preset"])
    draw = told = None
    if by.guided:
        # What was drawn is looked at again for its gradient, so the predictor has to say the same twice.
        by = by._replace(predictor=certain(by.predictor))
        draw, told = guided_draw(start, by.predictor, options)
    stage = reward_stage(start, draw, models["discriminator"], train, options, told)
    if by.guided:
        stage = _finished_as(stage, lambda model: Artist(model, by.predictor))
    return Built(stage, models, sketch_data.digest(lot.train), lot.left_out)


_BUILDERS = {
    "judge": _judge,
    "reward": _reward,
    "train": _train,
    "predictor": _predictor,
    "discriminator": _discriminator,
}

"""`jsafe sketch experiment` and `evaluate`: systems that draw, held against people by one protocol."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.cli import training_run
from experiments.cli.devices import prepare
from experiments.cli.result import CommandError, Outcome, note, seconds_text, to_json, unknown, writable_folder
from experiments.commands.sketch import sketch_data
from experiments.commands.sketch.sketch_models import Artist, Way, artist, in_batches, opened, pencil
from experiments.commands.sketch.sketch_words import hyper_of
from experiments.pipeline import spec
from sketch.data.drawing_files import SPLITS
from sketch.evaluation import tables
from sketch.evaluation.compare import EvaluationOptions
from sketch.evaluation.compare import evaluate as compare
from sketch.evaluation.generated_sets import Sample
from sketch.evaluation.human_test_set import human_drawings, unseen
from sketch.evaluation.stroke_nll import stroke_losses
from sketch.judges.classifier import TrainedJudge, judged
from sketch.judges.judge_protocol import BITMAPS, VECTORS, AskedJudge
from sketch.models.discriminator import TrainedDiscriminator
from sketch.models.predictor import TrainedPredictor
from sketch.render import contact_sheet
from sketch.sampling.stroke_candidates import Inspection

TEMPERATURES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.65, 0.8, 1.0)
"""That every system draws at, as described."""

SHOWN = 30
"""Drawings of each row of the sheet."""


class Rival(NamedTuple):
    """One trained model of a system.

    Attributes:
        system: its name.
        seed: of its training.
        by: who draws.
        inspection: how strokes are chosen; None to take them as they come.
        critic: what the best of several is chosen by; None where there is none.
    """

    system: str
    seed: int
    by: Artist
    inspection: Inspection | None = None
    critic: TrainedDiscriminator | None = None


class Field(NamedTuple):
    """What is compared, and by whom.

    Attributes:
        rivals: models of all systems; those of the baseline first.
        judges: by name.
        training: drawings that the first model learned from, none where they are no longer there.
        order: a predictor that no system uses, for what is disordered; None where there is none.
    """

    rivals: list[Rival]
    judges: dict[str, TrainedJudge]
    training: list[np.ndarray]
    order: TrainedPredictor | None = None


def experiment(args: argparse.Namespace) -> Outcome:
    """Run `jsafe sketch experiment`."""
    ended = spec.run_experiment(spec.request_of(args), "sketch")
    if isinstance(ended, Outcome):
        return ended
    lines = [f"{len(ended.steps)} steps are done"]
    if "comparison" in ended.declaration:
        lines.append(f"compare them with people:  jsafe sketch evaluate {ended.folder} --human DIR")
    return Outcome({"steps": ended.data, "run_dir": str(ended.folder)}, "\n".join(lines))


def evaluate(args: argparse.Namespace) -> Outcome:
    """Run `jsafe sketch evaluate`."""
    began = time.monotonic()
    prepare(args)
    if args.human is None:
        raise CommandError("say where drawings of people are: --human DIR")
    options = hyper_of(EvaluationOptions, "evaluate", {**args.hyper, "seed": args.seed})
    splits = {None: None, "all": (*SPLITS, "")}.get(args.human_split, (args.human_split or "",))
    try:
        human = human_drawings(
            args.human,
            options.target,
            bitmap_key=args.bitmap_key,
            splits=splits,
            allow_pickle=args.allow_pickle,
            skip=args.skip,
            max_points=args.max_points,
        )
    except ValueError as error:
        raise ValueError(str(error).replace("with allow_pickle", "with --allow-pickle")) from None
    field = field_of(args)
    human = unseen(human, field.training)
    if not len(human.bitmaps) and not human.vectors:
        raise CommandError(f"{args.human} holds only drawings that the first system learned from")
    where = args.out or args.compared / "evaluation"
    writable_folder(where)
    heats = tuple(args.temperature or TEMPERATURES)
    systems = drawn(field.rivals, heats, args.samples, args.best_of or 1, args.seed, args.batch_size)
    note(f"judging {sum(len(s.drawings) for each in systems.values() for s in each):,} drawings ...")
    judges: dict[str, Any] = {name: asked(judge, options.target, name) for name, judge in field.judges.items()}
    order = partial(stroke_losses, field.order) if field.order else None
    report = compare(systems, human, judges, field.training, options, stroke_nll=order)
    data = {**report._asdict(), "seconds": time.monotonic() - began, "samples": args.samples}
    (where / "evaluation.json").write_text(to_json(data))
    text = tables.markdown(report)
    (where / "evaluation.md").write_text(text)
    pictures = [str(path) for path in tables.figures(report, where)]
    people = human.vectors[:SHOWN]
    pictures += [str(path) for path in drawn_sheets(where, systems, people, heats)]
    data |= {"pictures": pictures, "report": str(where / "evaluation.md")}
    ending = [f"report      {where / 'evaluation.md'}", f"time        {seconds_text(data['seconds'])}"]
    return Outcome(data, "\n".join([tables.summary(report), *ending]))


def asked(judge: TrainedJudge, target: str, name: str) -> AskedJudge:
    """A trained judge as the protocol asks it.

    Raises:
        CommandError: it does not know the class.
    """
    if target not in judge.classes:
        raise CommandError(f"judge {name} does not know {target!r}; it knows {', '.join(judge.classes)}")
    kind = VECTORS if judge.size.architecture == "recurrent" else BITMAPS
    return AskedJudge(kind, judge.classes, partial(judged, judge))


def field_of(args: argparse.Namespace) -> Field:
    """What a command is to compare: the systems of an experiment, or one model.

    Raises:
        CommandError: the folder is neither, or steps of the experiment have not ended.
    """
    mark = args.compared / spec.MARK
    places = args.judge or ()
    names = training_run.names_of(places) if places else []
    judges = {name: opened(path, TrainedJudge, "--judge") for name, path in zip(names, places, strict=True)}
    if not mark.is_file():
        rival = Rival(args.compared.name, 0, artist(args.compared, "evaluate"))
        if not judges:
            raise CommandError("name who judges, which `jsafe sketch judge` trains: --judge DIR")
        if args.best_of:
            raise CommandError("--best-of needs the discriminator of an experiment")
        if args.system:
            raise CommandError(f"--system chooses among those of an experiment, and {args.compared} is one model")
        return Field([rival], judges, learned_from(args.compared))
    kept = json.loads(mark.read_text())
    comparison = kept.get("comparison")
    if not comparison:
        raise CommandError(f"{args.compared} is an experiment without a [comparison]")
    known = {step["name"] for step in kept["steps"]}

    def step(name: str, seed: int | None = None) -> Path:
        name = name.format(seed=seed)
        if name not in known or not (args.compared / name / "model").is_dir():
            raise CommandError(f"step {name!r} of {args.compared} has not ended; go on with the experiment")
        return args.compared / name

    critics: dict[int, TrainedDiscriminator] = {}
    if args.best_of and args.best_of > 1:
        for seed in comparison["seeds"]:
            critics[seed] = opened(step(comparison["discriminator"], seed), TrainedDiscriminator, "discriminator")
    rivals = []
    by_name = {system["name"]: system for system in comparison["system"]}
    if lacking := [name for name in args.system or () if name not in by_name]:
        raise unknown("--system", lacking[0], by_name)
    chosen = [by_name[name] for name in args.system or by_name]
    for system in chosen:
        for seed in comparison["seeds"]:
            guide = step(system["predictor"], seed) if "predictor" in system else None
            by = artist(step(system["model"], seed), system["name"], guide)
            how = Inspection(**system.get("inspection", {})) if system.get("inspect") else None
            rivals.append(Rival(system["name"], seed, by, how, critics.get(seed)))
    judges = judges or {name: opened(step(name), TrainedJudge, name) for name in comparison["judges"]}
    order = opened(step(comparison["order"]), TrainedPredictor, "order") if "order" in comparison else None
    first = chosen[0]["model"]
    return Field(rivals, judges, learned_from(step(first, comparison["seeds"][0])), order)


def learned_from(run: Path) -> list[np.ndarray]:
    """Drawings that a run learned from; none, with a note, where it does not say or they are not there."""
    try:
        given = training_run.begun(run, "sketch")[1]
        return sketch_data.gather(given).train
    except (CommandError, OSError, ValueError) as error:
        note(f"copies of training drawings are not looked for: {error}")
        return []


def drawn(
    rivals: Sequence[Rival], heats: Sequence[float], count: int, best_of: int, seed: int, batch_size: int
) -> dict[str, list[Sample]]:
    """Samples of each system, of every model at every temperature: as they come and, if asked for, the best of several.

    Args:
        rivals: models.
        heats: temperatures.
        count: drawings of each.
        best_of: drawings of which the discriminator chooses one; 1 for no second set of samples.
        seed: root of all randomness.
        batch_size: drawings at once.
    """
    found: dict[str, list[Sample]] = {}
    temperature = np.repeat(np.asarray(heats, np.float32), count)
    for number, rival in enumerate(rivals):
        for tries in sorted({1, best_of if rival.critic else 1}):
            note(f"[{number + 1}/{len(rivals)}] {rival.system}, seed {rival.seed}, best of {tries}")
            critic = rival.critic if tries > 1 else None
            way = Way(rival.by.model.max_length, inspection=rival.inspection, critic=critic, tries=tries)
            draw = pencil(rival.by, way)
            rows = np.asarray(in_batches(draw, seed, min(batch_size, len(temperature)), temperature).drawn.rows)
            drawings = rival.by.from_model(rows)
            finished = np.any(rows[..., 4] > 0, axis=1)
            for place_, heat in enumerate(heats):
                part = slice(place_ * count, (place_ + 1) * count)
                one = Sample(rival.seed, float(heat), tries, drawings[part], finished[part])
                found.setdefault(rival.system, []).append(one)
    return found


def drawn_sheets(
    where: Path, systems: Mapping[str, Sequence[Sample]], people: Sequence[np.ndarray], heats: Sequence[float]
) -> list[Path]:
    """A sheet with a row of people's drawings and one of each system and temperature."""
    rows = [("people", people)] if len(people) else []
    for name, samples in systems.items():
        for one in samples:
            if one.seed == samples[0].seed and one.temperature in (heats[len(heats) // 4], heats[len(heats) // 2]):
                what = f", best of {one.best_of}" if one.best_of > 1 else ""
                rows.append((f"{name}|T {one.temperature:g}{what}", one.drawings))
    columns = min(12, *(len(drawings) for _, drawings in rows))
    drawings = [drawing for _, row in rows for drawing in row[:columns]]
    captions = [text for name, _ in rows for text in [*name.split("|"), *[""] * columns][:columns]]
    path = where / "sheet.png"
    contact_sheet.save_png(path, contact_sheet.sheet(drawings, columns, captions))
    return [path]

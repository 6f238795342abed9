"""`jsafe sketch` with trained models: draw, finish drawings, draw what lies between two, write models out."""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.cli import training_run
from experiments.cli.devices import prepare
from experiments.cli.result import CommandError, Outcome, note, writable_folder
from experiments.commands.sketch import sketch_data
from experiments.commands.sketch.sketch_models import (
    Artist,
    Way,
    artist,
    begun_rows,
    in_batches,
    opened,
    pencil,
    place,
    save,
)
from experiments.commands.sketch.sketch_words import hyper_of
from sketch.data import strokes, svg
from sketch.data.drawing_files import checked, load
from sketch.data.simplify import ramer_douglas_peucker
from sketch.data.strokes import has_line, pad, unpad
from sketch.models import checkpoint, sketch_rnn
from sketch.models.discriminator import TrainedDiscriminator, refined
from sketch.render import contact_sheet
from sketch.sampling.guided_sampling import Chosen, Inspection
from sketch.sampling.sample import slerp
from sketch.training.stages import SketchRNN

DRAWINGS, SHEET, VECTORS = "drawings.npz", "sheet.png", "svg"
"""What a folder of drawings has."""

COLUMNS = 10
"""Drawings in a row of a sheet."""


@contextlib.contextmanager
def new_folder(out: Path | None) -> Iterator[Path]:
    """A folder to write into that gets its name when all is written, so that nothing is ever half there.

    Args:
        out: the name; there must be nothing yet, or an empty folder.

    Raises:
        CommandError: no name is given, something is there, or nothing can be written beside it.
    """
    if out is None:
        raise CommandError("say where the drawings go: --out DIR")
    check_new(out)
    writable_folder(out.parent)
    part = out.parent / f".{out.name}.{os.getpid()}.part"
    part.mkdir()
    try:
        yield part
        os.replace(part, out)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def check_new(out: Path | None) -> None:
    """Raise a CommandError unless a folder of this name can be made; asked before anything is computed."""
    if out is None:
        raise CommandError("say where it goes: --out DIR")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise CommandError(f"{out} is there already and not an empty folder: name another one with --out")


def read_drawings(args: argparse.Namespace, path: Path | None, flag: str, row: int | None = None) -> list[np.ndarray]:
    """stroke-3 of a file, all of them or one, with positions multiplied by `--scale`.

    Raises:
        CommandError: no file is named, or it has no such row.
        ValueError: the file or a drawing cannot be used, by file and row.
    """
    if path is None:
        raise CommandError(f"name the file of {flag}: {flag} FILE.npz, FILE.ndjson or FILE.svg")
    if path.suffix == ".svg":
        found = [_simplified(svg.read(path), path, args)]
    else:
        drawings, left_out = load(path, allow_pickle=args.allow_pickle, skip=args.skip, max_points=args.max_points)
        found = [drawing.strokes * np.array([args.scale, args.scale, 1.0], np.float32) for drawing in drawings]
        if left_out:
            note(f"{len(left_out)} drawings left out: {left_out[0]}")
    if row is not None:
        if not 0 <= row < len(found):
            raise CommandError(f"{path} has {len(found)} drawings, from 0 on, and none is {row}")
        found = [found[row]]
    return found


def _simplified(drawing: np.ndarray, path: Path, args: argparse.Namespace) -> np.ndarray:
    """The drawing of an SVG file in the unit of the model, with as few points as the published ones have."""
    lines = [line * args.scale for line in strokes.to_polylines(drawing)]
    try:
        return checked(strokes.from_polylines([ramer_douglas_peucker(line) for line in lines]), args.max_points)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def write(
    out: Path,
    drawings: Sequence[np.ndarray],
    svgs: int,
    shown: Sequence[np.ndarray],
    captions: Sequence[str],
    **beside: Any,
) -> None:
    """Write drawings into a folder: as vectors, as a sheet, and the first ones as SVG.

    Args:
        out: the folder, which is there.
        drawings: stroke-3 each.
        svgs: how many as SVG.
        shown: drawings of the sheet.
        captions: of these, or none.
        beside: further arrays for the vectors' file.
    """
    sketch_data.save(out / DRAWINGS, drawings, **beside)
    contact_sheet.save_png(out / SHEET, contact_sheet.sheet(shown, COLUMNS, captions))
    if svgs > 0:
        (out / VECTORS).mkdir()
    for number, drawing in enumerate(drawings[: max(svgs, 0)]):
        (out / VECTORS / f"{number:04d}.svg").write_text(contact_sheet.svg(drawing))


def of_each(groups: int, count: int) -> list[int]:
    """Which drawings a sheet shows of `groups` times `count`: of each group the same number, a hundred or so in all."""
    most = max(COLUMNS * COLUMNS // groups // COLUMNS, 1) * COLUMNS
    return [group * count + i for group in range(min(groups, COLUMNS * COLUMNS)) for i in range(min(count, most))]


def way_of(args: argparse.Namespace, by: Artist, length: int) -> Way:
    """How a command is to draw.

    Raises:
        CommandError: options that do not fit together, or a model that cannot do it.
    """
    chosen = {**args.hyper, "temperature": args.choice_temperature}
    inspection = hyper_of(Inspection, args.stage, chosen) if args.inspect else None
    if args.choice_temperature and not args.inspect:
        raise CommandError("--choice-temperature is of the choice of strokes: add --inspect")
    if args.hyper and not args.inspect:
        raise CommandError(f"--{next(iter(args.hyper)).replace('_', '-')} is of the choice of strokes: add --inspect")
    if args.inspect and by.predictor is None:
        raise CommandError("--inspect needs --predictor DIR, the network that looks on")
    if args.inspect and not by.framed:
        raise CommandError(
            f"{args.model} does not know where on the canvas it draws, so nothing can look on: train it with --framed"
        )
    if args.predictor and not args.inspect and not by.guided:
        raise CommandError(f"{args.model} is not told what a predictor says: add --inspect, or leave --predictor out")
    uses = {f"--{name.replace('_', '-')}": getattr(args, name) for name in ("best_of", "refine") if hasattr(args, name)}
    if any(uses.values()) != (args.discriminator is not None):
        flags = [flag for flag, value in uses.items() if value] or list(uses)
        raise CommandError(f"{' or '.join(flags)} and --discriminator DIR go together")
    critic = opened(args.discriminator, TrainedDiscriminator, "--discriminator") if args.best_of else None
    return Way(length, args.convention, inspection, critic, args.best_of or 1)


def generate(args: argparse.Namespace) -> Outcome:
    """Run `jsafe sketch generate`."""
    prepare(args)
    check_new(args.out)
    by = artist(args.model, "generate", args.predictor)
    way, wanted, count = (
        way_of(args, by, args.length or by.model.max_length),
        args.temperature or [0.4],
        args.count or 100,
    )
    temperature = np.repeat(np.asarray(wanted, np.float32), count)
    note(f"drawing {len(temperature):,} times with the model of {args.model}; compiling ...")
    found = in_batches(pencil(by, way), args.seed, min(args.batch_size, len(temperature)), temperature)
    text = f"{count} drawings at each of the temperatures {', '.join(f'{t:g}' for t in wanted)}"
    return _told(args, by, found, temperature, text, of_each(len(wanted), count))


def complete(args: argparse.Namespace) -> Outcome:
    """Run `jsafe sketch complete`: several endings of each drawing that was begun."""
    prepare(args)
    check_new(args.out)
    by = artist(args.model, "complete", args.predictor)
    begun = read_drawings(args, args.strokes, "--strokes", args.row)
    longest, wanted, count = max(map(len, begun)), args.temperature or [0.4], args.count or 9
    length = args.length or max(by.model.max_length, longest + 1)
    if longest >= length:
        raise CommandError(f"{args.strokes} has a drawing of {longest} points, and --length {length} leaves no room")
    way, each = way_of(args, by, length), len(wanted) * count
    temperature = np.tile(np.repeat(np.asarray(wanted, np.float32), count), len(begun))
    rows = {name: np.repeat(array, each, axis=0) for name, array in begun_rows(by, begun, longest).items()}
    found = in_batches(pencil(by, way), args.seed, min(args.batch_size, len(temperature)), temperature, **rows)
    text = f"{each} endings of each of {len(begun)} drawings"
    return _told(args, by, found, temperature, text, of_each(len(begun), each), begun=rows["given_lengths"])


def interpolate(args: argparse.Namespace) -> Outcome:
    """Run `jsafe sketch interpolate`: drawings on the way from one to another."""
    prepare(args)
    check_new(args.out)
    by = artist(args.model, "interpolate")
    model = by.model
    if not model.config.conditional:
        raise CommandError(
            f"{args.model} has no encoder, so nothing lies between two drawings: train one with "
            "jsafe sketch train --preset code, or --conditional"
        )
    ends = read_drawings(args, args.first, "--from", args.from_row) + read_drawings(
        args, args.last, "--to", args.to_row
    )
    if len(args.temperature or [0.1]) > 1:
        raise CommandError("interpolate takes one --temperature")
    given = begun_rows(by, ends, max(map(len, ends)))
    rows, lengths = (jnp.asarray(given[name]) for name in ("given", "given_lengths"))
    known = sketch_rnn.encode(model.config, model.params, rows, lengths).mean
    z = np.asarray(slerp(known[0], known[1], args.frames))
    temperature = np.full(args.frames, (args.temperature or [0.1])[0], np.float32)
    draw = pencil(by, Way(args.length or model.max_length, args.convention))
    found = in_batches(draw, args.seed, args.frames, temperature, z=z)
    return _told(args, by, found, temperature, f"{args.frames} drawings from one to another", range(args.frames))


def _told(
    args: argparse.Namespace,
    by: Artist,
    found: Chosen,
    temperature: np.ndarray,
    text: str,
    shown: Sequence[int],
    **beside: Any,
) -> Outcome:
    """Write what was drawn, and say so."""
    rows = np.asarray(found.drawn.rows)
    drawings, finished = by.from_model(rows), rows[:, :, 4].max(axis=1) > 0
    odds = None
    if getattr(args, "refine", None):
        drawings, odds = _refined(args, drawings, rows.shape[1])
        beside["odds"] = odds
    beside |= {"temperature": temperature, "finished": finished, "log_probability": found.drawn.log_probability}
    empty = sum(not has_line(drawing) for drawing in drawings)
    data = {"out": str(args.out), "drawings": len(drawings), "finished": int(finished.sum()), "empty": empty}
    lines = [f"{text}, in {args.out}"]
    if getattr(args, "best_of", None):
        beside["score"] = found.score
        data |= {"best_of": args.best_of, "score": np.mean(found.score), "mean_score": np.mean(found.mean_score)}
        data["accepted"] = np.mean(found.accepted)
        lines.append(
            f"  the best of {args.best_of} each: score {data['score']:.3f}, of all {data['mean_score']:.3f}, "
            f"{data['accepted']:.0%} of which are taken for good"
        )
    if odds is not None:
        before, after = np.nanmean(odds, axis=0)
        data |= {"refined": args.refine, "log_odds_before": before, "log_odds": after}
        lines.append(f"  refined in {args.refine} steps: mean log odds {before:.3f} before, {after:.3f} after")
    if not finished.all():
        lines.append(f"  {len(drawings) - data['finished']} did not end within {rows.shape[1]} points")
    if empty:
        lines.append(f"  {empty} have no line; to read {DRAWINGS} leave them out with --skip")
    with new_folder(args.out) as out:
        captions = [f"{n}: T {temperature[n]:g}" for n in shown]
        write(out, drawings, args.svgs, [drawings[n] for n in shown], captions, **beside)
    return Outcome(data, "\n".join(lines))


def _refined(
    args: argparse.Namespace, drawings: Sequence[np.ndarray], length: int
) -> tuple[list[np.ndarray], np.ndarray]:
    """Drawings moved up the discriminator's gradient, and log odds before and after, NaN where there is no line."""
    critic = opened(args.discriminator, TrainedDiscriminator, "--discriminator")
    refine = jax.jit(refined(critic.size, args.refine))
    lines = [number for number, drawing in enumerate(drawings) if has_line(drawing)]
    found, odds = list(drawings), np.full((len(drawings), 2), np.nan, np.float32)
    size = min(args.batch_size, max(len(lines), 1))
    for first in range(0, len(lines), size):
        part = lines[first : first + size]
        filled = [drawings[n] for n in (*part, *[part[-1]] * (size - len(part)))]
        better, said = refine(critic.params, pad(filled, length))
        for number, drawing, values in zip(part, unpad(better), np.asarray(said), strict=False):
            found[number], odds[number] = drawing, values
    return found, odds


def export(args: argparse.Namespace) -> Outcome:
    """Run `jsafe sketch export`: the model of a run, or of one of its checkpoints, as a folder."""
    from experiments.commands.sketch.sketch_train import again

    prepare(args)
    check_new(args.out)
    trained = (args.model / "model" / checkpoint.DESCRIPTION).is_file() or (
        args.model / checkpoint.DESCRIPTION
    ).is_file()
    if args.iteration is None and trained:
        model, text = opened(args.model, None, "export"), f"the model of {place(args.model)}"
        if isinstance(model, SketchRNN):
            model = artist(args.model, "export")
    else:
        run, kept = training_run.begun(args.model, "sketch")
        stage = again(run.path, kept).stage
        state, iteration = training_run.saved(run, stage.trainer, args.iteration)
        model, text = stage.finish(state), f"the best parameters of iterations 1 to {iteration} of {run.path}"
    with new_folder(args.out) as out:
        save(out, model)
    return Outcome({"model": str(args.out)}, f"{text}, in {args.out}")

"""`jsafe sketch` with trained models: draw, finish drawings, draw what lies between two, write models out."""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments import sketch_data, stage_runs
from experiments.context import prepare
from experiments.outcome import CommandError, Outcome, note, writable_folder
from experiments.sketch_models import opened, place
from sketch import folder, sheets, sketch_rnn, strokes, svg
from sketch.files import checked, load
from sketch.raster import BOX
from sketch.sampling import Drawn, sample, slerp
from sketch.simplify import ramer_douglas_peucker
from sketch.stages import SketchRNN

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


def in_batches(draw: Callable[..., Drawn], seed: int, size: int, temperature: np.ndarray, *each: np.ndarray) -> Drawn:
    """Drawings of one compiled program that draws so many at once.

    Args:
        draw: `(key, temperature [size], *rows [size, ...]) -> Drawn`.
        seed: root of all randomness.
        size: drawings of a batch.
        temperature: `[N]`.
        each: further arrays `[N, ...]`.
    """
    parts = []
    for number, begin in enumerate(range(0, len(temperature), size)):
        rows = np.minimum(np.arange(begin, begin + size), len(temperature) - 1)
        found = draw(jax.random.fold_in(jax.random.key(seed), number), *(array[rows] for array in (temperature, *each)))
        real = min(size, len(temperature) - begin)
        parts.append(jax.tree.map(lambda leaf, real=real: np.asarray(leaf)[:real], found))
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)


def in_model_unit(model: SketchRNN, drawing: np.ndarray) -> np.ndarray:
    """stroke-3 as the model has it. One that is told where the pen is has the origin at the centre of the box."""
    found = np.array(drawing, np.float32)
    if model.config.extra_inputs:
        found[:1, :2] -= BOX / 2
    found[:, :2] /= model.scale_factor
    return found


def in_own_unit(model: SketchRNN, rows: Any) -> list[np.ndarray]:
    """stroke-3 in the unit that the model learned from, of stroke-5 `[B, N, 5]` in the model's."""
    found = []
    for row in np.asarray(rows):
        drawing = strokes.from_stroke5(row)
        drawing[:, :2] *= model.scale_factor
        if model.config.extra_inputs:
            drawing[:1, :2] += BOX / 2
        found.append(drawing)
    return found


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
    sheets.save_png(out / SHEET, sheets.sheet(shown, COLUMNS, captions))
    if svgs > 0:
        (out / VECTORS).mkdir()
    for number, drawing in enumerate(drawings[: max(svgs, 0)]):
        (out / VECTORS / f"{number:04d}.svg").write_text(sheets.svg(drawing))


def of_each(groups: int, count: int) -> list[int]:
    """Which drawings a sheet shows of `groups` times `count`: of each group the same number, a hundred or so in all."""
    most = max(COLUMNS * COLUMNS // groups // COLUMNS, 1) * COLUMNS
    return [group * count + i for group in range(min(groups, COLUMNS * COLUMNS)) for i in range(min(count, most))]


def generate(args: argparse.Namespace) -> Outcome:
    """Run `jsafe sketch generate`."""
    prepare(args)
    check_new(args.out)
    model = opened(args.model, SketchRNN, "generate")
    length, wanted = args.length or model.max_length, args.temperature or [0.4]
    count = args.count or 100
    temperature = np.repeat(np.asarray(wanted, np.float32), count)
    draw = jax.jit(lambda key, heat: sample(model.config, model.params, key, heat, length, convention=args.convention))

    note(f"drawing {len(temperature):,} times with a model of {args.model}; compiling ...")
    found = in_batches(draw, args.seed, min(args.batch_size, len(temperature)), temperature)
    text = f"{count} drawings at each of the temperatures {', '.join(f'{t:g}' for t in wanted)}"
    return _told(args, model, found, temperature, text, of_each(len(wanted), count))


def complete(args: argparse.Namespace) -> Outcome:
    """Run `jsafe sketch complete`: several endings of each drawing that was begun."""
    prepare(args)
    check_new(args.out)
    model = opened(args.model, SketchRNN, "complete")
    begun = read_drawings(args, args.strokes, "--strokes", args.row)
    longest, wanted, count = max(map(len, begun)), args.temperature or [0.4], args.count or 9
    length = args.length or max(model.max_length, longest + 1)
    if longest >= length:
        raise CommandError(f"{args.strokes} has a drawing of {longest} points, and --length {length} leaves no room")
    each = len(wanted) * count
    rows, lengths = begun_rows(model, begun, longest)
    temperature = np.tile(np.repeat(np.asarray(wanted, np.float32), count), len(begun))
    draw = jax.jit(lambda key, heat, *given: completed(model, key, heat, length, args.convention, *given))
    repeated = (np.repeat(array, each, axis=0) for array in (rows, lengths))
    found = in_batches(draw, args.seed, min(500, len(temperature)), temperature, *repeated)
    text = f"{each} endings of each of {len(begun)} drawings"
    return _told(args, model, found, temperature, text, of_each(len(begun), each), begun=np.repeat(lengths, each))


def begun_rows(model: SketchRNN, begun: Sequence[np.ndarray], length: int) -> tuple[np.ndarray, np.ndarray]:
    """Drawings that were begun as `completed` takes them: stroke-5 `[B, length, 5]` and how many rows count `[B]`.

    Args:
        model: in whose unit they are to be.
        begun: stroke-3 each, in the unit that it learned from.
        length: at least that of the longest.
    """
    rows = np.stack([strokes.to_stroke5(in_model_unit(model, drawing), length) for drawing in begun])
    return rows, np.array([len(drawing) for drawing in begun], np.int32)


def completed(
    model: SketchRNN,
    key: jax.Array,
    temperature: jax.Array,
    length: int,
    convention: str,
    given: jax.Array,
    lengths: jax.Array,
) -> Drawn:
    """Drawings that begin with given rows, inside a program; see `begun_rows`.

    A model with an encoder finishes a drawing as what it takes the beginning for, and anyhow where nothing is given.
    """
    key, way = jax.random.split(key)
    z = None
    if model.config.conditional:
        known = sketch_rnn.encode(model.config, model.params, given, lengths).mean
        z = jnp.where(lengths[:, None] > 0, known, jax.random.normal(way, known.shape))
    return sample(
        model.config, model.params, key, temperature, length,
        z=z, convention=convention, given=given, given_lengths=lengths,
    )  # fmt: skip


def interpolate(args: argparse.Namespace) -> Outcome:
    """Run `jsafe sketch interpolate`: drawings on the way from one to another."""
    prepare(args)
    check_new(args.out)
    model = opened(args.model, SketchRNN, "interpolate")
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
    length = args.length or model.max_length
    rows, lengths = begun_rows(model, ends, max(map(len, ends)))
    known = sketch_rnn.encode(model.config, model.params, jnp.asarray(rows), jnp.asarray(lengths)).mean
    z = slerp(known[0], known[1], args.frames)
    temperature = np.full(args.frames, (args.temperature or [0.1])[0], np.float32)
    rest = {"convention": args.convention}
    draw = jax.jit(lambda key, heat, z: sample(model.config, model.params, key, heat, length, z=z, **rest))
    found = in_batches(draw, args.seed, args.frames, temperature, np.asarray(z))
    text = f"{args.frames} drawings from one to another"
    return _told(args, model, found, temperature, text, range(args.frames))


def _told(
    args: argparse.Namespace,
    model: SketchRNN,
    found: Drawn,
    temperature: np.ndarray,
    text: str,
    shown: Sequence[int],
    **beside: np.ndarray,
) -> Outcome:
    """Write what was drawn, and say so."""
    drawings = in_own_unit(model, found.rows)
    finished = np.asarray(found.rows)[:, :, 4].max(axis=1) > 0
    beside |= {"temperature": temperature, "finished": finished, "log_probability": np.asarray(found.log_probability)}
    with new_folder(args.out) as out:
        captions = [f"{n}: T {temperature[n]:g}" for n in shown]
        write(out, drawings, args.svgs, [drawings[n] for n in shown], captions, **beside)
    empty = sum(len(drawing) < 2 for drawing in drawings)
    data = {"out": str(args.out), "drawings": len(drawings), "finished": int(finished.sum()), "empty": empty}
    lines = [f"{text}, in {args.out}"]
    if not finished.all():
        lines.append(f"  {len(drawings) - data['finished']} did not end within {found.rows.shape[1]} points")
    if empty:
        lines.append(f"  {empty} have no line; to read {DRAWINGS} leave them out with --skip")
    return Outcome(data, "\n".join(lines))


def export(args: argparse.Namespace) -> Outcome:
    """Run `jsafe sketch export`: the model of a run, or of one of its checkpoints, as a folder."""
    from experiments.sketch_train import again

    prepare(args)
    check_new(args.out)
    trained = (args.model / "model" / folder.DESCRIPTION).is_file() or (args.model / folder.DESCRIPTION).is_file()
    if args.iteration is None and trained:
        model, text = opened(args.model, None, "export"), f"the model of {place(args.model)}"
    else:
        run, kept = stage_runs.begun(args.model, "sketch")
        stage = again(run.path, kept).stage
        state, iteration = stage_runs.saved(run, stage.trainer, args.iteration)
        model, text = stage.finish(state), f"the best parameters of iterations 1 to {iteration} of {run.path}"
    with new_folder(args.out) as out:
        folder.save(out, model)
    return Outcome({"model": str(args.out)}, f"{text}, in {args.out}")

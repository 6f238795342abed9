"""Folders of drawings that commands read and write."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from experiments.cli.argument_types import Folder, Whole
from experiments.cli.errors import CommandError
from experiments.cli.request import flag_group
from experiments.cli.result import Result, writable_folder
from experiments.cli.stdout import note

if TYPE_CHECKING:
    import numpy as np

    from sketch.data.dataset_config import ReadConfig
    from sketch.data.extent import Extent
    from sketch.models.guided_sketch_rnn import GuidedSketchRNN
    from sketch.sampling.best_of import BestOfN
    from sketch.sampling.refinement import Refinement

DRAWINGS, SHEET, SVG_FOLDER = "drawings.npz", "sheet.png", "svg"
"""Files of a folder of drawings."""

COLUMNS = 10
"""Drawings in a row of a sheet."""


@flag_group("Drawings", 40)
class DrawingOutput:
    """Folder of drawings.

    Attributes:
        svgs: Number of drawings that are also written as SVG files.
        out: Folder for the drawings, which must be new or empty.
    """

    svgs: Whole = 100
    out: Folder | None = None


def check_new(out: Path | None) -> Path:
    """Return the output folder if it can be created, before anything is computed.

    Raises:
        CommandError: if no folder is given, or it is not empty.
    """
    if out is None:
        raise CommandError("the command needs an output folder; add --out DIR")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise CommandError(f"--out {out} must be a new or empty folder, got one with files; choose another")
    return out


@contextlib.contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """Create a folder under a temporary name and rename it when everything is written.

    Raises:
        CommandError: if the folder is not empty, or nothing can be written next to it.
    """
    check_new(out)
    writable_folder(out.parent)
    part = out.parent / f".{out.name}.{os.getpid()}.part"
    part.mkdir()
    try:
        yield part
        os.replace(part, out)
    finally:
        shutil.rmtree(part, ignore_errors=True)


class Placement(NamedTuple):
    """Conversion of the positions of a file to the unit of the training drawings.

    Attributes:
        scale: factor on positions.
        fit: extent of the training drawings, to which each drawing is moved and scaled; None to only scale.
    """

    scale: float = 1.0
    fit: Extent | None = None

    def apply(self, drawing: np.ndarray) -> np.ndarray:
        """Convert stroke-3."""
        import numpy as np

        from sketch.data.extent import fitted
        from sketch.data.simplify import fit_to_box
        from sketch.data.strokes import from_polylines, to_polylines

        if self.fit is None:
            return drawing * np.array([self.scale, self.scale, 1.0], np.float32)
        return from_polylines(fitted(fit_to_box(to_polylines(drawing)), self.fit))


def placement(generator: GuidedSketchRNN, scale: float, fit: bool) -> Placement:
    """Return the conversion that `--scale` or `--fit` describes.

    Raises:
        CommandError: if both are given.
    """
    if fit and scale != 1.0:
        raise CommandError(f"--fit sets the scale; leave --scale {scale:g} out")
    return Placement(scale, generator.extent if fit else None)


def read_unfinished(
    path: Path | None, flag: str, read: ReadConfig, place: Placement, row: int | None = None
) -> list[np.ndarray]:
    """Read drawings from a file, all of them or one.

    Args:
        path: .npz, .ndjson or .svg.
        flag: flag that names the file.
        read: settings for reading files.
        place: scale or fit of positions.
        row: index of one drawing; None for all.

    Raises:
        CommandError: if no file is named, or the row is out of range.
        ValueError: if the file or a drawing is unusable.
    """
    from sketch.data.drawing_files import load
    from sketch.data.svg import read_simplified

    if path is None:
        raise CommandError(f"the command needs drawings; add {flag} FILE.npz, FILE.ndjson or FILE.svg")
    if path.suffix.lower() == ".svg":
        drawing = read_simplified(path, place.scale, read.limit, fit=place.fit is not None)
        drawings = [drawing.strokes if place.fit is None else place.apply(drawing.strokes)]
        if drawing.left_out:
            note(f"{path}: {drawing.note} left out")
    else:
        loaded, skipped = load(path, **read.arguments())
        drawings = [place.apply(drawing.strokes) for drawing in loaded]
        if skipped:
            note(f"{len(skipped)} drawings skipped: {skipped[0]}")
    if row is None:
        return drawings
    if not 0 <= row < len(drawings):
        raise CommandError(f"row {row} is out of range: {path} has {len(drawings)} drawings (0 to {len(drawings) - 1})")
    return [drawings[row]]


def evenly(groups: int, count: int) -> list[int]:
    """Return the indices of about a hundred drawings for a sheet, the same number of each of `groups` groups.

    Args:
        groups: number of groups of consecutive drawings.
        count: drawings of each group.
    """
    most = max(COLUMNS * COLUMNS // groups // COLUMNS, 1) * COLUMNS
    return [group * count + i for group in range(min(groups, COLUMNS * COLUMNS)) for i in range(min(count, most))]


def write_drawings(
    folder: Path,
    drawings: Sequence[np.ndarray],
    svgs: int,
    shown: Sequence[np.ndarray],
    captions: Sequence[str],
    prefixes: Sequence[int] = (),
    **columns: Any,
) -> None:
    """Write drawings as vectors, as a sheet, and the first ones as SVG files.

    Args:
        folder: an existing folder.
        drawings: stroke-3 arrays.
        svgs: number of SVG files.
        shown: drawings of the sheet.
        captions: captions of the sheet, or none.
        prefixes: rows of each drawing of the sheet that a person drew; without any, the sheet has one colour.
        columns: further arrays for the file of vectors.
    """
    from sketch import contact_sheet
    from sketch.data.dataset import save_drawings

    save_drawings(folder / DRAWINGS, drawings, **columns)
    image = contact_sheet.sheet(shown, COLUMNS, captions)
    if len(prefixes):
        image = contact_sheet.marked_sheet(shown, prefixes, COLUMNS, captions)
    contact_sheet.save_png(folder / SHEET, image)
    if svgs > 0:
        (folder / SVG_FOLDER).mkdir()
    for number, drawing in enumerate(drawings[: max(svgs, 0)]):
        (folder / SVG_FOLDER / f"{number:04d}.svg").write_text(contact_sheet.svg(drawing), encoding="utf-8")


def write_samples(
    output: DrawingOutput,
    generator: GuidedSketchRNN,
    samples: BestOfN,
    temperature: np.ndarray,
    title: str,
    shown: Sequence[int],
    *,
    best_of: int | None = None,
    refined: Refinement | None = None,
    **columns: Any,
) -> Result:
    """Write samples into a new folder, and describe them.

    Args:
        output: flags.
        generator: the model, for the unit.
        samples: the samples.
        temperature: temperature of each.
        title: first line of the result.
        shown: indices of the drawings of the sheet.
        best_of: number of samples from which each was selected.
        refined: refined drawings that replace the samples.
        columns: further arrays for the file of vectors.
    """
    import numpy as np

    from sketch.data.strokes import has_line

    out = check_new(output.out)
    rows = np.asarray(samples.samples.rows)
    drawings, finished = generator.from_model(rows), rows[:, :, 4].max(axis=1) > 0
    if refined is not None:
        drawings, columns["odds"] = refined.drawings, refined.odds
    columns |= {"temperature": temperature, "finished": finished}
    columns["log_probability"] = samples.samples.log_probability
    empty = sum(not has_line(drawing) for drawing in drawings)
    data = {"out": str(out), "drawings": len(drawings), "finished": int(finished.sum()), "empty": empty}
    lines = [f"{title}, in {out}"]
    if best_of:
        columns["score"] = samples.score
        data |= {"best_of": best_of, "score": np.mean(samples.score), "mean_score": np.mean(samples.mean_score)}
        data["accepted"] = np.mean(samples.accepted)
        lines.append(
            f"  best of {best_of}: mean score {data['score']:.3f}, of all samples {data['mean_score']:.3f}, "
            f"{data['accepted']:.0%} of them accepted"
        )
    if refined is not None:
        before, after = np.nanmean(refined.odds, axis=0)
        data |= {"refined": refined.steps, "log_odds_before": before, "log_odds": after}
        lines.append(f"  refined in {refined.steps} steps: mean log odds {before:.3f} before, {after:.3f} after")
    if not finished.all():
        lines.append(f"  {len(drawings) - data['finished']} drawings did not end within {rows.shape[1]} points")
    if empty:
        lines.append(f"  {empty} drawings have no line; --skip drops them when {DRAWINGS} is read")
    with new_folder(out) as folder:
        captions = [f"{n}: T {temperature[n]:g}" for n in shown]
        prefixes = [int(columns["begun"][n]) for n in shown] if "begun" in columns else []
        on_sheet = [drawings[n] for n in shown]
        write_drawings(folder, drawings, output.svgs, on_sheet, captions, prefixes, **columns)
    return Result(data, "\n".join(lines))

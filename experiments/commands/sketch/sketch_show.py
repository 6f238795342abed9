"""`jsafe sketch show`: show the drawings of a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from experiments.cli.argument_types import Count, File, Whole
from experiments.cli.errors import CommandError
from experiments.cli.request import flags, positional
from experiments.cli.result import Result
from experiments.cli.shared_flags import Output
from experiments.commands.sketch.shared.data_flags import Classes, ReadFlags

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sketch.data.drawing_files import Drawing

COLUMNS = 10
"""Drawings in a row of the sheet."""


@flags
class ShowRequest:
    """Settings of `jsafe sketch show`.

    Attributes:
        path: File or folder of drawings, as for `jsafe sketch train --data`.
        out: PNG file for a sheet of the drawings (default only a summary).
        first: Index of the first drawing of the sheet.
        count: Largest number of drawings of the sheet.
        side: Pixels of one side of each drawing.
        classes: Class to show; repeatable (default all).
    """

    path: File = positional()
    out: File | None = None
    first: Whole = 0
    count: Count = 100
    side: Count = 112
    classes: Classes = ()
    read: ReadFlags = ReadFlags()
    output: Output = Output()


def run(request: ShowRequest) -> Result:
    """Run `jsafe sketch show`: summarise drawings, and render them on a sheet."""
    if request.out is not None and request.out.suffix.lower() != ".png":
        raise CommandError(f"--out must end in .png, got {request.out}")
    from sketch.data.dataset import read_drawings
    from sketch.data.dataset_config import ClassFilter

    drawings, skipped = read_drawings([request.path], request.read.config(), ClassFilter(classes=request.classes))
    data, lines = _summary(request.path, drawings)
    data["skipped"] = skipped
    if skipped:
        lines.append(f"  skipped     {len(skipped)}: {skipped[0]}")
    if request.out is not None:
        shown = drawings[request.first : request.first + request.count]
        if not shown:
            raise CommandError(f"--first must be below the number of drawings, {len(drawings)}, got {request.first}")
        width, height = _write_sheet(request.out, shown, request.first, request.side)
        data |= {"out": str(request.out), "shown": len(shown), "width": width, "height": height}
        lines.append(f"  sheet       {request.out}: {len(shown)} drawings, {width} x {height} pixels")
    return Result(data, "\n".join(lines))


def _summary(path: Path, drawings: Sequence[Drawing]) -> tuple[dict[str, object], list[str]]:
    """Sizes of a data set, as JSON and as lines."""
    from collections import Counter

    import numpy as np

    from sketch.data.extent import measure

    lengths = np.array([len(drawing.strokes) for drawing in drawings])
    strokes = np.array([int(drawing.strokes[:, 2].sum()) for drawing in drawings])
    classes, splits = (Counter(getattr(d, name) or "unknown" for d in drawings) for name in ("label", "split"))
    extent, longest = measure([drawing.strokes for drawing in drawings]), drawings[int(lengths.argmax())]
    noted = [drawing for drawing in drawings if drawing.note]
    data = {
        "path": str(path), "drawings": len(drawings), "classes": dict(classes), "splits": dict(splits),
        "median_points": float(np.median(lengths)), "longest": int(lengths.max()), "longest_source": longest.source,
        "median_strokes": float(np.median(strokes)), "extent": extent._asdict(),
        "left_out": {drawing.source: drawing.note for drawing in noted},
    }  # fmt: skip
    named = ", ".join(f"{name} {count:,}" for name, count in classes.most_common(8)) + ", ..." * (len(classes) > 8)
    lines = [
        f"{path}: {len(drawings):,} drawings",
        f"  classes     {named}",
        f"  splits      {', '.join(f'{name} {count:,}' for name, count in splits.items())}",
        f"  points      median {np.median(lengths):g}, longest {lengths.max()} ({longest.source})",
        f"  strokes     median {np.median(strokes):g}",
        f"  extent      side {extent.side:g}, "
        + ("from the first point" if extent.from_first_point else f"left {extent.left:g}, top {extent.top:g}"),
    ]
    if noted:
        lines.append(f"  left out    of {len(noted)} drawings: {noted[0].note} ({noted[0].source})")
    return data, lines


def _write_sheet(path: Path, drawings: Sequence[Drawing], first: int, side: int) -> tuple[int, int]:
    """Write a sheet and return its width and height."""
    from sketch import contact_sheet

    captions = [f"{first + n}: {drawing.label}" for n, drawing in enumerate(drawings)]
    image = contact_sheet.sheet([drawing.strokes for drawing in drawings], COLUMNS, captions, side=side)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    contact_sheet.save_png(part, image)
    part.replace(path)
    return image.shape[1], image.shape[0]

"""`jsafe sketch evaluate`: compare systems with people, by judges that none of them was trained on."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from experiments.cli.argument_types import Count, Folder, Folders, Whole, repeated
from experiments.cli.config_flags import ConfigFlags, config_flags
from experiments.cli.devices import configure
from experiments.cli.errors import CommandError
from experiments.cli.format import seconds_text, to_json
from experiments.cli.request import flags, positional
from experiments.cli.result import Result, writable_folder
from experiments.cli.shared_flags import Machine, Output
from experiments.cli.stdout import note
from experiments.commands.sketch.shared.data_flags import ReadFlags
from experiments.commands.sketch.shared.sampling_flags import Temperatures
from sketch.evaluation.evaluation_config import EvaluationConfig

if TYPE_CHECKING:
    import numpy as np

    from sketch.evaluation.generated_sets import GeneratedSet
    from sketch.evaluation.human_test_set import HumanTest

TEMPERATURES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.65, 0.8, 1.0)
"""Temperatures of every system by default."""

SHOWN = 30
"""Drawings of people on the sheet."""


@config_flags(EvaluationConfig, hidden={"seed", "baseline"}, title="Comparison")
class EvaluationFlags(ConfigFlags):
    """Settings of the comparison."""


@flags
class EvaluateRequest:
    """Settings of `jsafe sketch evaluate`.

    Attributes:
        compared: Folder of `jsafe sketch experiment`, or of one generator.
        human: Folder or file of human drawings: bitmaps of 28 x 28 pixels under the name of the class, or vectors.
        human_split: Split of vector files with splits (default test, or all of a file without it).
        bitmap_key: Name of the array of human bitmaps (default the class).
        samples: Number of drawings of each model and setting.
        temperature: Sampling temperatures of every system (default 0.1,0.2,0.3,0.4,0.5,0.65,0.8,1).
        best_of: Also keep the best of N samples, as scored by the discriminator of the same seed.
        system: System to compare, the first one with the others; repeatable (default all).
        judge: Folder of a judge; repeatable (default those of the experiment).
        batch_size: Number of drawings sampled together.
        seed: Root of all randomness.
        out: Folder for report, figures and evaluation.json (default RUN/evaluation).
    """

    compared: Annotated[Path, Parameter(metavar="RUN")] = positional()
    human: Folder | None = None
    human_split: Literal["train", "valid", "test", "all"] | None = None
    bitmap_key: str | None = None
    samples: Count = 1000
    temperature: Temperatures = ()
    best_of: Count | None = None
    system: Annotated[tuple[str, ...], repeated(str, "NAME")] = ()
    judge: Folders = ()
    batch_size: Count = 500
    seed: Whole = 0
    out: Folder | None = None
    read: ReadFlags = ReadFlags()
    options: EvaluationFlags = EvaluationFlags()
    machine: Machine = Machine()
    output: Output = Output()


def run(request: EvaluateRequest) -> Result:
    """Run `jsafe sketch evaluate`."""
    began = time.monotonic()
    configure(request.machine.platform, request.machine.devices)
    from functools import partial

    from sketch.evaluation.compare import check_target, evaluate
    from sketch.evaluation.human_test_set import unseen
    from sketch.evaluation.stroke_nll import stroke_losses
    from sketch.evaluation.systems import GenerationConfig, generate_sets, load_comparison

    if request.human is None:
        raise CommandError("the comparison needs human drawings; add --human DIR")
    options = request.options.config(EvaluationConfig, {"seed": request.seed})
    human = _human_drawings(request, options.target)
    comparison = load_comparison(
        request.compared, judges=request.judge, names=request.system, best_of=request.best_of or 1
    )
    for remark in comparison.remarks:
        note(remark)
    for name, judge in comparison.judges.items():
        check_target(name, judge, options.target)
    human = unseen(human, comparison.training)
    if not len(human.bitmaps) and not human.vectors:
        raise CommandError(f"{request.human} holds only training drawings of the first system; use others")
    folder = request.out or request.compared / "evaluation"
    writable_folder(folder)
    temperatures = request.temperature or TEMPERATURES
    generation = GenerationConfig(temperatures, request.samples, request.best_of or 1, request.seed, request.batch_size)
    systems = generate_sets(comparison.systems, generation, note)
    note(f"judging {sum(len(one.drawings) for sets in systems.values() for one in sets):,} drawings ...")
    stroke_nll = partial(stroke_losses, comparison.stroke_model) if comparison.stroke_model else None
    report = evaluate(systems, human, comparison.judges, comparison.training, options, stroke_nll=stroke_nll)
    return _write(folder, report, systems, human.vectors[:SHOWN], temperatures, request.samples, began)


def _human_drawings(request: EvaluateRequest, target: str) -> HumanTest:
    from sketch.data.drawing_files import SPLITS
    from sketch.evaluation.human_test_set import human_drawings

    assert request.human is not None
    splits = {None: None, "all": (*SPLITS, "")}.get(request.human_split, (request.human_split or "",))
    return human_drawings(
        request.human, target, bitmap_key=request.bitmap_key, splits=splits, **request.read.config().arguments()
    )


def _write(
    folder: Path,
    report: Any,
    systems: Mapping[str, Sequence[GeneratedSet]],
    people: Sequence[np.ndarray],
    temperatures: Sequence[float],
    samples: int,
    began: float,
) -> Result:
    """Write report, figures and sheet."""
    from sketch.evaluation import report as reports

    data = {**report._asdict(), "seconds": time.monotonic() - began, "samples": samples}
    (folder / "evaluation.json").write_text(to_json(data), encoding="utf-8")
    (folder / "evaluation.md").write_text(reports.markdown(report), encoding="utf-8")
    pictures = [*reports.figures(report, folder), write_sheet(folder / "sheet.png", systems, people, temperatures)]
    data |= {"pictures": [str(path) for path in pictures], "report": str(folder / "evaluation.md")}
    lines = [reports.summary(report), f"report      {folder / 'evaluation.md'}"]
    return Result(data, "\n".join([*lines, f"time        {seconds_text(data['seconds'])}"]))


def write_sheet(
    path: Path,
    systems: Mapping[str, Sequence[GeneratedSet]],
    people: Sequence[np.ndarray],
    temperatures: Sequence[float],
) -> Path:
    """Write a sheet with a row of people's drawings and rows of each system at two temperatures."""
    from sketch import contact_sheet

    shown = (temperatures[len(temperatures) // 4], temperatures[len(temperatures) // 2])
    rows = [("people", people)] if len(people) else []
    for name, sets in systems.items():
        for one in sets:
            if one.seed == sets[0].seed and one.temperature in shown:
                best_of = f", best of {one.best_of}" if one.best_of > 1 else ""
                rows.append((f"{name}|T {one.temperature:g}{best_of}", one.drawings))
    columns = min(12, *(len(drawings) for _, drawings in rows))
    drawings = [drawing for _, row in rows for drawing in row[:columns]]
    captions = [text for name, _ in rows for text in [*name.split("|"), *[""] * columns][:columns]]
    contact_sheet.save_png(path, contact_sheet.sheet(drawings, columns, captions))
    return path

"""`jsafe rlhf scaling`: fit loss against compute, and test the law on held-out runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from experiments.cli.argument_types import Count, File, repeated
from experiments.cli.request import flags, positional
from experiments.cli.result import Result, writable_folder
from experiments.cli.shared_flags import Machine, Output


@flags
class ScalingRequest:
    """Settings of `jsafe rlhf scaling`.

    Attributes:
        curves: Evaluated runs of `jsafe rlhf pretrain`, or CSV files with the columns run, petaflops, loss.
        hold_out: Number of held-out runs, those with the most compute.
        points: Points to fit: losses that no cheaper one beats, the last of each run, or all.
        predict: Compute to predict the loss at: PFLOP, or SIZE:TOKENS with a published size; repeatable.
        out: File of the figure.
    """

    curves: Annotated[tuple[Path, ...], Parameter(metavar="RUN|CSV")] = positional()
    hold_out: Count = 1
    points: Literal["frontier", "last", "all"] = "frontier"
    predict: Annotated[tuple[str, ...], repeated(str, "C")] = ()
    out: File | None = None
    machine: Machine = Machine()
    output: Output = Output()


def run(request: ScalingRequest) -> Result:
    """Run `jsafe rlhf scaling`."""
    from experiments.report.rlhf.scaling_law import draw_laws, scaling_data, scaling_text
    from rlhf import scaling_law

    curves = scaling_law.read_curves(request.curves)
    predictions = {text: scaling_law.parse_compute(text) for text in request.predict}
    fits = scaling_law.fit_curves(curves, request.hold_out, request.points)
    data = scaling_data(curves, fits, request.points, predictions)
    if request.out is not None:
        writable_folder(request.out.parent)
        draw_laws(request.out, curves, fits)
    return Result(data, scaling_text(data))

"""`jsafe sketch bench`: training, sampling and rendering in drawings per second, with their floors."""

from __future__ import annotations

from typing import Literal

from experiments.cli.argument_types import Count, Folder, Whole
from experiments.cli.devices import configure
from experiments.cli.format import table, to_json
from experiments.cli.request import flags
from experiments.cli.result import Result, writable_folder
from experiments.cli.shared_flags import Machine, Output
from experiments.cli.stdout import note


@flags
class BenchRequest:
    """Settings of `jsafe sketch bench`.

    Attributes:
        preset: Sizes to time.
        repeats: Number of calls; the median counts.
        seed: Root of all randomness.
        out: Folder for bench.json.
    """

    preset: Literal["small", "code", "paper"] = "small"
    repeats: Count = 5
    seed: Whole = 0
    out: Folder | None = None
    machine: Machine = Machine()
    output: Output = Output()


def run(request: BenchRequest) -> Result:
    """Run `jsafe sketch bench`."""
    configure(request.machine.platform, request.machine.devices)
    from experiments.benchmarks.drawing_speed import benchmarks, time_alternately
    from experiments.benchmarks.hardware import machine_line
    from jsafe import runtime

    rows = []
    for benchmark in benchmarks(request.preset, request.seed):
        note(f"{benchmark.name} ...")
        seconds, floor = time_alternately(benchmark, request.repeats)
        rows.append({"what": benchmark.name, "drawings": benchmark.drawings, "seconds": seconds,
                     "floor_seconds": floor, "drawings_per_second": benchmark.drawings / seconds,
                     "times_floor": seconds / floor})  # fmt: skip
    hardware = runtime.describe_hardware()
    data = {"preset": request.preset, "hardware": hardware, "versions": runtime.versions(), "rows": rows}
    if request.out:
        (writable_folder(request.out) / "bench.json").write_text(to_json(data), encoding="utf-8")
    cells = [[r["what"], f"{r['drawings']:,}", f"{r['seconds']:.3f}", f"{r['drawings_per_second']:,.0f}",
              f"{r['times_floor']:.2f}"] for r in rows]  # fmt: skip
    header = ["what", "drawings per call", "seconds", "drawings/s", "times floor"]
    return Result(data, f"{machine_line(hardware)}\n{table(header, cells)}")

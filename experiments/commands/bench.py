"""`jsafe bench`: the speed tables, each figure next to its floor and with its conditions."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from experiments.cli.argument_types import Count, Folder, Switch
from experiments.cli.devices import configure
from experiments.cli.format import to_json
from experiments.cli.request import flags
from experiments.cli.result import Result, writable_folder
from experiments.cli.shared_flags import Machine, Output


@flags
class BenchRequest:
    """Settings of `jsafe bench`.

    Attributes:
        out: Folder for bench.json and bench.md.
        quick: Fewer environments and shorter pieces.
        seeds: Number of seeds in the training measurement.
        only: One part of the benchmark (default all).
    """

    out: Folder = Path("runs/bench")
    quick: Switch = False
    seeds: Count = 4
    only: Literal["throughput", "training", "algorithms"] | None = None
    machine: Machine = Machine()
    output: Output = Output()


def run(request: BenchRequest) -> Result:
    """Run `jsafe bench`: write `bench.json` and `bench.md` and print the table."""
    from experiments.benchmarks import algorithm_speed, environment_speed, speed_tables, training_speed
    from jsafe import runtime

    configure(request.machine.platform, request.machine.devices)
    folder = writable_folder(request.out)
    data: dict[str, Any] = {
        "hardware": runtime.describe_hardware(),
        "versions": runtime.versions(),
        "clock": environment_speed.CLOCK,
        "floor": environment_speed.FLOOR,
    }
    if request.only in (None, "throughput"):
        data["throughput"], data["failed"] = environment_speed.measure_throughput(request.quick)
    if request.only in (None, "training"):
        data["training"] = training_speed.measure_training(request.seeds, request.quick)
    if request.only in (None, "algorithms"):
        data["algorithms"] = algorithm_speed.measure_algorithms(["cpo"] if request.quick else None, request.quick)
        data["seeds"] = algorithm_speed.measure_seeds(request.quick)
    text = speed_tables.markdown(data)
    (folder / "bench.json").write_text(to_json(data), encoding="utf-8")
    (folder / "bench.md").write_text(text, encoding="utf-8")
    written = f"{text}\nwritten to {folder / 'bench.json'} and {folder / 'bench.md'}"
    return Result(data, written, exit_code=1 if data.get("failed") else 0)

"""Speed and memory of training stages, compared with the matrix products they need.

The clock covers one call of the trainer's compiled step, as `jsafe.fit` calls it, until the device has finished, with
the transfer of the batch from the host. It does not cover compilation, checkpoints or tokenisation. Tokens and weights
are random, texts have full length, and no answer ends early. The floor is the time of the stage's model FLOPs
(`rlhf.parallel.flops`) at the speed of one large matrix product of the same type, timed between the iterations.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks.hardware import machine_line
from experiments.benchmarks.stage_programs import STAGE_PROGRAMS, Case
from experiments.cli.format import table
from jsafe import runtime
from rlhf.models import parameter_count
from rlhf.parallel import memory

FLOOR = "one square matrix product in the type of the parameters, timed between the iterations; medians"


class MatrixProducts:
    """Speed of matrix products on one machine, in FLOP per second."""

    def __init__(self, size: int, count: int = 4):
        """Compile `count` products of square matrices, each of which needs the previous one."""
        self.work = 2.0 * size**3 * count
        self.matrix = jnp.full((size, size), 1e-4, jnp.float32)
        chain = jax.jit(lambda x: jax.lax.fori_loop(0, count, lambda _, y: y @ x, x))
        self.program = chain.lower(self.matrix).compile()
        self.rate()

    def rate(self) -> float:
        """Time the products once and return FLOP per second."""
        clock = time.perf_counter()
        jax.block_until_ready(self.program(self.matrix))
        return self.work / (time.perf_counter() - clock)


def peak(compiled: Any, before: int | None) -> tuple[int, str]:
    """Return the peak memory of a program in bytes, and its source: `device` or `compiler`.

    A device counts its peak since the process started, so it only applies to a program that needs more than those
    before. The figure of the compiler is the sum of inputs, temporary buffers and outputs.
    """
    now = _device_peak()
    if now is not None and before is not None and now > before:
        return now, "device"
    memory_use = compiled.memory_analysis()
    sizes = (memory_use.argument_size_in_bytes, memory_use.output_size_in_bytes, memory_use.temp_size_in_bytes)
    return sum(sizes) - memory_use.alias_size_in_bytes, "compiler"


def _device_peak() -> int | None:
    return (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")


def measure_stage(name: str, case: Case, products: MatrixProducts, repeats: int) -> dict[str, Any]:
    """Return speed and memory of one stage."""
    before = _device_peak()
    timed = STAGE_PROGRAMS[name](case, name)
    clock = time.perf_counter()
    compiled = timed.program.lower(timed.state).compile()
    compile_seconds = time.perf_counter() - clock
    state = jax.block_until_ready(compiled(timed.state))[0]
    spans, rates = [], []
    for _ in range(repeats):
        clock = time.perf_counter()
        state = jax.block_until_ready(compiled(state))[0]
        spans.append(time.perf_counter() - clock)
        rates.append(products.rate())
    seconds, rate = float(np.median(spans)), float(np.median(rates))
    peak_bytes, source = peak(compiled, before)
    return {
        "stage": name,
        "tokens": timed.tokens,
        "counted": timed.counted,
        "tokens_per_second": timed.tokens / seconds,
        "seconds": seconds,
        "compile_seconds": compile_seconds,
        "peak_bytes": peak_bytes,
        "peak_from": source,
        "model_flops": timed.flops,
        "model_flops_per_token": timed.flops / timed.tokens,
        "model_flops_per_second": timed.flops / seconds,
        "floor_flops_per_second": rate,
        "floor_seconds": timed.flops / rate,
        "floor_ratio": timed.flops / rate / seconds,
        "all_seconds": spans,
        "all_floor_flops_per_second": rates,
    }


def measure_stages(
    names: Sequence[str], model: str, case: Case, repeats: int, progress: Callable[[str], None] = lambda name: None
) -> dict[str, Any]:
    """Return speed and memory of several stages, with sizes, hardware and versions.

    Args:
        names: stages, keys of `STAGE_PROGRAMS`.
        model: name of the model.
        case: sizes.
        repeats: number of timed iterations.
        progress: called with the name of each stage.
    """
    products = MatrixProducts(1024 if jax.default_backend() == "cpu" else 8192)
    rows = []
    for name in names:
        progress(name)
        rows.append(measure_stage(name, case, products, repeats))
    return {
        "model": model,
        "parameters": parameter_count(case.config)["total"],
        "config": dataclasses.asdict(case.config),
        "batch_size": case.rows,
        "length": case.length,
        "remat": case.training.remat,
        "loss_chunk": case.training.loss_chunk,
        "repeats": repeats,
        "floor": FLOOR,
        "stages": rows,
        "hardware": runtime.describe_hardware(),
        "versions": runtime.versions(),
    }


def speed_text(data: dict[str, Any]) -> str:
    """Return speed and memory as a table."""
    header = ["stage", "tokens/s", "s", "compile s", "peak", "MFLOP/token", "GFLOP/s", "floor", "of floor"]
    lines = [
        [
            row["stage"],
            f"{row['tokens_per_second']:,.0f}",
            f"{row['seconds']:.3f}",
            f"{row['compile_seconds']:.1f}",
            memory.size(row["peak_bytes"]),
            f"{row['model_flops_per_token'] / 1e6:.2f}",
            f"{row['model_flops_per_second'] / 1e9:.1f}",
            f"{row['floor_flops_per_second'] / 1e9:.1f}",
            f"{row['floor_ratio']:.0%}",
        ]
        for row in data["stages"]
    ]
    sources = " and ".join(sorted({row["peak_from"] for row in data["stages"]}))
    return (
        f"{data['model']}, {data['parameters']:,} parameters, {data['batch_size']} rows of {data['length']} tokens, "
        f"median of {data['repeats']} iterations\n{machine_line(data['hardware'])}\n\n{table(header, lines)}\n\n"
        f"peak memory from the {sources}; floor: {data['floor']}"
    )

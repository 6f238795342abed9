"""`jsafe rlhf plan`: what a stage of a published size needs on each device of a mesh."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from experiments.cli.devices import prepare
from experiments.cli.result import Outcome, note, unknown
from rlhf.checkpoints import model_folder, weight_files
from rlhf.parallel import plan as plans
from rlhf.parallel import sharding


def plan(args: argparse.Namespace) -> Outcome:
    """Reckon, and compile if asked for; no weight is read and none is allocated."""
    mesh, place = args.mesh or "fsdp=8", Path(args.size)
    if args.size not in model_folder.PUBLISHED and not (place / "config.json").is_file():
        raise unknown("model", args.size, model_folder.PUBLISHED)
    config = model_folder.PUBLISHED.get(args.size) or weight_files.load_config(place)
    sizes = sharding.parse(mesh)
    args.mesh = mesh if args.compile else None  # shapes need no devices
    args.platform = "cpu" if args.compile else args.platform
    prepare(args)
    asked = plans.Plan(
        args.of, config, args.batch_size, args.length or 512, args.prompt_length, args.dtype, args.param_dtype
    )
    parts = plans.estimate(asked, sharding.abstract_mesh(**sizes))
    data: dict[str, Any] = {"model": args.size, "stage": args.of, "mesh": sizes, "bytes_per_device": parts}
    data |= {"rows": asked.rows, "length": asked.length, "dtype": args.dtype, "param_dtype": args.param_dtype}
    lines = [f"{args.size}, {args.of}, {mesh}, {asked.rows} rows of {asked.length} tokens; on each device:"]
    lines += [f"  {name:<12}{_gib(value)}" for name, value in parts.items() if value]
    lines.append(f"  {'sum':<12}{_gib(sum(parts.values()))}")
    if args.compile:
        note("compiling ...")
        began = time.monotonic()
        found = plans.compiled(asked, sharding.mesh(**sizes))
        data["compiled"] = found._asdict() | {"seconds": time.monotonic() - began}
        kinds = ", ".join(f"{number} {kind}" for kind, number in found.collectives.items()) or "none"
        lines += [
            "by the compiler, for CPUs:",
            f"  {'state':<12}{_gib(found.arguments)}",
            f"  {'temporary':<12}{_gib(found.temporary)}",
            f"  {'sum':<12}{_gib(found.arguments + found.temporary)}",
            f"  collectives {kinds}",
        ]
    return Outcome(data, "\n".join(lines))


def _gib(count: int) -> str:
    return f"{count / 2**30:9.3f} GiB"

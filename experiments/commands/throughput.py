"""`jsafe throughput`: environment steps per second of the whole environment, next to the bare simulator."""

from __future__ import annotations

from typing import Any

from experiments.benchmarks.hardware import machine_line
from experiments.cli.argument_types import Count, Whole
from experiments.cli.devices import configure, make_env
from experiments.cli.format import seconds_text
from experiments.cli.request import flags, positional
from experiments.cli.result import Result
from experiments.cli.shared_flags import Machine, Output, Physics


@flags
class ThroughputRequest:
    """Settings of `jsafe throughput`.

    Attributes:
        env: Id of the environment, see `jsafe envs`.
        num_envs: Number of environments side by side.
        steps: Control steps in one timed piece.
        repeats: Number of timed pieces, of which the median counts.
        seed: Root seed.
        floor: Also measure the bare MuJoCo loop.
    """

    env: str = positional()
    num_envs: Count = 256
    steps: Count = 100
    repeats: Count = 7
    seed: Whole = 0
    floor: bool = True
    physics: Physics = Physics()
    machine: Machine = Machine()
    output: Output = Output()


def run(request: ThroughputRequest) -> Result:
    """Run `jsafe throughput`."""
    from experiments.benchmarks.environment_speed import measure

    configure(request.machine.platform, request.machine.devices)
    env = make_env(request.env, request.physics.physics, request.physics.override)
    data = measure(env, request.num_envs, request.steps, request.repeats, seed=request.seed, floor=request.floor)
    return Result(data, describe(data))


def describe(data: dict[str, Any]) -> str:
    """Return the measurement as a few lines of text."""
    lines = [
        f"{data['env']} on {data['physics']}, {data['num_envs']} environments side by side:",
        f"  {data['env_steps_per_second']:12,.0f} environment steps per second (median of {data['repeats']} pieces)",
        f"  {data['physics_steps_per_second']:12,.0f} physics steps per second",
    ]
    if data["floor_ratio"]:
        lines.append(f"  {data['floor_env_steps_per_second']:12,.0f} floor: bare mj_step loops on the same cores")
        lines.append(f"  {data['floor_ratio']:12.0%} of the floor")
    hardware = data["hardware"]
    lines.append(
        f"  compiled in {seconds_text(data['compile_seconds'])}, measured for {seconds_text(data['run_seconds'])}"
    )
    lines.append(f"  {machine_line(hardware)}")
    return "\n".join(lines)

"""Platform and devices of a command, and environments by name."""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from experiments.cli.errors import CommandError, unknown
from experiments.cli.shared_flags import Machine, Processes

if TYPE_CHECKING:
    from jsafe.runs.reader import Run


def configure_machine(machine: Machine, processes: Processes | None = None) -> None:
    """Call `configure`; on a CPU there are as many virtual devices as the mesh needs.

    Raises:
        CommandError: several processes without a coordinator, or a mesh that they cannot share evenly.
    """
    shared, devices = processes or Processes(), machine.devices
    mesh, coordinator, number = shared.mesh, shared.coordinator, shared.processes
    if coordinator is None and (number is not None or shared.process is not None):
        raise CommandError("several processes need --coordinator HOST:PORT")
    if coordinator is not None and mesh is None:
        raise CommandError("several processes need --mesh over the devices of all of them, for example --mesh fsdp=8")
    if mesh and devices is None and coordinator != "auto":
        from rlhf.parallel import sharding

        total = math.prod(sharding.parse(mesh).values())
        if total % (number or 1):
            raise CommandError(f"--mesh {mesh} has {total} devices, which {number} processes cannot share evenly")
        devices = total // (number or 1)
    configure(machine.platform, devices, *((coordinator, number, shared.process) if coordinator else ()))


@functools.cache
def configure(
    platform: str | None = None,
    devices: int | None = None,
    coordinator: str | None = None,
    processes: int | None = None,
    process: int | None = None,
) -> None:
    """Set JAX up for this process: platform, devices, compilation cache, and the guard against the pool deadlock.

    Has to run before JAX computes anything, once; asking again for the same changes nothing. A process that used JAX
    before it called a command is left as it is.

    Raises:
        RuntimeError: a platform or a number of devices is requested after JAX was used.
        CommandError: the machine has no device of that platform.
    """
    from jsafe import runtime

    if platform is None and devices is None and runtime.jax_is_initialized():
        return
    runtime.configure(platform, devices)
    if coordinator is not None:
        runtime.join(coordinator, processes, process)
    import jax

    # JAX gets this platform and the CPU, and falls back to the CPU silently.
    if platform not in (None, "cpu") and jax.default_backend() == "cpu":
        raise CommandError(f"no device for --platform {platform} here: JAX found the CPU only")
    platforms = os.environ.get("JAX_PLATFORMS", "")
    if platform is None and platforms and "cpu" not in platforms.split(","):
        # The host side of a run needs the CPU backend too.
        jax.config.update("jax_platforms", f"{platforms},cpu")
        if jax.default_backend() == "cpu":
            raise CommandError(
                f"JAX_PLATFORMS must name a platform with a device, got {platforms}, and JAX found the CPU only. "
                "Unset JAX_PLATFORMS, or use JAX_PLATFORMS=cpu"
            )


def make_env(
    env_id: str, physics: str | None = None, overrides: Sequence[tuple[str, str]] | dict[str, Any] = ()
) -> Any:
    """`envs_mjx.make` for a command.

    Args:
        env_id: registered name.
        physics: backend, or None for the default of this platform.
        overrides: `(name, value)` pairs as written on the command line, or a dict of values.

    Raises:
        CommandError: unknown id (with the nearest one), or a backend whose package is not installed.
    """
    import envs_mjx

    if env_id not in envs_mjx.ids():
        raise unknown("environment", env_id, envs_mjx.ids())
    changes = overrides if isinstance(overrides, dict) else read_overrides(overrides)
    try:
        return envs_mjx.make(env_id, physics=physics or envs_mjx.default_backend(), overrides=changes or None)
    except ImportError as error:
        raise CommandError(str(error)) from error


def read_overrides(pairs: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """`envs_mjx.parse_overrides` for a command.

    Raises:
        CommandError: the pairs contradict each other.
    """
    import envs_mjx

    try:
        return envs_mjx.parse_overrides(pairs)
    except ValueError as error:
        raise CommandError(str(error)) from error


def environment_of(
    run: Run, physics: str | None = None, overrides: Sequence[tuple[str, str]] | dict[str, Any] = ()
) -> Any:
    """Return the environment of a run, rewritten by its algorithm.

    Args:
        run: the run.
        physics: backend; None for the one of the run.
        overrides: changes to the settings it was trained with.
    """
    import algorithms

    recorded = run.facts.get("environment", {})
    changes = overrides if isinstance(overrides, dict) else read_overrides(overrides)
    merged = dict(recorded.get("overrides") or {})
    for name, value in changes.items():
        both = isinstance(value, dict) and isinstance(merged.get(name), dict)
        merged[name] = {**merged[name], **value} if both else value
    env = make_env(run.env_id, physics or recorded.get("physics"), merged)
    return algorithms.rewrite(run.algorithm, env, run.info.get("config", {}))

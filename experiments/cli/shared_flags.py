"""Groups of flags that many commands share."""

from __future__ import annotations

from typing import Annotated, Literal

from experiments.cli.argument_types import Count, Folder, Pairs, Switch, Whole, parameter, positive
from experiments.cli.request import flag_group


def _device_count(text: str) -> int | None:
    return None if text == "auto" else positive(text)


@flag_group("Machine", 90)
class Machine:
    """Machine to compute on.

    Attributes:
        platform: Platform to compute on (default the one that JAX finds).
        devices: Number of devices to spread seeds over; virtual devices on a CPU (default auto).
    """

    platform: Literal["cpu", "cuda", "tpu", "rocm"] | None = None
    devices: Annotated[int | None, parameter(_device_count, "N|auto")] = None


DEFAULT_MACHINE = Machine()
"""The platform that JAX finds, with all of its devices."""


@flag_group("Output", 95)
class Output:
    """Output of a command.

    Attributes:
        json: Machine-readable result on stdout.
        debug: Full traceback of an error, also with JSAFE_DEBUG=1.
    """

    json: Switch = False
    debug: Switch = False


@flag_group("Simulator", 80)
class Physics:
    """Simulator and settings of an environment.

    Attributes:
        physics: Simulator behind the environment (default the fastest one for this platform).
        override: Setting of the environment to change, for example Hazards.num=4; repeatable.
    """

    physics: Literal["mujoco", "mjx", "warp"] | None = None
    override: Pairs = ()


@flag_group("Run", 60)
class RunFlags:
    """Folder and randomness of a training run.

    Attributes:
        seed: Root seed.
        run_dir: Folder of the run (default runs/COMMAND-TIME).
        resume: Folder of a run to resume, exactly where it stopped.
        checkpoint_every: Number of iterations between checkpoints.
        quiet: No progress line.
    """

    seed: Whole = 0
    run_dir: Folder | None = None
    resume: Folder | None = None
    checkpoint_every: Count | None = None
    quiet: Switch = False


@flag_group("Processes", 85)
class Processes:
    """Mesh of devices, and the processes that share it.

    Attributes:
        mesh: Mesh of devices for the models: data=2,fsdp=2,tensor=2 (default one device). Batches are spread over data
            and fsdp, parameters over fsdp and tensor.
        coordinator: Address of the first of several processes of the same command (auto: from the cluster).
        processes: Number of processes.
        process: Number of this process, from 0; only process 0 writes.
    """

    mesh: Annotated[str | None, parameter(str, "AXES")] = None
    coordinator: Annotated[str | None, parameter(str, "HOST:PORT")] = None
    processes: Count | None = None
    process: Whole | None = None

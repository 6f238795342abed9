"""Setting a process up for JAX: platform, devices, compilation cache, and a guard against a deadlock.

Importing `jsafe` never changes the environment. A program that owns its process, such as the command `jsafe`, calls
`configure` once, before anything is computed.
"""

from __future__ import annotations

import dataclasses
import os
import platform as host
import tempfile
import warnings
from importlib import metadata
from pathlib import Path
from typing import Any

from jsafe.suggestions import did_you_mean

PLATFORMS = ("cpu", "cuda", "rocm", "tpu", "gpu", "METAL")
PACKAGES = (
    "jsafe",
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "brax",
    "orbax-checkpoint",
    "mujoco",
    "mujoco-mjx",
    "warp-lang",
    "numpy",
    "scipy",
)


@dataclasses.dataclass(frozen=True)
class Settings:
    """Result of `configure`.

    Attributes:
        platform: the requested platform, None when JAX was left to choose.
        cpu_devices: virtual CPU devices.
        threads: size of the thread pool of the CPU backend (environment variable `NPROC`).
        cache_dir: folder of compiled programs, None when nothing is kept.
    """

    platform: str | None
    cpu_devices: int
    threads: int
    cache_dir: Path | None


def usable_cores() -> int:
    """Cores this process may run on; a container may have reduced them."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def jax_is_initialized() -> bool:
    """True if JAX has opened its backends, after which most settings no longer take effect."""
    from jax._src import xla_bridge  # JAX offers no public question for this.

    return xla_bridge.backends_are_initialized()


def safe_thread_count(cores: int | None = None, devices: int = 1) -> int:
    """Threads that the CPU backend needs so that blocking calls cannot use up its pool.

    jaxlib runs independent operations on one pool of `NPROC` threads (default: the number of cores). A batched LAPACK
    call, or a program sharded over virtual devices that calls back to the host, waits inside that pool for work on the
    same pool: when every thread waits, the program hangs for ever. So do virtual devices that wait for one another.
    Idle threads cost nothing, so there are more than cores: eight, or one for each device.
    """
    return (cores or usable_cores()) + max(8, devices)


def has_safe_threads() -> bool:
    """True if the thread pool of the CPU backend is larger than the number of cores (see `safe_thread_count`)."""
    value = os.environ.get("NPROC", "")
    return value.isdigit() and int(value) > usable_cores()


def default_cache_dir() -> Path:
    """Folder of compiled programs: `$JSAFE_CACHE_DIR`, else below the user's cache folder."""
    if chosen := os.environ.get("JSAFE_CACHE_DIR"):
        return _without_home(Path(chosen))
    if host.system() == "Darwin":
        return _without_home(Path("~/Library/Caches")) / "jsafe" / "xla"
    return _without_home(Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache")) / "jsafe" / "xla"


def _without_home(path: Path) -> Path:
    """Expand `~`; a user without a home folder, as in containers, has a private folder of temporary files."""
    try:
        return path.expanduser()
    except RuntimeError:
        return Path(tempfile.gettempdir()) / f"jsafe-{os.getuid() if hasattr(os, 'getuid') else 'user'}"


def configure(
    platform: str | None = None,
    devices: int | None = None,
    *,
    cache: bool = True,
    cache_dir: Path | str | None = None,
) -> Settings:
    """Set JAX up for this process. Call it once, before anything is computed.

    Args:
        platform: `cpu`, `cuda`, `rocm`, `tpu`, or None for what JAX finds.
        devices: virtual CPU devices to spread seeds over; None for one per usable core.
        cache: True to keep compiled programs on disk; an empty `JSAFE_CACHE_DIR` also turns it off.
            JAX does not keep programs that call back to the host.
        cache_dir: folder of the compiled programs instead of `default_cache_dir()`.

    Returns:
        The settings now in force.

    Raises:
        RuntimeError: JAX has computed something already, so that these settings would have no effect.
        ValueError: unknown platform, or fewer than one device.
    """
    if platform is not None and platform not in PLATFORMS:
        hint = did_you_mean(platform, PLATFORMS)
        raise ValueError(f"unknown platform {platform!r}, expected one of {', '.join(PLATFORMS)}{hint}")
    if devices is not None and devices < 1:
        raise ValueError(f"devices must be at least 1, got {devices}")
    if jax_is_initialized():
        raise RuntimeError(
            "JAX has already been used in this process, so platform, devices and thread pool can no longer be set: "
            "call jsafe.runtime.configure() before any JAX computation"
        )
    import jax

    cpu_devices = devices or usable_cores()
    threads = _guard_threads(cpu_devices)
    if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
        jax.config.update("jax_num_cpu_devices", cpu_devices)
    # Host callbacks with large arguments can deadlock when the CPU backend runs ahead of Python.
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    if platform is not None:
        # Callbacks and the host side of a run need the CPU backend in addition to the accelerator.
        jax.config.update("jax_platforms", platform if platform == "cpu" else f"{platform},cpu")
    return Settings(platform, cpu_devices, threads, _open_cache(cache_dir) if cache else None)


def join(coordinator: str, processes: int | None = None, process: int | None = None) -> None:
    """Make this process one of several that run one program; call it after `configure`, before anything is computed.

    It comes back when all of them are there. CPUs talk through gloo, accelerators in their own way.

    Args:
        coordinator: `HOST:PORT` where the first process listens; `auto` where a cluster that JAX knows (Slurm, Open
            MPI, Kubernetes, TPU) provides all three.
        processes: number of processes.
        process: rank of this process, from 0.

    Raises:
        ValueError: numbers that do not fit, that are missing, or that `auto` replaces.
    """
    import jax

    if coordinator == "auto":
        if processes is not None or process is not None:
            raise ValueError(
                "coordinator auto takes the number of processes from the cluster. Do not give the number too"
            )
    elif processes is None or process is None or not 0 <= process < processes or ":" not in coordinator:
        raise ValueError(
            "coordinator must be HOST:PORT and process a rank from 0 to processes - 1, "
            f"got coordinator={coordinator!r}, processes={processes}, process={process}"
        )
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    address = None if coordinator == "auto" else coordinator
    jax.distributed.initialize(address, num_processes=processes, process_id=process)


def _guard_threads(devices: int) -> int:
    if not has_safe_threads():
        os.environ["NPROC"] = str(safe_thread_count(devices=devices))
    return int(os.environ["NPROC"])


def _open_cache(cache_dir: Path | str | None) -> Path | None:
    """Keep compiled programs in a folder; a folder that cannot be written costs time, not the run."""
    if cache_dir is None and os.environ.get("JSAFE_CACHE_DIR") == "":
        return None
    import jax

    folder = Path(cache_dir) if cache_dir is not None else default_cache_dir()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(f"no permission to write in {folder}")
    except OSError as error:
        warnings.warn(f"compiled programs are not kept: {error} (set JSAFE_CACHE_DIR to move the cache)", stacklevel=3)
        return None
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)
    return folder


def describe_hardware() -> dict[str, Any]:
    """Return the hardware of this process. Opens JAX's backends, so call `configure` first.

    Returns:
        `processor`, `cores` usable, `memory_gib`, `system`, `platform` of JAX, `accelerator` (None on a CPU),
        `devices` that JAX computes on; all of it can be written as JSON.
    """
    import jax

    devices = jax.devices()
    kind = devices[0].platform
    return {
        "processor": _processor(),
        "cores": usable_cores(),
        "memory_gib": _memory_gib(),
        "system": host.platform(terse=True),
        "platform": kind,
        "accelerator": None if kind == "cpu" else devices[0].device_kind,
        "devices": len(devices),
    }


def versions() -> dict[str, str]:
    """Version of Python and of every package that may move a figure; those not installed are left out."""
    installed = {"python": host.python_version()}
    for name in PACKAGES:
        try:
            installed[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    if "jsafe" not in installed:  # run from a checkout
        import jsafe

        installed["jsafe"] = jsafe.__version__
    return installed


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.lower().startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return host.processor() or host.machine()


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (ValueError, OSError):
        return None

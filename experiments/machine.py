"""The hardware and the versions behind a figure."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("jsafe", "jax", "jaxlib", "flax", "optax", "mujoco", "mujoco-mjx", "warp-lang", "numpy", "orbax-checkpoint")


def versions() -> dict[str, str]:
    """Name to version of Python and of every package that may move a figure; those not installed are left out."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def hardware() -> dict[str, Any]:
    """Processor, usable cores, memory, operating system and the devices JAX computes on."""
    import jax

    return {
        "processor": _processor(),
        "cores": usable_cores(),
        "memory_gib": _memory_gib(),
        "system": platform.platform(terse=True),
        "jax_backend": jax.default_backend(),
        "jax_devices": [device.device_kind for device in jax.devices()],
    }


def usable_cores() -> int:
    """Cores this process may run on, which a container may have reduced."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.lower().startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (ValueError, OSError):
        return None

"""Hardware of a benchmark."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def machine_line(hardware: Mapping[str, Any]) -> str:
    """Return the hardware (`jsafe.runtime.describe_hardware`) in half a line."""
    return (
        f"{hardware['processor']}, {hardware['cores']} cores, JAX on {hardware['accelerator'] or hardware['platform']}"
    )

"""Compilation settings for tests, which spend most of their time compiling and are not about speed."""

from __future__ import annotations

import os
from importlib import metadata

from packaging.version import Version

FLAGS = {
    "--xla_cpu_use_fusion_emitters=false": "0.11.1",
    "--xla_cpu_parallel_codegen_split_count=1": None,
}
"""XLA flags, each with the jaxlib release that removed it. The older way to write fused loops takes a third of the time
of the newer one, and one part is enough where every worker has one core; results are the same up to rounding."""


def known_flags(jaxlib: str) -> list[str]:
    """Flags of `FLAGS` that a release of jaxlib accepts; one that it does not know ends the process."""
    return [flag for flag, removed in FLAGS.items() if removed is None or Version(jaxlib) < Version(removed)]


def set_flags() -> None:
    """Set the flags for this process and its children. Call it before jax opens its CPU backend."""
    flags = os.environ.get("XLA_FLAGS", "").split()
    chosen = [flag for flag in known_flags(metadata.version("jaxlib")) if flag not in flags]
    os.environ["XLA_FLAGS"] = " ".join(chosen + flags)

"""How programs are compiled in tests, which spend most of their time on it and are not about speed."""

import os

FLAGS = "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
"""For XLA. The older way to write fused loops takes a third of the time of the newer one, and one part is enough where
every worker has one core; results are the same up to rounding."""


def set_flags() -> None:
    """For this process and those it starts; before jax opens its CPU backend."""
    if FLAGS not in os.environ.get("XLA_FLAGS", ""):
        os.environ["XLA_FLAGS"] = f"{FLAGS} {os.environ.get('XLA_FLAGS', '')}".strip()

"""Fixtures of every test: guards set before jax starts, the recordings of the reference, and PRNG keys."""

from __future__ import annotations

import os
from pathlib import Path

from tests.support import compilation

ROOT = Path(__file__).resolve().parent.parent

# These have to be in place before jax opens its CPU backend, hence above the import.
# jaxlib sizes its thread pool by NPROC; with as many threads as cores, two batched Cholesky calls at once
# deadlock (two cores, about a thousand environments).
os.environ.setdefault("NPROC", "8")
# Compiled programs are kept between runs; nothing depends on finding them.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(ROOT / ".cache" / "jax"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")
compilation.set_flags()
# Not every machine that tests has a display.
os.environ.setdefault("MPLBACKEND", "Agg")

import jax  # noqa: E402
import pytest  # noqa: E402

# Open the backend now: a command run inside this process would otherwise be free to set up several virtual devices, and
# then the numbers of later tests would depend on which file came first.
jax.local_devices()

GOLDEN_DEFAULT = ROOT.parent / "shared" / "golden" / "safety_gymnasium"


def golden_root() -> Path:
    """Folder of the recordings: `$JSAFE_GOLDEN`, relative to the repository if it is a relative path."""
    return (ROOT / os.environ.get("JSAFE_GOLDEN", str(GOLDEN_DEFAULT))).resolve()


def find_golden(pattern: str = "*.npz") -> list[Path]:
    """Recordings whose file name matches, sorted; empty where there are none. For `pytest.mark.parametrize`."""
    root = golden_root()
    return sorted(root.glob(pattern)) if root.is_dir() else []


@pytest.fixture(scope="session")
def golden_dir() -> Path:
    """Folder of the reference recordings; a test that asks for it is skipped where there are none."""
    root = golden_root()
    if not find_golden():
        pytest.skip(f"no recordings of the reference in {root} (set JSAFE_GOLDEN to their folder)")
    return root


@pytest.fixture(scope="session")
def golden_files(golden_dir: Path) -> list[Path]:
    """Every recording in the folder, sorted by name."""
    return sorted(golden_dir.glob("*.npz"))


@pytest.fixture(scope="module", autouse=True)
def compiled_quickly():
    """Compile without most optimisations; a folder that computes for long has a fixture of this name instead."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture
def key() -> jax.Array:
    """A typed PRNG key, the same for every test."""
    return jax.random.key(0)

"""The simulators behind an environment, all with the same functions (`envs_mjx.physics.backend.Physics`)."""

from __future__ import annotations

import importlib.util

from envs_mjx.physics.backend import ModelSource, Physics, PhysicsModel, Sensed
from jsafe.suggestions import did_you_mean

BACKENDS = ("mujoco", "mjx", "warp")
"""MuJoCo C, MuJoCo XLA, MJX on MuJoCo Warp."""

PROFILES = ("exact", "fast")


def check(backend: str, profile: str = "exact") -> None:
    """Raise the errors of `make` before anything is built; arguments and errors as there."""
    if backend not in BACKENDS:
        raise ValueError(f"unknown physics {backend!r}{did_you_mean(backend, BACKENDS)}; one of {', '.join(BACKENDS)}")
    if profile not in PROFILES:
        raise ValueError(f"profile must be 'exact' or 'fast', got {profile!r}")
    if profile == "fast" and backend != "mjx":
        raise ValueError(f"physics {backend!r} has no 'fast' profile, only 'mjx' has; 'exact' is fast there")
    if backend == "warp" and importlib.util.find_spec("warp") is None:
        raise ImportError("physics 'warp' needs the optional package: pip install 'jsafe[warp]'")


def default_backend() -> str:
    """The fastest exact simulator of this platform: MuJoCo C on CPU, Warp on NVIDIA if installed, MJX elsewhere."""
    import jax

    platform = jax.default_backend()
    if platform == "cpu":
        return "mujoco"
    return "warp" if platform in ("gpu", "cuda") and importlib.util.find_spec("warp") else "mjx"


def make(source: ModelSource, backend: str, profile: str = "exact") -> Physics:
    """The simulator `backend` of a world; one for each source, so that programs and thread pools are shared.

    Args:
        source: the world.
        backend: one of `BACKENDS`.
        profile: `exact`, or `fast` for the simplifications that the MJX backends document.

    Raises:
        ValueError: for an unknown backend or profile.
        ImportError: for `warp` when its optional package is not installed.
    """
    check(backend, profile)
    if backend == "mujoco":
        from envs_mjx.physics import mujoco_c

        return mujoco_c.make(source)
    from envs_mjx.physics.mjx import mjx_backend

    return mjx_backend.make(source, "jax" if backend == "mjx" else "warp", profile)


__all__ = [
    "BACKENDS",
    "PROFILES",
    "ModelSource",
    "Physics",
    "PhysicsModel",
    "Sensed",
    "check",
    "default_backend",
    "make",
]

"""What a task may ask of a simulator."""

from __future__ import annotations

import difflib
import importlib.util
from typing import NamedTuple, Protocol

import jax

from envs_mjx.navigation.config import Config


class Sensed(NamedTuple):
    """What the sensors say of one moment.

    Attributes:
        sensors: `[observed sensor values]`, the robot's observed sensors one after the other.
        touched: `[touchable]` bool, whether the robot touches each body of `World.touchable`.
    """

    sensors: jax.Array
    touched: jax.Array


class Physics(Protocol):
    """A simulator of one world. Pure; every function may be jitted and vmapped."""

    def step(
        self, qpos: jax.Array, qvel: jax.Array, ctrl: jax.Array, mocap_pos: jax.Array, mocap_quat: jax.Array
    ) -> tuple[jax.Array, jax.Array, Sensed]:
        """Advance by `SUBSTEPS` physics steps and sense the final state.

        Args:
            qpos: `[nq]` generalised positions.
            qvel: `[nv]` generalised velocities.
            ctrl: `[nu]`, held for the whole control step.
            mocap_pos: `[SUBSTEPS, nmocap, 3]` poses at the start of every physics step; the last hold while sensing.
            mocap_quat: `[nmocap, 4]`.

        Returns:
            `qpos`, `qvel` after the last physics step, and what the sensors say of that state.
        """
        ...

    def sense(
        self, qpos: jax.Array, qvel: jax.Array, ctrl: jax.Array, mocap_pos: jax.Array, mocap_quat: jax.Array
    ) -> Sensed:
        """What the sensors say of a state, without moving; `mocap_pos` is `[nmocap, 3]`."""
        ...


BACKENDS = ("mujoco", "mjx", "warp")


def check(backend: str, profile: str = "exact") -> None:
    """Raise what `make` would raise, before anything is built; arguments and errors as there."""
    if backend not in BACKENDS:
        near = difflib.get_close_matches(backend, BACKENDS, n=1, cutoff=0.5)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"unknown physics {backend!r}{hint}; one of {', '.join(BACKENDS)}")
    if profile not in ("exact", "fast"):
        raise ValueError(f"profile must be 'exact' or 'fast', got {profile!r}")
    if profile == "fast" and backend != "mjx":
        raise ValueError(f"physics {backend!r} has no 'fast' profile, only 'mjx' has; 'exact' is fast there")
    if backend == "warp" and importlib.util.find_spec("warp") is None:
        raise ImportError("physics 'warp' needs the optional package: pip install 'jsafe[warp]'")


def make(config: Config, backend: str, profile: str = "exact") -> Physics:
    """The simulator `backend` for the world of `config`.

    Args:
        config: the environment.
        backend: one of `BACKENDS`.
        profile: `exact`, or `fast` for the simplifications that the MJX backends document.

    Raises:
        ValueError: for an unknown backend or profile.
        ImportError: for `warp` when its optional package is not installed.
    """
    check(backend, profile)
    if backend == "mujoco":
        from envs_mjx.physics import mujoco_c

        return mujoco_c.make(config)
    from envs_mjx.physics.mjx import mjx_backend

    return mjx_backend.make(config, "jax" if backend == "mjx" else "warp", profile)

"""Registered environments of every kind: their ids, and `make`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from envs_mjx import navigation
from envs_mjx.navigation import Navigation
from envs_mjx.physics import check, default_backend
from jsafe.suggestions import did_you_mean


class Kind(NamedTuple):
    """A kind of environment.

    Attributes:
        ids: `() -> ids`.
        make: `(id, physics, profile, overrides) -> environment`.
    """

    ids: Callable[[], tuple[str, ...]]
    make: Callable[[str, str, str, Mapping[str, Any]], Navigation]


KINDS = (Kind(navigation.ids, navigation.make),)
"""A new kind of environment is a package with these two functions and its entry here."""


def ids() -> tuple[str, ...]:
    """Names of all registered environments."""
    return tuple(env_id for kind in KINDS for env_id in kind.ids())


def make(
    id: str, *, physics: str | None = "mujoco", profile: str = "exact", overrides: Mapping[str, Any] | None = None
) -> Navigation:
    """Make an environment.

    Args:
        id: a registered name, for example `SafetyPointGoal1-v0`.
        physics: `mujoco` (MuJoCo C), `mjx` (MuJoCo XLA) or `warp` (MJX on MuJoCo Warp); None for the fastest exact one
            of this platform (`envs_mjx.physics.default_backend`).
        profile: `exact`, or `fast` where a backend documents one.
        overrides: changes to the registered configuration, named as in the reference's configurable environments: a
            class of things with its settings (`{"Hazards": {"num": 4, "size": 0.3}}`; None removes it), or one of
            `placements_conf.extents`, `lidar_conf.num_bins`, `lidar_conf.max_dist`, `lidar_conf.exp_gain`,
            `lidar_conf.alias`, `agent.placements`, `agent.locations`, `agent.keepout`, `agent.rot`, `num_steps`,
            `reward_conf.reward_clip`. `envs_mjx.parse_overrides` reads them from text.

    Returns:
        The environment: `env.reset(key)`, `env.step(state, action)`, `env.spec`.

    Raises:
        ValueError: for an unknown id, backend, override or value; the message has the name and the valid choices.
        ImportError: for `warp` when its optional package is not installed.
    """
    kind = next((kind for kind in KINDS if id in kind.ids()), None)
    if kind is None:
        raise ValueError(f"unknown environment {id!r}{_suggestion(id)}")
    physics = physics or default_backend()
    check(physics, profile)
    return kind.make(id, physics, profile, overrides or {})


def _suggestion(id: str) -> str:
    return did_you_mean(id, ids()) or f"; one of {', '.join(ids())}"

"""Navigation environments: a robot, things in an arena, and a task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from envs_mjx.navigation.env import Navigation
from envs_mjx.navigation.layout import check_feasible
from envs_mjx.navigation.levels import configs
from envs_mjx.navigation.overrides import override


def ids() -> tuple[str, ...]:
    """Names of the registered navigation environments."""
    return tuple(configs())


def make(id: str, physics: str, profile: str, overrides: Mapping[str, Any]) -> Navigation:
    """Make a registered navigation environment; arguments and errors as in `envs_mjx.make`."""
    config = configs()[id]
    for name, value in overrides.items():
        config = override(config, name, value)
    if overrides:  # registered layouts have room
        check_feasible(config)
    return Navigation(config, physics, profile)


__all__ = ["Navigation", "configs", "ids", "make", "override"]

"""The registered environments: 26 navigation ids of Safety-Gymnasium, with its names and numbers."""

from __future__ import annotations

import dataclasses
import difflib
import typing
from collections.abc import Mapping
from typing import Any

import typeguard

from envs_mjx.agents import AGENTS
from envs_mjx.navigation.config import Config, LidarConfig
from envs_mjx.navigation.env import Navigation
from envs_mjx.navigation.objects import (
    CLASSES,
    Buttons,
    Circle,
    Goal,
    Gremlins,
    Hazards,
    Objects,
    Pillars,
    PushBox,
    Sigwalls,
    Vases,
)
from envs_mjx.navigation.tasks import TASKS
from envs_mjx.physics import check


def _square(half: float) -> tuple[float, float, float, float]:
    return (-half, -half, half, half)


def _goal(level: int) -> dict[str, Any]:
    goal = Goal(keepout=0.305)
    if level == 0:
        return {"objects": (goal,), "extents": _square(1)}
    if level == 1:
        return {"objects": (goal, Hazards(num=8, keepout=0.18), Vases(num=1)), "extents": _square(1.5)}
    objects = (goal, Hazards(num=10, keepout=0.18), Vases(num=10, is_constrained=True))
    return {"objects": objects, "extents": _square(2)}


def _button(level: int) -> dict[str, Any]:
    goal = Goal(size=0.2)
    if level == 0:
        return {"objects": (Buttons(), goal), "extents": _square(1)}
    hazards, gremlins, extent = ((4, 4, 1.5), (8, 6, 1.8))[level - 1]
    objects = (
        Buttons(is_constrained=True),
        goal,
        Hazards(num=hazards, keepout=0.18),
        Gremlins(num=gremlins, travel=0.35, keepout=0.4),
    )
    return {"objects": objects, "extents": _square(extent)}


def _push(level: int) -> dict[str, Any]:
    if level == 0:
        return {"objects": (Goal(), PushBox()), "extents": _square(1)}
    hazards, pillars, extent = ((2, 1, 1.5), (4, 4, 2.0))[level - 1]
    objects = (
        Goal(),
        Hazards(num=hazards, size=0.3),
        Pillars(num=pillars, is_constrained=level == 2),
        PushBox(),
    )
    return {"objects": objects, "extents": _square(extent)}


def _circle(level: int) -> dict[str, Any]:
    objects: tuple[Objects, ...] = (Circle(),)
    if level:
        objects += (Sigwalls(num=2 * level, is_constrained=True),)
    return {
        "objects": objects,
        "agent_placements": (_square(0.8),),
        "agent_keepout": 0.0,
        "num_steps": 500,
        "lidar": LidarConfig(max_dist=6.0),
    }


def _run(level: int) -> dict[str, Any]:
    return {
        "objects": (Sigwalls(num=2, size=17.5, locate_factor=0.5, is_constrained=True),),
        "agent_placements": ((-0.2, 16.5, 0.2, 16.5),),
        "agent_keepout": 0.0,
        "num_steps": 500,
        "reward_clip": None,
    }


_TASKS = {"Goal": (_goal, 3), "Button": (_button, 3), "Push": (_push, 3), "Circle": (_circle, 3), "Run": (_run, 1)}


def _config(agent: str, task: str, level: int) -> Config:
    parts = _TASKS[task][0](level)
    if agent == "Car":  # the reference gives the car a smaller, lighter box
        light = PushBox(size=0.125, density=0.0005, keepout=0.125)
        parts["objects"] = tuple(light if isinstance(o, PushBox) else o for o in parts["objects"])
    return Config(id=f"Safety{agent}{task}{level}-v0", agent=agent, task=task, **parts)


REGISTRY: dict[str, Config] = {
    config.id: config
    for agent in AGENTS
    for task, (_, levels) in _TASKS.items()
    for config in (_config(agent, task, level) for level in range(levels))
}


def ids() -> tuple[str, ...]:
    """Names of all registered environments."""
    return tuple(REGISTRY)


def make(
    id: str, *, physics: str = "mujoco", profile: str = "exact", overrides: Mapping[str, Any] | None = None
) -> Navigation:
    """Make an environment.

    Args:
        id: a registered name, for example `SafetyPointGoal1-v0`.
        physics: `mujoco` (MuJoCo C, the default on CPU), `mjx` (MuJoCo XLA) or `warp` (MJX on MuJoCo Warp).
        profile: `exact`, or `fast` where a backend documents one.
        overrides: changes to the registered configuration, named as in the reference's configurable environments: a
            class of things with its settings (`{"Hazards": {"num": 4, "size": 0.3}}`; None takes it away), or one of
            `placements_conf.extents`, `lidar_conf.num_bins`, `lidar_conf.max_dist`, `lidar_conf.exp_gain`,
            `lidar_conf.alias`, `agent.placements`, `agent.locations`, `agent.keepout`, `agent.rot`, `num_steps`,
            `reward_conf.reward_clip`.

    Returns:
        The environment: `env.reset(key)`, `env.step(state, action)`, `env.spec`.

    Raises:
        ValueError: for an unknown id, backend, override or value; the message names it and what was expected.
        ImportError: for `warp` when its optional package is not installed.
    """
    if id not in REGISTRY:
        raise ValueError(f"unknown environment {id!r}{_suggest(id, REGISTRY)}")
    check(physics, profile)
    config = REGISTRY[id]
    for key, value in (overrides or {}).items():
        config = _override(config, key, value)
    for name in TASKS[config.task].required:
        if config.find(name) is None:
            raise ValueError(f"{id}: the task needs {name}")
    return Navigation(config, physics, profile)


_FIELDS = {
    "placements_conf.extents": "extents",
    "agent.placements": "agent_placements",
    "agent.locations": "agent_locations",
    "agent.keepout": "agent_keepout",
    "agent.rot": "agent_rot",
    "num_steps": "num_steps",
    "reward_conf.reward_clip": "reward_clip",
}
_LIDAR = {f"lidar_conf.{f.name}": f.name for f in dataclasses.fields(LidarConfig)}


def _override(config: Config, key: str, value: Any) -> Config:
    if key in CLASSES:
        return _override_things(config, CLASSES[key], value)
    if key in _LIDAR:
        changed = {_LIDAR[key]: _checked(key, LidarConfig, _LIDAR[key], value)}
        return dataclasses.replace(config, lidar=dataclasses.replace(config.lidar, **changed))
    if key in _FIELDS:
        return dataclasses.replace(config, **{_FIELDS[key]: _checked(key, Config, _FIELDS[key], value)})
    known = (*CLASSES, *_LIDAR, *_FIELDS)
    raise ValueError(f"unknown override {key!r}{_suggest(key, known)}; one of {', '.join(known)}")


def _override_things(config: Config, cls: type[Objects], value: Mapping[str, Any] | None) -> Config:
    others = tuple(o for o in config.objects if not isinstance(o, cls))
    if value is None:
        return dataclasses.replace(config, objects=others)
    if not isinstance(value, Mapping):
        raise ValueError(f"{cls.__name__} must be a dict of settings, or None to take it away, got {value!r}")
    known = {f.name for f in dataclasses.fields(cls)}
    for name in value:
        if name not in known:
            hint = _suggest(name, known)
            raise ValueError(f"{cls.__name__} has no setting {name!r}{hint}; one of {', '.join(sorted(known))}")
    settings = {k: _checked(f"{cls.__name__}.{k}", cls, k, v) for k, v in value.items()}
    if config.find(cls.name) is not None:
        things = tuple(dataclasses.replace(o, **settings) if isinstance(o, cls) else o for o in config.objects)
        return dataclasses.replace(config, objects=things)
    # A new class goes to the end of its group: the reference lists static, then free, then driven things.
    rank = {"ghost": 0, "fixture": 0, "free": 1, "driven": 2}
    things = tuple(sorted((*others, cls(**settings)), key=lambda o: rank[o.kind]))
    return dataclasses.replace(config, objects=things)


def _checked(key: str, owner: type, field: str, value: Any) -> Any:
    """`value` with tuples for lists, if it is of the type that the field is declared with."""

    def frozen(x: Any) -> Any:
        return tuple(frozen(y) for y in x) if isinstance(x, list | tuple) else x

    expected = typing.get_type_hints(owner)[field]
    try:
        return typeguard.check_type(
            frozen(value), expected, collection_check_strategy=typeguard.CollectionCheckStrategy.ALL_ITEMS
        )
    except typeguard.TypeCheckError:
        said = getattr(expected, "__name__", str(expected)) if isinstance(expected, type) else str(expected)
        raise ValueError(f"{key} must be {said}, got {value!r}") from None


def _suggest(name: str, known) -> str:
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else ""

"""Overrides of a registered configuration, named as in the reference's configurable environments."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from typing import Any

import typeguard

from envs_mjx.navigation.config import Config, LidarConfig
from envs_mjx.navigation.objects import CLASSES, Objects
from jsafe.suggestions import did_you_mean

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


def override(config: Config, key: str, value: Any) -> Config:
    """The configuration with one setting replaced.

    Args:
        config: the registered configuration.
        key: a class of things (`Hazards`) or one of the settings that `envs_mjx.make` lists.
        value: for a class of things a dict of its settings, or None to remove it.

    Raises:
        ValueError: for an unknown key or setting, or a value of the wrong type.
    """
    if key in CLASSES:
        return _override_things(config, CLASSES[key], value)
    if key in _LIDAR:
        changed = {_LIDAR[key]: _checked(key, LidarConfig, _LIDAR[key], value)}
        return dataclasses.replace(config, lidar=dataclasses.replace(config.lidar, **changed))
    if key in _FIELDS:
        return dataclasses.replace(config, **{_FIELDS[key]: _checked(key, Config, _FIELDS[key], value)})
    choices = (*CLASSES, *_LIDAR, *_FIELDS)
    raise ValueError(f"unknown override {key!r}{did_you_mean(key, choices)}; one of {', '.join(choices)}")


def _override_things(config: Config, cls: type[Objects], value: Mapping[str, Any] | None) -> Config:
    others = tuple(o for o in config.objects if not isinstance(o, cls))
    if value is None:
        return dataclasses.replace(config, objects=others)
    if not isinstance(value, Mapping):
        raise ValueError(f"{cls.__name__} must be a dict of settings, or None to remove it, got {value!r}")
    choices = sorted(f.name for f in dataclasses.fields(cls))
    for name in value:
        if name not in choices:
            hint = did_you_mean(name, choices)
            raise ValueError(f"{cls.__name__} has no setting {name!r}{hint}; one of {', '.join(choices)}")
    settings = {k: _checked(f"{cls.__name__}.{k}", cls, k, v) for k, v in value.items()}
    if config.find(cls.name) is not None:
        things = tuple(dataclasses.replace(o, **settings) if isinstance(o, cls) else o for o in config.objects)
        return dataclasses.replace(config, objects=things)
    # A new class goes to the end of its group: the reference lists static, then free, then driven things.
    rank = {"ghost": 0, "fixture": 0, "free": 1, "driven": 2}
    things = tuple(sorted((*others, cls(**settings)), key=lambda o: rank[o.kind]))
    return dataclasses.replace(config, objects=things)


def _checked(key: str, owner: type, field: str, value: Any) -> Any:
    """`value` with tuples for lists, checked against the declared type of the field."""

    def frozen(x: Any) -> Any:
        return tuple(frozen(y) for y in x) if isinstance(x, list | tuple) else x

    expected = typing.get_type_hints(owner)[field]
    try:
        return typeguard.check_type(
            frozen(value), expected, collection_check_strategy=typeguard.CollectionCheckStrategy.ALL_ITEMS
        )
    except typeguard.TypeCheckError:
        name = expected.__name__ if isinstance(expected, type) else str(expected)
        raise ValueError(f"{key} must be {name}, got {value!r}") from None

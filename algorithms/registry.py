"""Look algorithms up by name in the families, describe them, and bind them to a problem."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from algorithms import on_policy
from algorithms.spec import AlgorithmSpec, Family, Problem
from jsafe import Env, PolicySpec, Trainer
from jsafe.config import Config, refuse_unknown
from jsafe.config import describe as describe_options
from jsafe.suggestions import did_you_mean

DEFAULT_PRESET = "paper"

FAMILIES: dict[str, Family] = {"on_policy": on_policy}
"""Name of a family to the module or object that implements it."""


def lookup(name: str) -> tuple[Family, AlgorithmSpec]:
    """Family and description of a registered name."""
    for family in FAMILIES.values():
        if name in family.catalogue:
            return family, family.catalogue[name]
    raise KeyError(name)


def names() -> tuple[str, ...]:
    """Registered names, sorted."""
    return tuple(sorted(name for family in FAMILIES.values() for name in family.catalogue))


def config_class(name: str) -> type[Any]:
    """Class of an algorithm's hyper-parameters, a `jsafe.config.Config`."""
    return lookup(name)[0].config_class(name)


def resolve(name: str) -> str:
    """Return the registered name behind a name or alias; case does not matter.

    Raises:
        ValueError: for an unknown name, with the nearest known one.
    """
    by_alias = {alias.lower(): key for key in names() for alias in (key, *lookup(key)[1].aliases)}
    registered = by_alias.get(str(name).lower())
    if registered is None:
        near = did_you_mean(str(name).lower(), by_alias)
        raise ValueError(f"unknown algorithm {name!r}{near} (known: {', '.join(names())})")
    return registered


def describe(name: str) -> dict[str, Any]:
    """Describe an algorithm for listings and JSON.

    Returns:
        `name`, `aliases`, `summary`, `paper`, `parts`, `default_preset`, `presets` and `options`. The parts are names
        by axis, None for an axis without one. Each option is a dict with `name`, `type`, `default`, `help`, `traced`,
        `choices` and the bounds `low`, `high` and `above`.

    Raises:
        ValueError: for an unknown name.
    """
    name = resolve(name)
    _, spec = lookup(name)
    return {
        "name": name,
        "aliases": list(spec.aliases),
        "summary": spec.summary,
        "paper": spec.paper,
        "parts": spec.parts,
        "default_preset": DEFAULT_PRESET,
        "presets": {preset: dict(values) for preset, values in spec.presets.items()},
        "options": describe_options(config_class(name)),
    }


def configure(
    name: str,
    preset: str = DEFAULT_PRESET,
    *,
    env: Env | None = None,
    data: Any = None,
    networks: Any = None,
    **options: Any,
) -> Any:
    """Build the hyper-parameters of an algorithm from a preset.

    Args:
        name: registered name or alias.
        preset: published hyper-parameters to start from.
        env: the CMDP that the algorithm will act in; with it, options without effect there are refused.
        data: recorded transitions that the algorithm will learn from.
        networks: function approximators that will take the place of the built-in ones.
        **options: hyper-parameters to replace, by name; see `describe`.

    Raises:
        ValueError: for an unknown algorithm or preset, a value out of range, or an option without effect, given the
            others.
        TypeError: for an unknown option, or a value of the wrong type.
    """
    name = resolve(name)
    family, spec = lookup(name)
    if preset not in spec.presets:
        near = did_you_mean(str(preset), spec.presets)
        raise ValueError(f"{name} has no preset {preset!r}{near} (presets: {', '.join(spec.presets)})")
    config_type: Any = family.config_class(name)
    refuse_unknown("option", options, config_type.names(), name)
    config = config_type(**{**spec.presets[preset], **options})
    idle = family.idle_options(Problem(env, data), config, own_networks=networks is not None)
    for option in options:
        if option in idle:
            raise ValueError(f"{option} has no effect: {idle[option]}")
    return config


def make(
    name: str,
    env: Env | None,
    preset: str | Config = DEFAULT_PRESET,
    *,
    data: Any = None,
    encoders: Mapping[str, Any] | None = None,
    networks: Any = None,
    policy: PolicySpec | None = None,
    **options: Any,
) -> Trainer:
    """Bind an algorithm to a problem.

    Args:
        name: registered name or alias, for example `"ppo_lag"` or `"PPOLag"`.
        env: the CMDP; None for methods that learn from data alone.
        preset: published hyper-parameters to start from, or complete ones from `configure`.
        data: recorded transitions, for methods that learn from them.
        encoders: name of a leaf of the observation to its encoder (`jsafe.networks.encoders`), for the built-in
            networks; other leaves are flattened.
        networks: function approximators to use instead of the built-in ones.
        policy: description of `networks.policy` for the records of runs; without one it cannot be loaded.
        **options: hyper-parameters to replace, by name; see `describe`.

    Raises:
        ValueError: for an unknown algorithm or preset, a value out of range, an option without effect, given the
            others, or a constrained method on an environment without costs.
        TypeError: for an unknown option, a value of the wrong type, or options next to complete hyper-parameters.
    """
    name = resolve(name)
    family, _ = lookup(name)
    if isinstance(preset, Config):
        if options or not isinstance(preset, family.config_class(name)):
            expected = family.config_class(name).__name__
            raise TypeError(f"{name} needs a preset and options, or a {expected} alone, got {preset!r} and {options}")
        config: Any = preset
    else:
        config = configure(name, preset, env=env, data=data, networks=networks, **options)
    return family.make(name, Problem(env, data), config, encoders=encoders, networks=networks, policy=policy)


def rewrite(name: str, env: Env, config: Mapping[str, Any]) -> Env:
    """Transform an environment as an algorithm does, for its policies to act in.

    Args:
        name: registered name or alias.
        env: the CMDP.
        config: recorded options, `TrainerInfo.config`; missing ones have their defaults.

    Returns:
        The transformed environment, or `env` itself for an algorithm without a transform.
    """
    transform = lookup(resolve(name))[1].transform
    if transform is None:
        return env
    known = transform.config.names()
    return transform.make(env, transform.config(**{k: v for k, v in config.items() if k in known}))

"""Hyper-parameters of stages and of responses as flags."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from experiments.cli.argument_types import ArgumentError, parameter
from experiments.cli.config_flags import ConfigFlags, config_flags
from rlhf.config import SamplingConfig

T = TypeVar("T")


class HyperparameterFlags(ConfigFlags):
    """Hyper-parameters from a command line, which replace those of a config."""

    def applied_to(self, config: T) -> T:
        """Return the config with the hyper-parameters that were given."""
        names = {field.name for field in dataclasses.fields(config)}  # type: ignore[arg-type]
        values = {name: value for name, value in self.explicit().items() if name in names}
        return dataclasses.replace(config, **values)  # type: ignore[type-var]


def preset_values(config: Any) -> dict[str, Any]:
    """Return the fields of a config that differ from the defaults of its class."""
    return {
        field.name: getattr(config, field.name)
        for field in dataclasses.fields(config)
        if getattr(config, field.name) != field.default
    }


def hyperparameter_flags(
    *configs: type, presets: Mapping[str, Any], hidden: frozenset[str] = frozenset()
) -> Callable[[type[T]], type[T]]:
    """Return a decorator that adds the fields of config classes as flags.

    Args:
        configs: config classes.
        presets: configs by name, whose values the help shows; the first one has the defaults.
        hidden: fields without a flag.
    """
    values = {name: preset_values(config) for name, config in presets.items()}
    return config_flags(*configs, presets=values, hidden=hidden)


def flag_of(command: str) -> Any:
    """Return the declaration of a hidden flag that only another command has."""

    def refuse(text: str) -> None:
        raise ArgumentError(f"is a flag of jsafe rlhf {command}")

    return parameter(refuse, "X", show=False)


@config_flags(SamplingConfig, title="Sampling")
class SamplingFlags(HyperparameterFlags):
    """Sampling settings."""

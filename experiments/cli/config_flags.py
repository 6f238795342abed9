"""Hyper-parameters as flags: the fields of a config class become the flags of a command.

A flag that is left out is None, so a preset can decide. `ConfigFlags.explicit` returns the others.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping
from typing import Annotated, Any, TypeVar

from cyclopts import Group, Parameter

from experiments.cli.argument_types import integer, number, numbers, parameter, sizes
from experiments.cli.format import value_text

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConfigFlags:
    """Hyper-parameters from a command line; the decorator `config_flags` adds the fields."""

    def explicit(self) -> dict[str, Any]:
        """Return the hyper-parameters on the command line, by name."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {name: value for name, value in values.items() if value is not None}

    def config(self, cls: type[T], defaults: Mapping[str, Any] | None = None) -> T:
        """Return the config of a class: its own defaults, then `defaults`, then the flags of the command line."""
        names = {field.name for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
        chosen = {**(defaults or {}), **self.explicit()}
        return cls(**{name: value for name, value in chosen.items() if name in names})


def config_flags(
    *configs: type,
    presets: Mapping[str, Mapping[str, Any]] | None = None,
    default_preset: str = "",
    hidden: Collection[str] = (),
    title: str = "Hyper-parameters",
    about: str = "",
) -> Callable[[type[T]], type[T]]:
    """Return a decorator that adds the fields of config classes to a subclass of `ConfigFlags`.

    Args:
        configs: config classes; each field becomes a flag `--field-name`.
        presets: named values in place of the defaults of the classes, shown by the help.
        default_preset: the preset whose values are the defaults; the first one if empty.
        hidden: fields without a flag.
        title: heading in the help.
        about: sentence below the heading.

    Example:
        `@config_flags(TrainingConfig, presets={"": {"epochs": 3}})` above `class SftTraining(ConfigFlags)`.
    """
    presets = presets or {"": {}}
    first = default_preset or next(iter(presets))

    def decorate(cls: type[T]) -> type[T]:
        annotations: dict[str, Any] = {}
        for config in configs:
            for option in _describe(config):
                if option["name"] not in hidden and option["name"] not in annotations:
                    annotations[option["name"]] = _annotation(option, presets, first)
                    setattr(cls, option["name"], None)
        cls.__annotations__ = annotations
        cls = dataclasses.dataclass(frozen=True, kw_only=True)(cls)
        return Parameter(name="*", group=Group(title, help=about, sort_key=70))(cls)

    return decorate


def _describe(config: type) -> list[dict[str, Any]]:
    from jsafe.config import describe

    return describe(config)


def _annotation(option: dict[str, Any], presets: Mapping[str, Mapping[str, Any]], first: str) -> Any:
    """Return the annotated type of a flag."""
    help = f"{_sentence(option['help'])} ({_values(option, presets, first)})"
    if option["type"] == "bool":
        return Annotated[bool | None, Parameter(help=help, show_default=False)]
    if option["choices"]:
        return Annotated[str | None, Parameter(help=help, choices=tuple(option["choices"]), metavar="NAME")]
    kind, read, metavar = _READERS[option["type"]]
    return Annotated[kind | None, parameter(read, metavar, help=help)]


_READERS: dict[str, tuple[Any, Callable[[str], Any], str]] = {
    "int": (int, integer, "N"),
    "float": (float, number, "X"),
    "str": (str, str, "NAME"),
    "tuple": (tuple[int, ...], sizes, "N,N"),
    "numbers": (float | tuple[float, ...], numbers, "X[,X]"),
}


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:].rstrip(".")


def _values(option: dict[str, Any], presets: Mapping[str, Mapping[str, Any]], first: str) -> str:
    """Return the default, the values of presets that differ, and the range."""
    name = option["name"]
    default = presets[first].get(name, option["default"])
    texts = [f"default {value_text(default)}"]
    texts += [
        f"{preset}: {value_text(values[name])}"
        for preset, values in presets.items()
        if preset != first and values.get(name, default) != default
    ]
    return "; ".join([*texts, *filter(None, [range_text(option)])])


def range_text(option: Mapping[str, Any]) -> str:
    """Return the allowed range of an option, for example `>= 0, <= 1`; empty where there is none."""
    low, high, above = option["low"], option["high"], option["above"]
    bounds = [f">= {value_text(low)}"] if low is not None else []
    bounds += [f"> {value_text(above)}"] if above is not None else []
    bounds += [f"<= {value_text(high)}"] if high is not None else []
    return ", ".join(bounds)

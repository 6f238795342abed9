"""Configuration classes: frozen keyword-only dataclasses of options with help, range and choices.

An option is declared once, with `option`. The docstring of the class, validation, the command line and descriptions
come from that declaration. A static option shapes the compiled program. A traced one becomes an entry of
`TrainState.hyper` and may differ across a population: `Config` is the class, `Traced` the mapping of traced values.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar, dataclass_transform

from jsafe.suggestions import did_you_mean

NO_LIMIT = 1e8
"""As good as no upper bound on a multiplier, and still a number that JSON can hold."""

T = TypeVar("T")

Traced = Mapping[str, Any]
"""Values of traced options by name."""


def option(
    help: str,
    *,
    default: Any,
    traced: bool = False,
    low: float | None = None,
    high: float | None = None,
    above: float | None = None,
    choices: Sequence[str] | None = None,
    vector: bool = False,
    infinite: bool = False,
) -> Any:
    """Declare one option of a class decorated with `hyperparameters`.

    Args:
        help: one line for documentation and command line.
        default: value that presets and users replace; its type is the option's type.
        traced: True if the compiled program takes the value as an input.
        low: smallest allowed value.
        high: largest allowed value.
        above: the value must be greater than this.
        choices: the allowed names.
        vector: True if a list of numbers may take the place of a number.
        infinite: True if infinity is allowed; an infinite traced option becomes static.
    """
    metadata = {"help": help, "traced": traced, "low": low, "high": high, "above": above}
    metadata |= {"choices": choices, "vector": vector, "infinite": infinite}
    return dataclasses.field(default=default, metadata=metadata)


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(option,))
def hyperparameters(cls: type[T]) -> type[T]:
    """Make a frozen keyword-only dataclass of options, and document its attributes."""
    cls = dataclasses.dataclass(frozen=True, kw_only=True)(cls)
    lines = [f"    {f.name}: {f.metadata['help']}" for f in dataclasses.fields(cls)]  # type: ignore[arg-type]
    cls.__doc__ = (cls.__doc__ or "").rstrip() + "\n\nAttributes:\n" + "\n".join(lines)
    return cls


class Config:
    """Base of the classes of hyper-parameters."""

    def __post_init__(self) -> None:
        """Check every option against its declaration.

        Raises:
            TypeError: for a value of the wrong type.
            ValueError: for a value out of range; the message names the option, the value and what was expected.
        """
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            object.__setattr__(self, field.name, _checked(field, getattr(self, field.name)))

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Names of all options."""
        return tuple(field.name for field in dataclasses.fields(cls))  # type: ignore[arg-type]

    def traced(self) -> dict[str, float | tuple[float, ...]]:
        """Values of the traced options by name; an infinite one shapes the program and is left out."""
        fields = dataclasses.fields(self)  # type: ignore[arg-type]
        values = {f.name: getattr(self, f.name) for f in fields if f.metadata["traced"]}
        return {name: value for name, value in values.items() if value != math.inf}

    def config(self) -> dict[str, Any]:
        """Every option by name, as values JSON can hold."""
        options = {name: getattr(self, name) for name in self.names()}
        return {k: list(v) if isinstance(v, tuple) else v for k, v in options.items()}

    def traced_arrays(self, replaced: Traced | None, owner: str) -> dict[str, Any]:
        """Values of the traced options as float32 arrays, some of them replaced by name.

        This is the one place that checks a traced number against its declared range. Tracers cannot be checked.

        Args:
            replaced: numbers, arrays or tracers.
            owner: name of the algorithm, for messages.

        Raises:
            TypeError: for an unknown name.
            ValueError: for a value out of range, or of another shape than the default.
        """
        import jax.numpy as jnp
        import numpy as np

        defaults = self.traced()
        values = merged_traced(defaults, replaced, owner)
        plain = {k: v.item() if isinstance(v, np.generic) else v for k, v in values.items()}
        dataclasses.replace(self, **{k: v for k, v in plain.items() if isinstance(v, int | float | tuple)})  # type: ignore[type-var]
        for name, value in values.items():
            if np.shape(value) != np.shape(defaults[name]):
                raise ValueError(f"{name} must have shape {np.shape(defaults[name])}, got {np.shape(value)}")
        return {k: jnp.asarray(v, jnp.float32) for k, v in values.items()}


def _checked(field: dataclasses.Field[Any], value: Any) -> Any:
    """Return the value in the type of the field's default, or raise an error that names the fault."""
    field_type = type(field.default)
    name, rules = field.name, field.metadata
    if field_type is bool or isinstance(value, bool):
        if not (field_type is bool and isinstance(value, bool)):
            raise TypeError(f"{name} must be {_article(field_type)}, got {value!r}")
        return value
    listed = rules["vector"] and isinstance(value, list | tuple)
    try:
        converted = tuple(_convert(field_type, v) for v in value) if listed else _convert(field_type, value)
    except (TypeError, ValueError):
        or_list = " or a list of numbers" if rules["vector"] else ""
        raise TypeError(f"{name} must be {_article(field_type)}{or_list}, got {value!r}") from None
    if listed and not converted:
        raise ValueError(f"{name} must be a number or a list of numbers, got an empty list")
    if rules["choices"] is not None and converted not in rules["choices"]:
        near = did_you_mean(str(converted), rules["choices"])
        raise ValueError(f"{name} must be one of {sorted(rules['choices'])}, got {value!r}{near}")
    numbers = converted if isinstance(converted, tuple) else (converted,)
    for number in numbers:
        if isinstance(number, str):
            continue
        if not math.isfinite(number) and not (rules["infinite"] and number == math.inf):
            raise ValueError(f"{name} must be a finite number, got {value!r}")
        if rules["low"] is not None and number < rules["low"]:
            raise ValueError(f"{name} must be at least {rules['low']}, got {value!r}")
        if rules["high"] is not None and number > rules["high"]:
            raise ValueError(f"{name} must be at most {rules['high']}, got {value!r}")
        if rules["above"] is not None and number <= rules["above"]:
            raise ValueError(f"{name} must be greater than {rules['above']}, got {value!r}")
    return converted


def _convert(field_type: type, value: Any) -> Any:
    if field_type is tuple:
        if isinstance(value, str):
            raise TypeError
        return tuple(_convert(int, v) for v in value)
    if field_type is str:
        if not isinstance(value, str):
            raise TypeError
        return value
    if isinstance(value, str | list | tuple):
        raise TypeError
    if field_type is int and int(value) != value:
        raise ValueError
    return field_type(value)


def _article(kind: type) -> str:
    names = {
        bool: "True or False",
        int: "a whole number",
        float: "a number",
        str: "a name",
        tuple: "a list of whole numbers",
    }
    return names[kind]


def refuse_unknown(kind: str, entries: Iterable[str], known: Iterable[str], owner: str) -> None:
    """Raise a TypeError that names the first unknown entry and the nearest known one."""
    known = sorted(known)
    for name in entries:
        if name not in known:
            raise TypeError(f"{owner} has no {kind} {name!r}{did_you_mean(name, known)} ({kind}s: {', '.join(known)})")


def describe(cls: type[Config]) -> list[dict[str, Any]]:
    """List the options of a class: name, type, default, help, traced, choices and bounds (see `option`)."""
    return [
        {
            "name": f.name,
            "type": "numbers" if f.metadata["vector"] else type(f.default).__name__,
            "default": list(f.default) if isinstance(f.default, tuple) else f.default,
            "help": f.metadata["help"],
            "traced": f.metadata["traced"],
            "choices": list(f.metadata["choices"]) if f.metadata["choices"] else None,
            **{bound: f.metadata[bound] for bound in ("low", "high", "above")},
        }
        for f in dataclasses.fields(cls)  # type: ignore[arg-type]
    ]


def merged_traced(defaults: Mapping[str, Any], replaced: Mapping[str, Any] | None, owner: str) -> dict[str, Any]:
    """Traced values, some of them replaced by name; the replacements may be tracers and are not looked into."""
    replaced = replaced or {}
    refuse_unknown("traced option", replaced, defaults, owner)
    return {**defaults, **replaced}

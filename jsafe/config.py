"""Hyper-parameters: frozen keyword-only dataclasses whose fields know their help, their range and whether they trace.

An option is declared once, with `option`; its class docstring, its validation, the command line and
descriptions are read from that declaration. A static option shapes the compiled program; a traced one
becomes an entry of `TrainState.hyper`, and may differ across a population.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar, dataclass_transform

T = TypeVar("T")


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
) -> Any:
    """Declare one hyper-parameter of a class decorated with `hyperparameters`.

    Args:
        help: one line for documentation and command line.
        default: value when neither a preset nor the user says otherwise; its type is the option's type.
        traced: whether the compiled program takes the value as an input.
        low: smallest allowed value.
        high: largest allowed value.
        above: the value must be greater than this.
        choices: the allowed names.
        vector: whether a list of numbers may take the place of a number.
    """
    metadata = {"help": help, "traced": traced, "low": low, "high": high, "above": above}
    metadata |= {"choices": choices, "vector": vector}
    return dataclasses.field(default=default, metadata=metadata)


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(option,))
def hyperparameters(cls: type[T]) -> type[T]:
    """Make a frozen keyword-only dataclass of options, and document its attributes."""
    cls = dataclasses.dataclass(frozen=True, kw_only=True)(cls)
    lines = [f"    {f.name}: {f.metadata['help']}" for f in dataclasses.fields(cls)]  # type: ignore[arg-type]
    cls.__doc__ = (cls.__doc__ or "").rstrip() + "\n\nAttributes:\n" + "\n".join(lines)
    return cls


class Hyper:
    """What every class of hyper-parameters can do."""

    def __post_init__(self) -> None:
        """Check every option against its declaration.

        Raises:
            TypeError: for a value of the wrong type.
            ValueError: for a value out of range; the message names the option, the value and what was expected.
        """
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            object.__setattr__(self, field.name, _checked(field, getattr(self, field.name)))

    def traced(self) -> dict[str, float | tuple[float, ...]]:
        """Values of the traced options by name."""
        fields = dataclasses.fields(self)  # type: ignore[arg-type]
        return {f.name: getattr(self, f.name) for f in fields if f.metadata["traced"]}

    def config(self) -> dict[str, Any]:
        """Every option by name, as values JSON can hold."""
        found = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}  # type: ignore[arg-type]
        return {k: list(v) if isinstance(v, tuple) else v for k, v in found.items()}


def _checked(field: dataclasses.Field[Any], value: Any) -> Any:
    """Return the value in the type of the field's default, or say what is wrong with it."""
    wanted = type(field.default)
    name, rules = field.name, field.metadata
    if wanted is bool or isinstance(value, bool):
        if not (wanted is bool and isinstance(value, bool)):
            raise TypeError(f"{name} must be {_article(wanted)}, got {value!r}")
        return value
    listed = rules["vector"] and isinstance(value, list | tuple)
    try:
        converted = tuple(_convert(wanted, v) for v in value) if listed else _convert(wanted, value)
    except (TypeError, ValueError):
        or_list = " or a list of numbers" if rules["vector"] else ""
        raise TypeError(f"{name} must be {_article(wanted)}{or_list}, got {value!r}") from None
    if listed and not converted:
        raise ValueError(f"{name} must be a number or a list of numbers, got an empty list")
    if rules["choices"] is not None and converted not in rules["choices"]:
        near = nearest(str(converted), rules["choices"])
        raise ValueError(f"{name} must be one of {sorted(rules['choices'])}, got {value!r}{near}")
    numbers = converted if isinstance(converted, tuple) else (converted,)
    for number in numbers:
        if isinstance(number, str):
            continue
        if not math.isfinite(number):
            raise ValueError(f"{name} must be a finite number, got {value!r}")
        if rules["low"] is not None and number < rules["low"]:
            raise ValueError(f"{name} must be at least {rules['low']}, got {value!r}")
        if rules["high"] is not None and number > rules["high"]:
            raise ValueError(f"{name} must be at most {rules['high']}, got {value!r}")
        if rules["above"] is not None and number <= rules["above"]:
            raise ValueError(f"{name} must be greater than {rules['above']}, got {value!r}")
    return converted


def _convert(wanted: type, value: Any) -> Any:
    if wanted is tuple:
        if isinstance(value, str):
            raise TypeError
        return tuple(_convert(int, v) for v in value)
    if wanted is str:
        if not isinstance(value, str):
            raise TypeError
        return value
    if isinstance(value, str | list | tuple):
        raise TypeError
    if wanted is int and int(value) != value:
        raise ValueError
    return wanted(value)


def _article(kind: type) -> str:
    names = {
        bool: "True or False",
        int: "a whole number",
        float: "a number",
        str: "a name",
        tuple: "a list of whole numbers",
    }
    return names[kind]


def nearest(name: str, choices: Iterable[str]) -> str:
    """Suggest the nearest of the choices, as the end of a message; empty when nothing is near."""
    near = difflib.get_close_matches(name, list(choices), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def refuse_unknown(kind: str, given: Iterable[str], known: Iterable[str], owner: str) -> None:
    """Raise a TypeError that names the first unknown entry and the nearest known one."""
    known = sorted(known)
    for name in given:
        if name not in known:
            raise TypeError(f"{owner} has no {kind} {name!r}{nearest(name, known)} ({kind}s: {', '.join(known)})")


def describe(cls: type[Hyper]) -> list[dict[str, Any]]:
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

"""The hyper-parameters of an algorithm as options of `jsafe train ALGO`."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Callable, Sequence
from typing import Any

import algorithms
from experiments.cli.argument_types import integer
from experiments.cli.result import CommandError, unknown, value_text


def resolve(name: str) -> str:
    """The registered name of an algorithm, which may be given by another library's name.

    Raises:
        CommandError: unknown, with the nearest known name.
    """
    try:
        return algorithms.resolve(name)
    except ValueError:
        aliases = [alias for known in algorithms.names() for alias in algorithms.describe(known)["aliases"]]
        raise unknown("algorithm", name, [*algorithms.names(), *aliases]) from None


def parse_train(
    argv: Sequence[str],
    algorithm: str,
    parser_class: type[argparse.ArgumentParser],
    add_arguments: Callable[[argparse.ArgumentParser], None],
) -> argparse.Namespace:
    """Read the words after `jsafe train`, the hyper-parameters of the algorithm among them.

    Args:
        argv: the words.
        algorithm: the first of them that is not an option.
        parser_class: of the parser to build.
        add_arguments: adds what `jsafe train` takes for every algorithm.

    Returns:
        The options; `hyper` holds those hyper-parameters that were given, by name.
    """
    name = resolve(algorithm)
    facts = algorithms.describe(name)
    parser = parser_class(
        prog=f"jsafe train {algorithm}",
        usage=f"jsafe train {algorithm} ENV [options]",
        description=f"{facts['summary']} {facts['paper']}.",
        allow_abbrev=False,
    )
    add_arguments(parser)
    taken = {action.dest for action in parser._actions}
    group = parser.add_argument_group(
        "hyper-parameters", f"Defaults are those of the preset {facts['default_preset']!r}; --preset chooses another."
    )
    names = [option["name"] for option in facts["options"] if option["name"] not in taken]
    for option in facts["options"]:
        if option["name"] in names:
            add_option(group, option, facts)
    args, extra = parser.parse_known_args(argv)
    if extra:
        parser.error(complaint(extra, parser, name))
    args.hyper = {key: getattr(args, key) for key in names if hasattr(args, key)}
    args.algorithm, args.command = name, "train"
    return args


def preset_of(name: str, preset: str | None) -> str:
    """The preset to use, checked.

    Raises:
        CommandError: the algorithm has no such preset.
    """
    facts = algorithms.describe(name)
    if preset is None:
        return facts["default_preset"]
    if preset not in facts["presets"]:
        raise unknown(f"preset of {name}", preset, facts["presets"])
    return preset


def add_option(group: Any, option: dict[str, Any], facts: dict[str, Any]) -> None:
    """Add a hyper-parameter, as `jsafe.config.describe` gives it, with the value each preset has for it."""
    default_preset = facts["presets"][facts["default_preset"]]
    default = default_preset.get(option["name"], option["default"])
    said = [f"default {value_text(default)}"]
    said += [
        f"{preset}: {value_text(values[option['name']])}"
        for preset, values in facts["presets"].items()
        if preset != facts["default_preset"] and values.get(option["name"], default) != default
    ]
    keywords: dict[str, Any] = {
        "dest": option["name"],
        "default": argparse.SUPPRESS,
        "help": f"{option['help']} ({'; '.join(said)})".replace("%", "%%"),
    }
    if option["type"] == "bool":
        keywords["action"] = argparse.BooleanOptionalAction
    elif option["choices"]:
        keywords |= {"choices": option["choices"], "metavar": "NAME"}
        keywords["help"] += f"; one of {', '.join(option['choices'])}"
    else:
        keywords |= {"type": _READERS[option["type"]], "metavar": _METAVARS[option["type"]]}
    group.add_argument(f"--{option['name'].replace('_', '-')}", **keywords)


def complaint(extra: Sequence[str], parser: argparse.ArgumentParser, name: str) -> str:
    """What to say of words that a parser does not know, with the nearest option."""
    options = [flag for action in parser._actions for flag in action.option_strings]
    for word in extra:
        if word.startswith("--"):
            flag = word.partition("=")[0]
            near = difflib.get_close_matches(flag, options, n=1)
            return f"{name} has no option {flag}" + (f"; did you mean {near[0]}?" if near else "")
    return f"unexpected {' '.join(extra)}"


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a number, got {text!r}") from None


def _numbers(text: str) -> float | tuple[float, ...]:
    parts = [_number(part) for part in text.split(",")]
    return parts[0] if len(parts) == 1 else tuple(parts)


def _sizes(text: str) -> tuple[int, ...]:
    return tuple(integer(part) for part in text.replace("x", ",").split(",") if part)


_READERS = {"int": integer, "float": _number, "str": str, "tuple": _sizes, "numbers": _numbers}
_METAVARS = {"int": "N", "float": "X", "str": "NAME", "tuple": "N,N", "numbers": "X[,X]"}


def complete(args: argparse.Namespace) -> None:
    """Check that a new run is described completely.

    Raises:
        CommandError: without an algorithm or an environment.
    """
    if args.algorithm is None:
        raise CommandError("say what to train: jsafe train ALGO ENV, or jsafe train --resume DIR")
    if args.env is None:
        raise CommandError(f"say on which environment: jsafe train {args.algorithm} ENV (see jsafe envs)")

"""Families of commands, `jsafe FAMILY STAGE`: a table says what each stage is given, and its hyper-parameters."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from experiments.cli.argument_types import integer, number, numbers, positive, sizes
from experiments.cli.format import value_text
from jsafe.config import Config, describe
from jsafe.suggestions import nearest


class Command(NamedTuple):
    """One command of a family.

    Attributes:
        summary: one line.
        function: `module:function` that runs it.
        given: names of the family's flags and positional words.
        options: classes of hyper-parameters that it takes.
        defaults: of them, where they differ from the classes'.
        presets: named values of them in place of `defaults`; the first one where none is asked for.
        choice: the flag that chooses among these.
        hidden: hyper-parameters that follow from something else, or change nothing here, and are not asked for.
        says: help of a flag where it is another than the family's.
        leaves: what it writes to `--out` that a later step of an experiment can read; None for nothing or a model.
    """

    summary: str
    function: str
    given: tuple[str, ...]
    options: tuple[type[Config], ...] = ()
    defaults: dict[str, Any] = {}  # noqa: RUF012
    presets: dict[str, dict[str, Any]] = {}  # noqa: RUF012
    choice: str = "preset"
    hidden: frozenset[str] = frozenset()
    says: Mapping[str, str] = {}  # noqa: RUF012
    leaves: str | None = None


class Family(NamedTuple):
    """Commands that begin with the same word.

    Attributes:
        name: the word after `jsafe`.
        description: a sentence.
        commands: by name.
        flags: what argparse takes for each `--flag`; `-folder` at the end of a name is not part of the flag.
        positional: the same for words without a flag.
    """

    name: str
    description: str
    commands: Mapping[str, Command]
    flags: Mapping[str, dict[str, Any]]
    positional: Mapping[str, dict[str, Any]]


EXPERIMENT: dict[str, dict[str, Any]] = {
    "input": {"action": "append", "metavar": "NAME=PATH", "help": "path for a name in the file; may be repeated"},
    "until": {"metavar": "STEP", "help": "last step to run"},
    "jobs": {
        "type": positive,
        "metavar": "N",
        "default": 1,
        "help": "number of steps that run at once, each in a process of its own (default 1)",
    },
}
"""Flags of `jsafe FAMILY experiment`."""


def parse(
    family: Family,
    argv: Sequence[str],
    parser_class: type[argparse.ArgumentParser],
    finish: Callable[[argparse.ArgumentParser], None],
) -> argparse.Namespace:
    """Read the words after `jsafe FAMILY`.

    Args:
        family: whose.
        argv: the words.
        parser_class: of the parser to build.
        finish: adds what every command takes.

    Returns:
        The options; `hyper` holds those hyper-parameters that were given, by name, `function` what runs the stage, and
        `explicit` the flags that were given, by the name of their option.
    """
    parser = parser_class(prog=f"jsafe {family.name}", description=family.description)
    stages = parser.add_subparsers(dest="stage", metavar="STAGE", parser_class=parser_class, required=True)
    known: dict[str, list[str]] = {}
    built: dict[str, argparse.ArgumentParser] = {}
    for name, command in family.commands.items():
        about = command.summary[0].upper() + command.summary[1:] + "."
        made = stages.add_parser(name, help=command.summary, description=about, allow_abbrev=False)
        for given in command.given:
            if given in family.positional:
                made.add_argument(given, **family.positional[given])
            else:
                own = {"help": command.says[given]} if given in command.says else {}
                made.add_argument(f"--{given.removesuffix('-folder')}", **{**family.flags[given], **own})
        if command.presets:
            first = next(iter(command.presets))
            about = f"sizes and hyper-parameters to start from (default {first})"
            made.add_argument(f"--{command.choice}", choices=tuple(command.presets), default=first, help=about)
        finish(made)
        taken = {action.dest for action in made._actions} | command.hidden
        listed = [option for cls in command.options for option in describe(cls) if option["name"] not in taken]
        group = made.add_argument_group("hyper-parameters") if listed else None
        presets = command.presets or {"": command.defaults}
        for option in listed:
            add_option(group, option, {"default_preset": next(iter(presets)), "presets": presets})
        known[name], built[name] = [option["name"] for option in listed], made
    args, extra = parser.parse_known_args(argv)
    used = built[args.stage]
    if extra:
        used.error(_elsewhere(family, args.stage, extra) or complaint(extra, used, f"{family.name} {args.stage}"))
    flags = {flag: action.dest for action in used._actions for flag in action.option_strings}
    said = [word.partition("=")[0] for word in argv]
    args.explicit = {flags[word]: word for word in said if word in flags}
    args.hyper = {key: getattr(args, key) for key in known[args.stage] if hasattr(args, key)}
    args.command, args.function = family.name, family.commands[args.stage].function
    return args


def _elsewhere(family: Family, stage: str, extra: Sequence[str]) -> str:
    """What to say of a hyper-parameter that a command hides; empty if the first unknown word is none."""
    flag = next((word.partition("=")[0] for word in extra if word.startswith("--")), "")
    name = flag.removeprefix("--").replace("-", "_")
    if name not in family.commands[stage].hidden:
        return ""
    having = [
        other
        for other, command in family.commands.items()
        if name not in command.hidden
        and any(name == option["name"] for cls in command.options for option in describe(cls))
    ]
    return f"{family.name} {stage} has no option {flag}" + (f"; it is of {', '.join(having)}" if having else "")


def hyper_of(cls: type[Config], command: Command, given: Mapping[str, Any], preset: str | None = None) -> Any:
    """Hyper-parameters of a class: its defaults, those of a command or of its preset, and what was given."""
    defaults = command.presets[preset] if preset else command.defaults
    names = {option["name"] for option in describe(cls)}
    chosen = {name: tuple(value) if isinstance(value, list) else value for name, value in {**defaults, **given}.items()}
    return cls(**{name: value for name, value in chosen.items() if name in names})


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
            near = nearest(flag, options)
            return f"{name} has no option {flag}" + (f"; did you mean {near}?" if near else "")
    return f"unexpected {' '.join(extra)}"


_READERS = {"int": integer, "float": number, "str": str, "tuple": sizes, "numbers": numbers}
_METAVARS = {"int": "N", "float": "X", "str": "NAME", "tuple": "N,N", "numbers": "X[,X]"}

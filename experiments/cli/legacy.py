"""Command groups that still describe their flags in tables (`experiments.cli.family`)."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import importlib
from collections.abc import Sequence
from typing import Any, NoReturn

from experiments.cli.argument_types import positive
from experiments.cli.exit_codes import USER_ERROR
from experiments.cli.result import Result
from experiments.cli.stdout import StrayOutput

TABLES = {
    "sketch": "experiments.commands.sketch.sketch_words",
}


def applies(words: Sequence[str]) -> bool:
    """Whether a command belongs to a group without a listing of commands."""
    if not words or words[0] not in TABLES:
        return False
    return not hasattr(importlib.import_module(f"experiments.commands.{words[0]}"), "COMMANDS")


@dataclasses.dataclass(frozen=True)
class TableInvocation:
    """A parsed command line of such a group; `request` is a namespace."""

    name: tuple[str, ...]
    request: argparse.Namespace

    def __call__(self) -> Result:
        """Run the command."""
        module, _, function = self.request.function.partition(":")
        return getattr(importlib.import_module(module), function)(self.request)

    def __getattr__(self, name: str) -> Any:
        """Settings are attributes of the invocation too."""
        return getattr(self.request, name)


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(USER_ERROR, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def parse(words: Sequence[str]) -> TableInvocation:
    """Read a command line of such a group."""
    with contextlib.redirect_stdout(StrayOutput()):
        table = importlib.import_module(TABLES[words[0]])
    args = table.parse(list(words[1:]), Parser, _add_common)
    args.words = list(words)
    return TableInvocation((words[0], args.stage), args)


@dataclasses.dataclass(frozen=True)
class TableRequest:
    """Settings of a command of such a group, as words."""

    words: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class TableCommand:
    """A command line of such a group with settings of its experiment, which can be sent to another process."""

    words: tuple[str, ...]
    shared: Any

    def __call__(self) -> Result:
        """Run the command."""
        invocation = parse(self.words)
        args = invocation.request
        args.platform, args.devices = self.shared.machine.platform, self.shared.machine.devices
        args.json, args.debug = self.shared.output.json, self.shared.output.debug
        args.quiet = getattr(args, "quiet", False) or self.shared.quiet
        return invocation()


def bound(words: Sequence[str], shared: Any) -> TableCommand:
    """Return the command of such a group."""
    return TableCommand(tuple(words), shared)


def stages(group: str) -> list[str]:
    """Return the names of the commands of a group."""
    return list(importlib.import_module(TABLES[group]).COMMANDS)


def positional(group: str, stage: str) -> frozenset[str]:
    """Return the positional words of a command."""
    table = importlib.import_module(TABLES[group])
    return frozenset(table.COMMANDS[stage].given) & frozenset(table.POSITIONAL)


def _command(name: Sequence[str]) -> Any:
    return importlib.import_module(TABLES[name[0]]).COMMANDS[name[1]]


def resumable(name: Sequence[str]) -> bool:
    """Whether a command has a run that can be resumed."""
    return "resume" in _command(name).given


def artifact(name: Sequence[str]) -> str | None:
    """Return the file below its folder that a reference to a step without a run stands for."""
    return _command(name).leaves


def _device_count(text: str) -> int | None:
    return None if text == "auto" else positive(text)


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print a machine-readable summary on stdout")
    group = parser.add_argument_group("machine")
    group.add_argument(
        "--platform", choices=("cpu", "cuda", "tpu", "rocm"), help="where to compute (default: what JAX finds)"
    )
    group.add_argument(
        "--devices",
        type=_device_count,
        metavar="N|auto",
        help="devices to spread seeds over; on a CPU these are virtual ones (default: auto)",
    )
    group.add_argument(
        "--debug", action="store_true", help="show the full traceback of an error (or set JSAFE_DEBUG=1)"
    )

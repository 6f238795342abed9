"""The command line as a cyclopts application, built from the listings of `experiments.commands`.

A listing names each command, its module and its summary; the module is imported only when its command is chosen, so
`jsafe --help` needs none of them.
"""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import importlib
import inspect
import typing
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from typing import Any

from cyclopts import App, CycloptsError, MissingArgumentError, Parameter, UnusedCliTokensError
from cyclopts.help import DefaultFormatter

from experiments.cli.errors import UsageError
from experiments.cli.result import Result
from experiments.cli.stdout import StrayOutput

LISTING = "experiments.commands"
"""Package whose `COMMANDS` are the commands of `jsafe`."""


@dataclasses.dataclass(frozen=True)
class Command:
    """Entry of a listing.

    Attributes:
        module: module with the function `run(request) -> Result`.
        summary: one sentence.
        specialized: True if the module has `specialize(words)`, which returns the type of the request for these words;
            for commands whose flags depend on a positional word.
        epilogue: last lines of the help.
    """

    module: str
    summary: str
    specialized: bool = False
    epilogue: str = ""


@dataclasses.dataclass(frozen=True)
class Variant:
    """Form of a command for given words.

    Attributes:
        request: type of its settings.
        usage: usage line.
        help: text in place of the summary.
        words: words after the command that choose this form, for the hint at its help.
    """

    request: type
    usage: str | None = None
    help: str | None = None
    words: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class CommandGroup:
    """Entry of a listing for commands that share their first word.

    Attributes:
        package: package with a listing of its own, `COMMANDS`.
        summary: one sentence.
    """

    package: str
    summary: str


@dataclasses.dataclass(frozen=True)
class Invocation:
    """A parsed command line.

    Attributes:
        words: words after `jsafe`.
        name: words that name the command, for example `("rlhf", "sft")`.
        run: function of the command.
        request: its settings; None where the command line asks for help or the version.
    """

    words: tuple[str, ...]
    name: tuple[str, ...]
    run: Callable[[Any], Result]
    request: Any

    def __call__(self) -> Result:
        """Run the command; `current_words` returns its words meanwhile."""
        token = _words.set(self.words)
        try:
            return self.run(self.request)
        finally:
            _words.reset(token)


_words: contextvars.ContextVar[tuple[str, ...]] = contextvars.ContextVar("words", default=())


def current_words() -> tuple[str, ...]:
    """Return the command line of the command that runs, without `jsafe`; empty outside of commands."""
    return _words.get()


def version() -> str:
    """Return the version of the installed distribution."""
    try:
        return metadata.version("jsafe")
    except metadata.PackageNotFoundError:
        return "(not installed)"


def _shown_default(value: Any) -> str | None:
    """Return the default value for the help; None where there is none to show."""
    if isinstance(value, tuple):
        return ",".join(map(str, value)) or None
    return None if value is None else str(value)


def _help_formatter() -> DefaultFormatter:
    """Return the formatter of the help, which writes defaults as `(default X)`."""

    class HelpFormatter(DefaultFormatter):
        def __call__(self, console: Any, options: Any, panel: Any) -> None:
            entries = [_with_default(entry) for entry in panel.entries]
            super().__call__(console, options, panel.copy(entries=entries))

    return HelpFormatter()


def _with_default(entry: Any) -> Any:
    """Return an entry of the help with its default in the description."""
    text = getattr(entry.description, "primary_renderable", None)
    if entry.default is None or text is None:
        return entry
    return entry.copy(description=f"{str(text).rstrip('. ')} (default {entry.default}).", default=None)


def build_app(words: Sequence[str]) -> App:
    """Return the application; only a command that `words` choose may be imported."""
    app = App(
        name="jsafe",
        help="Safe reinforcement learning in JAX: training, evaluation and reports as compiled programs.",
        help_epilogue="Start with `jsafe demo`, or `jsafe train ppo_lag SafetyPointGoal1-v0 --seeds 4`.",
        help_format="plaintext",
        help_formatter=_help_formatter(),
        version=f"jsafe {version()}",
        default_parameter=Parameter(negative_iterable=(), allow_repeating=True, show_default=_shown_default),
    )
    _register(app, importlib.import_module(LISTING).COMMANDS, words)
    return app


def _register(app: App, commands: Mapping[str, Command | CommandGroup], words: Sequence[str]) -> None:
    """Add commands; the one that `words` begin with is imported, the others are only listed."""
    for name, entry in commands.items():
        chosen = words[:1] == [name]
        if isinstance(entry, CommandGroup):
            group = App(name=name, help=entry.summary, help_epilogue="")
            listed = getattr(importlib.import_module(entry.package), "COMMANDS", {}) if chosen else {}
            _register(group, listed, words[1:])
            app.command(group)
        else:
            function, variant = _function(entry, words[1:]) if chosen else (_listed_only, Variant(object))
            help = variant.help or entry.summary
            app.command(function, name=name, help=help, usage=variant.usage, help_epilogue=entry.epilogue)


def _listed_only() -> None:
    """Stand for a command that the words do not choose."""


def _function(entry: Command, words: Sequence[str]) -> tuple[Callable[..., Result], Variant]:
    """Return a function of the request, whose signature cyclopts reads, and the form of the command."""
    module = importlib.import_module(entry.module)
    variant: Variant = (
        module.specialize(list(words)) if entry.specialized else Variant(typing.get_type_hints(module.run)["request"])
    )
    request_type: Any = variant.request

    def command(request: Any) -> Result:
        return module.run(request)

    required = any(_is_required(field) for field in dataclasses.fields(request_type))
    default = inspect.Parameter.empty if required else request_type()
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    parameter = inspect.Parameter("request", kind, annotation=request_type, default=default)
    command.__annotations__ = {"request": request_type}
    command.__signature__ = inspect.Signature([parameter])  # type: ignore[attr-defined]
    return command, variant


def _is_required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def parse(words: Sequence[str]) -> Invocation:
    """Read a command line.

    Raises:
        UsageError: the words are not a command line of `jsafe`.
    """
    words = list(words)
    with contextlib.redirect_stdout(StrayOutput()):  # importing a command may print
        app = build_app(words)
        try:
            function, bound, _ = app.parse_args(words, exit_on_error=False, print_error=False)
        except CycloptsError as error:
            raise UsageError(_message(error), _prog(tuple(error.command_chain or ()), words)) from error
    name = app.parse_commands(words)[0]
    if "request" not in bound.signature.parameters:
        return Invocation(tuple(words), name, lambda _: function(*bound.args, **bound.kwargs), None)
    bound.apply_defaults()
    return Invocation(tuple(words), name, function, bound.arguments["request"])


def _prog(chain: tuple[str, ...], words: Sequence[str]) -> str:
    """Return the command whose `--help` shows the flags that these words may have."""
    if chain and tuple(words[: len(chain)]) == chain:
        entry = find_command(chain) if _is_command(chain) else None
        if entry is not None and entry.specialized:
            variant: Variant = importlib.import_module(entry.module).specialize(list(words[len(chain) :]))
            return " ".join(["jsafe", *chain, *variant.words])
    return " ".join(["jsafe", *chain])


def _is_command(chain: tuple[str, ...]) -> bool:
    entry = importlib.import_module(LISTING).COMMANDS[chain[0]]
    return isinstance(entry, Command) if len(chain) == 1 else chain[1] in find_group(chain[0])


def _missing(error: MissingArgumentError) -> str:
    """Return what is missing: the value of a flag, a flag, or a positional word by the name in the usage line."""
    argument = error.argument
    if argument is None:
        return str(error)
    flag = error.keyword or next((token.keyword for token in argument.tokens if token.keyword), None)
    if flag is not None:
        return f"{flag} needs a value"
    if argument.field_info.kind is argument.field_info.KEYWORD_ONLY:
        return f"{argument.name} is required"
    return f"{argument.name.strip('-').replace('-', '_').upper()} is required"


def _message(error: CycloptsError) -> str:
    if isinstance(error, MissingArgumentError):
        return _missing(error)
    if isinstance(error, UnusedCliTokensError):
        return f"unexpected {' '.join(error.unused_tokens or ())}"
    return str(error).partition(" Available commands:")[0]


def find_group(name: str) -> Mapping[str, Command]:
    """Return the listing of a group of commands."""
    return importlib.import_module(importlib.import_module(LISTING).COMMANDS[name].package).COMMANDS


def find_command(name: Sequence[str]) -> Command:
    """Return the entry of a command, for example of `("rlhf", "sft")`."""
    if len(name) == 1:
        return importlib.import_module(LISTING).COMMANDS[name[0]]
    return find_group(name[0])[name[1]]


@dataclasses.dataclass(frozen=True)
class BoundCommand:
    """A command with its request, which can be sent to another process.

    Attributes:
        name: words that name the command.
        request: its settings.
        words: command line that `current_words` returns while it runs.
    """

    name: tuple[str, ...]
    request: Any
    words: tuple[str, ...]

    def __call__(self) -> Result:
        """Run the command."""
        run = importlib.import_module(find_command(self.name).module).run
        return Invocation(self.words, self.name, run, self.request)()

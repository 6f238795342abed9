"""Errors that a user can correct, and their one-line messages."""

from __future__ import annotations

from collections.abc import Iterable

from experiments.cli.exit_codes import INTERNAL_ERROR, USER_ERROR

LIBRARIES = ("jsafe", "envs_mjx", "algorithms", "rlhf", "sketch")
"""Packages whose own exceptions are messages for the user."""


class CommandError(Exception):
    """A mistake the user can correct; the message is one line with the remedy."""


class UsageError(CommandError):
    """A command line that does not parse.

    Attributes:
        prog: The command, for example `jsafe eval`.
    """

    def __init__(self, message: str, prog: str):
        """Store the message and the command."""
        super().__init__(message)
        self.prog = prog


def unknown(kind: str, name: str, names: Iterable[str]) -> CommandError:
    """Return the error for a name that is not registered, with the nearest registered one.

    Args:
        kind: noun for the message, for example `environment`.
        name: the unknown name.
        names: registered names.
    """
    from jsafe.suggestions import nearest  # importing jsafe is slow: only where a name is unknown

    names = sorted(names)
    near = nearest(name, names)
    hint = f"did you mean {near!r}?" if near else f"known: {', '.join(names[:8])}" + ", ..." * (len(names) > 8)
    return CommandError(f"unknown {kind} {name!r}; {hint}")


def error_line(error: Exception) -> tuple[str, int]:
    """Return one line about an error, and the exit code for it."""
    message = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    line = " ".join(message.split()) or type(error).__name__
    if isinstance(error, UsageError):
        return f"{error.prog}: error: {line.removesuffix('.')} (see {error.prog} --help)", USER_ERROR
    ours = type(error).__module__.partition(".")[0] in LIBRARIES
    if ours or isinstance(error, CommandError | ValueError | LookupError | OSError):
        return f"jsafe: error: {line}", USER_ERROR
    return f"jsafe: error: {type(error).__name__}: {line[:500]} (--debug shows the traceback)", INTERNAL_ERROR

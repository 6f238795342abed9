"""The command `jsafe`: run one command, print its result, return an exit code.

JAX is imported by commands, not here, so `jsafe --help` answers at once and wrong flags are refused at once.
"""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
import warnings
from collections.abc import Sequence

from experiments.cli.app import parse
from experiments.cli.errors import error_line
from experiments.cli.exit_codes import INTERRUPTED, OK, USER_ERROR
from experiments.cli.format import to_json
from experiments.cli.result import Result
from experiments.cli.stdout import StrayOutput, note


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: words after `jsafe`; those of the process by default.

    Returns:
        Exit code: 0 on success, 2 for errors that the user can correct, 1 for other errors, 130 after Ctrl-C.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in words or os.environ.get("JSAFE_DEBUG", "") not in ("", "0")
    try:
        return _run(words)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else USER_ERROR
    except KeyboardInterrupt:
        note("jsafe: stopped")
        return INTERRUPTED
    except BrokenPipeError:
        # The reader (head, less) has gone; writing again at interpreter shutdown would only complain about it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return INTERRUPTED
    except Exception as error:
        if debug:
            traceback.print_exc()
        line, code = error_line(error)
        note(line)
        return code


def _run(words: list[str]) -> int:
    invocation = parse(words)
    if invocation.request is None:  # help or version
        invocation()
        return OK if {"--help", "-h", "--version"} & set(words) else USER_ERROR
    with contextlib.redirect_stdout(StrayOutput()), warnings.catch_warnings():
        warnings.showwarning = _show_warning
        result: Result = invocation()
    print(to_json(result.data) if invocation.request.output.json else result.text, flush=True)
    return result.exit_code


def _show_warning(message: Warning | str, *_: object) -> None:
    """Print a warning as one line, without the place in the code."""
    note(f"jsafe: warning: {message}")


if __name__ == "__main__":
    sys.exit(main())

"""Standard output and standard error while a command runs: stdout holds the result and nothing else."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator


def note(message: str) -> None:
    """Print a message for people on stderr."""
    print(message, file=sys.stderr, flush=True)


@contextlib.contextmanager
def output_of_libraries_on_stderr() -> Iterator[None]:
    """Redirect stdout to stderr below Python; gloo prints its connections there."""
    sys.stdout.flush()
    saved = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        os.dup2(saved, 1)
        os.close(saved)


class StrayOutput(io.TextIOBase):
    """Text stream that passes the output of libraries on to stderr.

    MuJoCo prints at every import that the optional Warp is not installed; those lines are dropped.
    """

    def __init__(self) -> None:
        """Start with an empty line."""
        self.line = ""

    def write(self, text: str) -> int:
        """Pass finished lines on."""
        *lines, self.line = (self.line + text).split("\n")
        for line in lines:
            if not line.startswith(("Failed to import warp", "Failed to import mujoco_warp")):
                note(line)
        return len(text)

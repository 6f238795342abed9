"""Where the output of libraries goes while a command works."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator

from experiments.cli.result import note


@contextlib.contextmanager
def output_of_libraries_on_stderr() -> Iterator[None]:
    """While entered, what is printed below Python goes to stderr: gloo says there to whom it is connected."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


class StrayOutput(io.TextIOBase):
    """Where libraries print while a command works: stderr, so that stdout holds the result and nothing else.

    MuJoCo prints that the optional Warp is not installed whenever it is imported; that is left out.
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

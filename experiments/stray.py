"""Where the output of libraries goes while a command works."""

from __future__ import annotations

import io

from experiments.outcome import note


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

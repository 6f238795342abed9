"""Results of commands. Imports nothing heavy."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from experiments.cli.errors import CommandError


@dataclasses.dataclass(frozen=True)
class Result:
    """Result of a command.

    Attributes:
        data: output of `--json`; plain Python or NumPy values, NaN becomes null.
        text: output for people.
        exit_code: 0 unless the command ran and its finding is a failure.
    """

    data: dict[str, Any]
    text: str
    exit_code: int = 0


def writable_folder(path: Path) -> Path:
    """Create a folder if necessary, and check that files can be written in it.

    Raises:
        CommandError: the folder cannot be created or written.
    """
    path = Path(path)
    probe = path / ".jsafe-write-test"
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe.write_text("ok", encoding="utf-8")
        probe.unlink()
    except OSError as error:
        raise CommandError(f"cannot write into folder {path}: {error.strerror or error}") from error
    return path

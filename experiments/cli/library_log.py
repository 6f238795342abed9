"""Progress messages of libraries on stderr."""

from __future__ import annotations

import logging

from experiments.cli.stdout import note


class _NoteHandler(logging.Handler):
    """Handler that prints messages as notes on stderr."""

    def emit(self, record: logging.LogRecord) -> None:
        note(record.getMessage())


def log_to_stderr(name: str) -> None:
    """Print the progress messages of a library on stderr, for example those of `rlhf`."""
    logger = logging.getLogger(name)
    if not any(isinstance(handler, _NoteHandler) for handler in logger.handlers):
        logger.addHandler(_NoteHandler())
        logger.setLevel(logging.INFO)
        logger.propagate = False

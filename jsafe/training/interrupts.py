"""Ending a run politely: the first signal asks, a later one ends the process."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)
SAME_REQUEST_SECONDS = 1.0
"""Signals this close together are one request: a terminal, `timeout` and cluster schedulers signal a process and its
group, so that one Ctrl-C may arrive twice."""


class Interrupts:
    """While entered, Ctrl-C and SIGTERM set `is_requested` and call `on_request`. A second request ends the process.

    Python handles a signal only between two of its own instructions, and an iteration is one long call. So
    `wait_for` makes that call on another thread and waits where signals are noticed. Off the main thread, where
    Python allows no handlers, nothing is changed.
    """

    def __init__(self, on_request: Callable[[], None]) -> None:
        self._on_request = on_request
        self._requested_at: float | None = None
        self._previous: dict[int, Any] = {}
        self._thread: ThreadPoolExecutor | None = None

    @property
    def is_requested(self) -> bool:
        """True if the run should end after this iteration."""
        return self._requested_at is not None

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            self._previous = {s: signal.signal(s, self._handle) for s in SIGNALS}
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="jsafe-step")
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
        if self._thread is not None:
            self._thread.shutdown(wait=False)

    def wait_for(self, function: Callable[..., Any], *args: Any) -> Any:
        """`function(*args)`, noticing signals while it runs."""
        if self._thread is None:
            return function(*args)
        return self._thread.submit(function, *args).result()

    def _handle(self, number: int, frame: object) -> None:
        now = time.monotonic()
        if self._requested_at is None:
            self._requested_at = now
            self._on_request()
        elif now - self._requested_at >= SAME_REQUEST_SECONDS:
            if hasattr(sys, "ps1") and number == signal.SIGINT:
                raise KeyboardInterrupt  # a notebook or shell lives on
            signal.signal(number, signal.SIG_DFL)  # elsewhere nothing may delay the end of the process
            os.kill(os.getpid(), number)

"""Ending a run politely: the first signal asks, the second one ends the process."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """While entered, Ctrl-C and SIGTERM set `asked` and call `on_ask`; a second one has its usual, immediate effect.

    Python handles a signal only between two of its own instructions, and an iteration is one long call. So
    `wait_for` makes that call on another thread and waits where signals are noticed. Off the main thread, where
    Python allows no handlers, nothing is changed.
    """

    def __init__(self, on_ask: Callable[[], None]) -> None:
        self.asked = False
        self._on_ask = on_ask
        self._previous: dict[int, Any] = {}
        self._thread: ThreadPoolExecutor | None = None

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
        self.asked = True
        # In a notebook or shell the session must live on; elsewhere nothing may delay the end of the process.
        ends_process = not hasattr(sys, "ps1") or number != signal.SIGINT
        for s in SIGNALS:
            signal.signal(s, signal.SIG_DFL if ends_process else signal.default_int_handler)
        self._on_ask()

"""The contract of callbacks of `jsafe.fit`, and two small ones: a plain function, a limit on time.

A callback has three hooks. `fit` calls those of all callbacks in one order: telemetry, progress, health check, the
caller's own, checkpoints, timing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from jsafe.population import Health
from jsafe.trainer import TrainState

if TYPE_CHECKING:
    from jsafe.training.session import Session


class Progressed(NamedTuple):
    """One call of the compiled step, which is one iteration or several.

    Attributes:
        iteration: finished iterations.
        state: the population's state after the call. The next call consumes it: copy the arrays to keep.
        history: metrics of each iteration of the call, name to `[iterations of the call, seeds]`.
        health: the same for the updates, `[iterations of the call, seeds]`.
    """

    iteration: int
    state: TrainState
    history: dict[str, np.ndarray]
    health: Health

    @property
    def latest(self) -> dict[str, np.ndarray]:
        """Metrics of the last iteration, name to `[seeds]`."""
        return {name: values[-1] for name, values in self.history.items()}

    @property
    def first_iteration(self) -> int:
        """Number of the first iteration of this call, counted from 1."""
        return self.iteration - len(self.health.skipped) + 1


class Callback:
    """Base class of callbacks; every hook may be left out."""

    def on_start(self, session: Session) -> None:
        """Prepare for training. The step is compiled, no iteration of this call of `fit` has run yet."""

    def on_iteration(self, session: Session, progressed: Progressed) -> bool | None:
        """Handle one call of the step. A true value ends the run after this iteration."""

    def on_end(self, session: Session, state: TrainState | None) -> None:
        """Release resources. `state` is None if training ended with an error."""


IterationFunction = Callable[[int, TrainState, dict[str, np.ndarray]], Any]
"""`(iteration, state, metrics [seeds]) -> stop?`, the short form of a callback. A true value ends the run."""


class FunctionCallback(Callback):
    """A callback made of one function (`IterationFunction`)."""

    def __init__(self, function: IterationFunction) -> None:
        self.function = function

    def on_iteration(self, session: Session, progressed: Progressed) -> bool:
        """Call the function with the metrics of the last iteration."""
        return bool(self.function(progressed.iteration, progressed.state, progressed.latest))


class TimeLimit(Callback):
    """Stop at the iteration whose end is nearest to a limit on time.

    The clock starts at the end of the first call, so compilation does not count.

    Args:
        seconds: limit on the training time of this call of `fit`.

    Raises:
        ValueError: the limit is negative.
    """

    def __init__(self, seconds: float) -> None:
        if not seconds >= 0:
            raise ValueError(f"the time limit must be at least 0 seconds, got {seconds}")
        self.seconds = seconds
        self._ends: list[float] = []

    def on_start(self, session: Session) -> None:
        """Forget the times of an earlier run."""
        self._ends = []

    def on_iteration(self, session: Session, progressed: Progressed) -> bool:
        """Compare the time used with the limit."""
        self._ends.append(time.monotonic())
        latest = self._ends[-1] - self._ends[-2] if len(self._ends) > 1 else 0.0
        return self._ends[-1] - self._ends[0] + latest / 2 >= self.seconds


def as_callback(callback: Callback | IterationFunction) -> Callback:
    """Return a callback object for an object or a plain function.

    Raises:
        TypeError: neither of them.
    """
    if isinstance(callback, Callback):
        return callback
    if isinstance(callback, type):
        raise TypeError(f"a callback must be an instance, got the class {callback.__name__}")
    if callable(callback):
        return FunctionCallback(callback)
    raise TypeError(f"a callback must be a jsafe.Callback or a function, got {type(callback).__name__}")

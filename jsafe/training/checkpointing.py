"""Checkpoints of a session: when to save, and how several processes save together."""

from __future__ import annotations

import time

from jsafe import multihost
from jsafe.population import keys_for
from jsafe.runs import resume
from jsafe.runs.checkpoint import Checkpoints
from jsafe.trainer import TrainState
from jsafe.training.callbacks import Callback, Progressed
from jsafe.training.session import Session

SAVE_SHARE = 20
"""A periodic checkpoint waits at least this many times the time that a save takes."""


class Checkpointing(Callback):
    """Save the training state every few iterations, every few seconds, and at the end.

    Args:
        checkpoints: checkpoints to save to.
        every: iterations between checkpoints, None for no such rhythm.
        seconds: time between checkpoints.
    """

    def __init__(self, checkpoints: Checkpoints, every: int | None, seconds: float) -> None:
        self.checkpoints, self.every, self.seconds = checkpoints, every, seconds
        self._frozen_digest: str | None = None
        self._saved_at, self._save_seconds, self._last_saved = 0.0, 0.0, -1

    def restore(self, session: Session) -> tuple[TrainState, int] | None:
        """Return the newest good state and its iteration, None if there is no checkpoint."""
        plan = session.plan
        if plan.record is None or not self.checkpoints.iterations():
            return None
        restored = resume.restore(self.checkpoints, session.population, keys_for(plan.seed, plan.seeds), plan.hyper)
        self._last_saved, self._frozen_digest = restored.iteration, restored.extra.get("frozen")
        if restored.damaged:
            plan.notes.append(f"damaged checkpoints of iterations {list(restored.damaged)} were passed over")
        return restored.state, restored.iteration

    def begin(self, state: TrainState) -> None:
        """Take the digest of the frozen parameters of a fresh state."""
        self._frozen_digest = resume.digest(state.frozen)

    def on_start(self, session: Session) -> None:
        """Start the clock of periodic checkpoints."""
        self._saved_at = time.monotonic()

    def on_iteration(self, session: Session, progressed: Progressed) -> None:
        """Save if a checkpoint is due; all processes save at the same iterations."""
        waited = time.monotonic() - self._saved_at
        first, last = progressed.first_iteration, progressed.iteration
        is_multiple = bool(self.every) and last // self.every > (first - 1) // self.every
        (due,) = session.agree(waited >= max(self.seconds, SAVE_SHARE * self._save_seconds) or is_multiple)
        if due:
            self._save(session, progressed.state)

    def on_end(self, session: Session, state: TrainState | None) -> None:
        """Save the last state of a run that ended without an error."""
        if state is not None:
            self._save(session, state)

    def _save(self, session: Session, state: TrainState) -> None:
        if session.iteration == self._last_saved:
            return
        began = time.monotonic()
        for flush in session.flushed_at_checkpoints:
            flush()
        if session.is_shared:
            state = multihost.on_host(state.replace(frozen=()), keep=multihost.is_first())
        if not session.is_shared or multihost.is_first():
            resume.save(self.checkpoints, session.iteration, state, self._frozen_digest)
        self._saved_at = time.monotonic()
        self._save_seconds, self._last_saved = self._saved_at - began, session.iteration
        session.update_record("running")

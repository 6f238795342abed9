"""Health check of training: stops runs that cannot recover, explains values that are not finite."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from jsafe.trainer import TrainState
from jsafe.training.callbacks import Callback, Progressed
from jsafe.training.session import Session

PATIENCE = 3
"""Consecutive iterations in which a seed may lose all its updates; one bad batch does not end a run."""


class TrainingError(RuntimeError):
    """Training cannot continue; the message names the metric, the seed and the iteration."""


class HealthCheck(Callback):
    """Check metrics and updates of every iteration.

    Raises:
        TrainingError: an action is not finite, a seed loses all its updates in `PATIENCE` consecutive iterations, or a
            run ends without any update of a seed.
    """

    def __init__(self) -> None:
        self._lost_in_a_row: np.ndarray | None = None
        self._iterations = 0
        self._explained: set[tuple[str, int]] = set()

    def on_iteration(self, session: Session, progressed: Progressed) -> None:
        """Check each iteration of the call."""
        for index in range(len(progressed.health.skipped)):
            iteration = progressed.first_iteration + index
            metrics = {name: values[index] for name, values in progressed.history.items()}
            check_actions(metrics, iteration)
            skipped, moved = (np.asarray(values[index]) for values in progressed.health)
            self._check_updates(skipped, moved, iteration)
            self._explain(session, metrics, iteration)

    def on_end(self, session: Session, state: TrainState | None) -> None:
        """Check that a whole run has at least one update."""
        if state is None or self._lost_in_a_row is None or session.iteration != self._iterations:
            return
        for seed in np.flatnonzero(self._lost_in_a_row == self._iterations):
            raise TrainingError(
                f"no update of seed {seed} succeeded in {self._iterations} iterations: every loss or gradient was not "
                "finite. Lower the learning rate, or check the data for extreme values and lengths"
            )

    def _check_updates(self, skipped: np.ndarray, moved: np.ndarray, iteration: int) -> None:
        lost = (skipped > 0) & ~moved
        before = np.zeros(len(lost), int) if self._lost_in_a_row is None else self._lost_in_a_row
        self._lost_in_a_row = np.where(lost, before + 1, 0)
        self._iterations += 1
        for seed in np.flatnonzero(self._lost_in_a_row >= PATIENCE):
            raise TrainingError(
                f"every update of seed {seed} was not finite and was skipped in iterations {iteration - PATIENCE + 1} "
                f"to {iteration} (skipped: {int(skipped[seed])} in the last one): the loss has diverged. Lower the "
                "learning rate, or check rewards, costs and observations for values that are not finite"
            )

    def _explain(self, session: Session, metrics: Mapping[str, np.ndarray], iteration: int) -> None:
        """Report the first value of each metric and seed that is not finite."""
        seeds = len(next(iter(metrics.values())))
        episodes = np.asarray(metrics.get("episodes", np.zeros(seeds)))
        unknown_at_first = {spec.name for spec in session.trainer.info.metrics if spec.may_be_nan}
        for name, values in metrics.items():
            bad = ~np.isfinite(np.asarray(values, np.float64).reshape(seeds, -1)).all(axis=1)
            if name in unknown_at_first:
                bad &= episodes > 0
            for seed in np.flatnonzero(bad):
                if (name, int(seed)) not in self._explained:
                    self._explained.add((name, int(seed)))
                    session.note(f"{name} of seed {seed} is {values[seed]} in iteration {iteration} (reported once)")


def check_actions(metrics: Mapping[str, np.ndarray], iteration: int) -> None:
    """Refuse actions that are not finite.

    Args:
        metrics: name to `[seeds, ...]`; `bad_action` counts actions that are not finite.
        iteration: for the message.

    Raises:
        TrainingError: any count is positive.
    """
    for name, values in metrics.items():
        if name == "bad_action" or name.endswith(("/bad_action", ".bad_action")):
            for seed in np.flatnonzero(np.asarray(values).reshape(len(values), -1).max(axis=1) > 0):
                raise TrainingError(
                    f"{name} is {values[seed]} for seed {seed} in iteration {iteration}: the policy returned an action "
                    "that is not finite; earlier checkpoints are kept"
                )

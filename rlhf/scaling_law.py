"""Scaling law of loss against compute, `L(C) = a C^b + L_inf`, fitted to small runs and extrapolated to large ones.

Source: Baichuan 2 (arXiv 2309.10305), section 2.7, which fits seven sizes and predicts the losses of 7B and 13B.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.optimize import least_squares

from rlhf.models.architecture import PUBLISHED, ModelConfig, parameter_count

PETA = 1e15

COLUMNS = ("run", "petaflops", "loss")
"""Columns of a table of curves."""


class ScalingLaw(NamedTuple):
    """A fitted law with the standard errors of its parameters.

    Attributes:
        factor: a, in units of the loss at one PFLOP.
        exponent: b, below 0.
        floor: L_inf, the irreducible loss, at least 0. If it is smaller than its error, the law holds only within the
            range of the runs.
        deviation: `[3]`, standard errors of the logarithm of a, of b, and of L_inf.
        covariance: `[3, 3]`, of the same.
    """

    factor: float
    exponent: float
    floor: float
    deviation: np.ndarray
    covariance: np.ndarray

    def predict(self, petaflops: float | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the loss at a training compute in PFLOP, and its standard error from that of the fit."""
        compute = np.asarray(petaflops, float)
        part = self.factor * compute**self.exponent
        slope = np.stack([part, part * np.log(compute), np.ones_like(compute)], axis=-1)
        return part + self.floor, np.sqrt(np.einsum("...i,ij,...j->...", slope, self.covariance, slope))


def training_petaflops(config: ModelConfig, tokens: float) -> float:
    """Return the training compute in PFLOP: six operations for each token and each parameter outside the embedding.

    The output layer counts, even if it is tied to the embedding.
    """
    count = parameter_count(config)
    return 6.0 * (count["layers"] + count["norm"] + config.vocab_size * config.hidden_size) * tokens / PETA


def fit(petaflops: np.ndarray, losses: np.ndarray) -> ScalingLaw:
    """Fit `L(C) = a C^b + L_inf` by least squares.

    Args:
        petaflops: `[N]`, training compute of N points, above 0.
        losses: `[N]`, losses at these points.

    Raises:
        ValueError: fewer than four points, a compute that is not above 0, or losses that do not fall with compute.
    """
    compute, loss = np.asarray(petaflops, float), np.asarray(losses, float)
    if compute.shape != loss.shape or len(compute) < 4:
        raise ValueError(f"a fit of three parameters needs at least four points, got {compute.shape} and {loss.shape}")
    if not (np.all(np.isfinite(loss)) and np.all(compute > 0)):
        raise ValueError("compute must be above 0 and losses finite")
    order = np.argsort(compute)
    if loss[order[0]] <= loss[order[-1]]:
        raise ValueError("the loss must fall with compute, got a largest run that is no better than the smallest")
    span = loss.max() - loss.min()

    def residual(free: np.ndarray) -> np.ndarray:
        log_factor, exponent, floor = free
        return np.exp(log_factor + exponent * np.log(compute)) + floor - loss

    starts = []
    for share in (0.05, 0.5, 2.0):
        floor = max(loss.min() - share * span, 1e-3 * loss.min())
        slope, intercept = np.polyfit(np.log(compute), np.log(loss - floor), 1)
        # A cross-entropy is never negative, but a distant floor with an exponent near 0 fits short runs equally well.
        least = (-np.inf, -np.inf, 0.0)
        start = [intercept, slope, floor]
        starts.append(least_squares(residual, start, x_scale="jac", bounds=(least, np.inf), max_nfev=5000))
    best = min(starts, key=lambda solution: solution.cost)
    noise = 2 * best.cost / max(len(compute) - 3, 1)
    covariance = np.linalg.pinv(best.jac.T @ best.jac) * noise
    log_factor, exponent, floor = best.x
    deviation = np.sqrt(np.clip(np.diag(covariance), 0.0, None))
    return ScalingLaw(float(np.exp(log_factor)), float(exponent), float(floor), deviation, covariance)


class Curve(NamedTuple):
    """Held-out losses of one run in the course of its training.

    Attributes:
        name: name of the run.
        petaflops: `[N]`, training compute, increasing.
        losses: `[N]`, losses per token.
        texts: bytes and tokens of the held-out texts, None if unknown.
    """

    name: str
    petaflops: np.ndarray
    losses: np.ndarray
    texts: tuple[int, int] | None = None


def read_run(path: Path) -> Curve:
    """Read the curve of a run of `jsafe rlhf pretrain`.

    Raises:
        ValueError: the run has no evaluations.
    """
    file = path / "dynamics.json"
    points = json.loads(file.read_text(encoding="utf-8"))["points"] if file.is_file() else []
    points = [point for point in points if "cross_entropy" in point]
    if not points:
        raise ValueError(f"{path} has no losses. Run jsafe rlhf pretrain --eval-data FILE --save-every TOKENS")
    compute, losses = (np.array([point[key] for point in points], float) for key in ("petaflops", "cross_entropy"))
    return Curve(path.name, compute, losses, (points[0]["bytes"], points[0]["predicted"]))


def read_table(path: Path) -> list[Curve]:
    """Read the curves of a CSV file with the columns run, petaflops and loss.

    Raises:
        ValueError: a column is missing, or a cell is no number; the message names the row.
    """
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    if not rows or not set(COLUMNS) <= set(rows[0]):
        raise ValueError(f"{path} must have the columns {', '.join(COLUMNS)}")
    points: dict[str, list[tuple[float, float]]] = {}
    for number, row in enumerate(rows):
        try:
            points.setdefault(row["run"], []).append((float(row["petaflops"]), float(row["loss"])))
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path}, row {number}: {error}") from error
    return [Curve(name, *np.array(sorted(pairs)).T) for name, pairs in points.items()]


def read_curves(paths: Sequence[Path]) -> list[Curve]:
    """Read runs and tables, sorted by their largest compute.

    Raises:
        ValueError: the runs have different held-out texts or tokens, so that their losses are not comparable.
    """
    curves = [curve for path in paths for curve in (read_table(path) if path.is_file() else [read_run(path)])]
    if len({curve.texts for curve in curves}) > 1:
        raise ValueError("all runs must have the same held-out texts and the same tokens, got different ones")
    return sorted(curves, key=lambda curve: curve.petaflops[-1])


def select_points(curves: Sequence[Curve], which: str) -> tuple[np.ndarray, np.ndarray]:
    """Return compute and losses to fit.

    Args:
        curves: all runs.
        which: `"last"` point of each run, `"all"` points, or the `"frontier"` of points that no cheaper one beats.
    """
    if which == "last":
        return np.array([c.petaflops[-1] for c in curves]), np.array([c.losses[-1] for c in curves])
    compute, losses = (np.concatenate(x) for x in ([c.petaflops for c in curves], [c.losses for c in curves]))
    order = np.lexsort((losses, compute))
    compute, losses = compute[order], losses[order]
    if which == "all":
        return compute, losses
    best = np.minimum.accumulate(losses)
    on_frontier = losses < np.concatenate([[np.inf], best[:-1]])
    return compute[on_frontier], losses[on_frontier]


def parse_compute(text: str) -> float:
    """Return PFLOP from a number, or from `SIZE:TOKENS` with a published size.

    Raises:
        ValueError: the text is neither.
    """
    name, _, tokens = text.partition(":")
    try:
        return training_petaflops(PUBLISHED[name], float(tokens)) if tokens else float(name)
    except (KeyError, ValueError):
        raise ValueError(f"compute must be PFLOP or SIZE:TOKENS with a published size, got {text!r}") from None


class Fits(NamedTuple):
    """Two fits of the same runs.

    Attributes:
        law: fitted to all runs.
        points: number of its points.
        trial: fitted without the held-out runs.
        trial_points: number of its points.
        held_out: the held-out runs, those of most compute.
    """

    law: ScalingLaw
    points: int
    trial: ScalingLaw
    trial_points: int
    held_out: list[Curve]


def fit_curves(curves: Sequence[Curve], hold_out: int = 1, which: str = "frontier") -> Fits:
    """Fit the law to all runs, and without the runs of most compute, to test the extrapolation.

    Args:
        curves: runs sorted by their largest compute.
        hold_out: number of held-out runs.
        which: see `select_points`.

    Raises:
        ValueError: no run is left to fit.
    """
    if hold_out >= len(curves):
        raise ValueError(f"hold_out must be less than the {len(curves)} runs, got {hold_out}")
    count = len(curves) - hold_out
    trial_points, points = select_points(curves[:count], which), select_points(curves, which)
    trial = fit(*trial_points)
    return Fits(fit(*points), len(points[0]), trial, len(trial_points[0]), list(curves[count:]))

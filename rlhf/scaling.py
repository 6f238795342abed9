"""Loss against compute: `L(C) = a C^b + L_inf`, fitted to small runs and read off for a large one.

Source: Baichuan 2 (arXiv 2309.10305), section 2.7, which fits seven sizes and predicts the losses of 7B and 13B.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.optimize import least_squares

from rlhf.models.architecture import ModelConfig, parameter_count

PETA = 1e15


class ScalingLaw(NamedTuple):
    """A fitted law and how well it is known.

    Attributes:
        factor: a, in units of the loss at one PFLOP.
        exponent: b, below 0.
        floor: L_inf, what no compute removes, at least 0; where it is less than its error, the runs say no more than
            that the loss falls, and the law holds only between them.
        deviation: `[3]`, standard errors of the logarithm of a, of b, and of L_inf.
        covariance: `[3, 3]`, of the same.
    """

    factor: float
    exponent: float
    floor: float
    deviation: np.ndarray
    covariance: np.ndarray

    def predict(self, petaflops: float | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The loss at a training compute in PFLOP, and its standard error from that of the fit."""
        compute = np.asarray(petaflops, float)
        part = self.factor * compute**self.exponent
        slope = np.stack([part, part * np.log(compute), np.ones_like(compute)], axis=-1)
        return part + self.floor, np.sqrt(np.einsum("...i,ij,...j->...", slope, self.covariance, slope))


def training_petaflops(config: ModelConfig, tokens: float) -> float:
    """Compute of a training in PFLOP: six operations for each token and each parameter outside the embedding.

    The output layer counts, also where it is the embedding.
    """
    count = parameter_count(config)
    return 6.0 * (count["layers"] + count["norm"] + config.vocab_size * config.hidden_size) * tokens / PETA


def fit(petaflops: np.ndarray, losses: np.ndarray) -> ScalingLaw:
    """Least squares of `L(C) = a C^b + L_inf`.

    Args:
        petaflops: `[N]`, training compute of N runs, above 0.
        losses: `[N]`, where they ended.

    Raises:
        ValueError: fewer than four runs, a compute that is not above 0, or losses that do not fall with compute.
    """
    compute, loss = np.asarray(petaflops, float), np.asarray(losses, float)
    if compute.shape != loss.shape or len(compute) < 4:
        raise ValueError(f"a law of three numbers needs at least four runs, got {compute.shape} and {loss.shape}")
    if not (np.all(np.isfinite(loss)) and np.all(compute > 0)):
        raise ValueError("compute must be above 0 and losses finite")
    order = np.argsort(compute)
    if loss[order[0]] <= loss[order[-1]]:
        raise ValueError("the largest run does not have a lower loss than the smallest: there is nothing to fit")
    span = loss.max() - loss.min()

    def residual(free: np.ndarray) -> np.ndarray:
        log_factor, exponent, floor = free
        return np.exp(log_factor + exponent * np.log(compute)) + floor - loss

    starts = []
    for share in (0.05, 0.5, 2.0):
        floor = max(loss.min() - share * span, 1e-3 * loss.min())
        slope, intercept = np.polyfit(np.log(compute), np.log(loss - floor), 1)
        # A cross-entropy is never negative, but short runs are fitted as well by a far floor and an exponent near 0.
        least = (-np.inf, -np.inf, 0.0)
        start = [intercept, slope, floor]
        starts.append(least_squares(residual, start, x_scale="jac", bounds=(least, np.inf), max_nfev=5000))
    best = min(starts, key=lambda found: found.cost)
    noise = 2 * best.cost / max(len(compute) - 3, 1)
    covariance = np.linalg.pinv(best.jac.T @ best.jac) * noise
    log_factor, exponent, floor = best.x
    deviation = np.sqrt(np.clip(np.diag(covariance), 0.0, None))
    return ScalingLaw(float(np.exp(log_factor)), float(exponent), float(floor), deviation, covariance)

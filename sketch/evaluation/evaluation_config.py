"""Settings of a comparison of systems; imports no JAX."""

from __future__ import annotations

from jsafe.config import Config, hyperparameters, option


@hyperparameters
class EvaluationConfig(Config):
    """Settings of a comparison."""

    target: str = option("class of the drawings", default="cat")
    baseline: str = option("system that the others are compared with (default: the first)", default="")
    confident: float = option("probability above which a judge is confident", default=0.9, above=0, high=1)
    neighbours: int = option("neighbours of precision, recall, density and coverage", default=5, low=1)
    splits: int = option("random halves of the humans over which set measures are averaged", default=5, low=1)
    copy_quantile: float = option(
        "fraction of humans closer to a training drawing than the copy threshold", default=0.01, above=0
    )
    disorder_quantile: float = option("fraction of human strokes below the disorder threshold", default=0.99, above=0,
                                      high=1)  # fmt: skip
    disorder_drawings: int = option(
        "drawings of each seed and setting whose strokes are checked for disorder", default=200, low=1
    )
    resamples: int = option("resamples of each bootstrap", default=10_000, low=1)
    level: float = option("level of the confidence intervals", default=0.95, above=0, high=0.9999)
    at_once: int = option("drawings rendered together; accelerators need more than one", default=1, low=1)
    seed: int = option("seed of the random halves and the bootstrap", default=0, low=0)

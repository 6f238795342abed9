"""Settings of the choice among candidate strokes; imports no JAX."""

from __future__ import annotations

from jsafe.config import Config, hyperparameters, option


@hyperparameters
class CandidateConfig(Config):
    """Choice of the next stroke among candidates."""

    candidates: int = option("candidates sampled for each stroke", default=8, low=1)
    ink: float = option("weight of the mean log likelihood of a pixel under the predicted ink", default=10.0, low=0)
    start: float = option("weight of the log probability of the start cell", default=1.0, low=0)
    likelihood: float = option("weight of the mean log likelihood of a row under the decoder", default=1.0, low=0)
    temperature: float = option("temperature of the choice; 0 is greedy", default=0.0, low=0)
    points: int = option("rows after which a stroke is compared before it is finished", default=48, low=1)


NO_CANDIDATES = CandidateConfig(candidates=1, ink=0.0, start=0.0, likelihood=0.0)
"""One candidate for each stroke, which leaves no choice."""

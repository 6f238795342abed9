"""Compiled sampler of a model: plain or guided, with a choice among candidates, and best of n."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from sketch.models import sketch_rnn
from sketch.models.discriminator import TrainedDiscriminator, recognisability
from sketch.models.guided_sketch_rnn import GuidedSketchRNN
from sketch.sampling.best_of import BestOfN, best_of
from sketch.sampling.guided_sampling import GuidedSampler, sample_guided
from sketch.sampling.sample import Samples
from sketch.sampling.stroke_candidates import CandidateConfig


class SamplingConfig(NamedTuple):
    """Settings of a sampler.

    Attributes:
        length: largest number of rows of a drawing.
        convention: meaning of the temperature, one of `sketch.sampling.sample.CONVENTIONS`.
        candidates: choice of strokes among candidates; None to take strokes as they are sampled.
        critic: discriminator that selects the best of n drawings; None to take the first.
        best_of: number of drawings that the critic selects from.
    """

    length: int
    convention: str = "paper"
    candidates: CandidateConfig | None = None
    critic: TrainedDiscriminator | None = None
    best_of: int = 1


def make_sampler(generator: GuidedSketchRNN, config: SamplingConfig) -> Callable[..., BestOfN]:
    """Return a compiled sampler `(key, temperature [B], prefix=, prefix_lengths=, z=) -> BestOfN`.

    Rows are in the unit of the model. Without latent vectors, a model with an encoder encodes the prefix.
    """
    weights = generator.model.params, None if generator.predictor is None else generator.predictor.params
    score: Any = None if config.critic is None else recognisability(config.critic.size)
    # Without use for the predictor, the sampling loop is that of the plain model.
    uses_predictor = generator.guided or config.candidates is not None

    @jax.jit
    def draw(weights: Any, critic: Any, key: jax.Array, temperature: jax.Array, inputs: dict[str, Any]) -> BestOfN:
        model = generator.model._replace(params=weights[0])
        predictor = None
        if uses_predictor and generator.predictor is not None:
            predictor = generator.predictor._replace(params=weights[1])
        key, latent_key = jax.random.split(key)
        if model.config.conditional and "prefix" in inputs:
            lengths = inputs["prefix_lengths"]
            encoded = sketch_rnn.encode(model.config, model.params, inputs["prefix"], lengths).mean
            random = jax.random.normal(latent_key, encoded.shape)
            inputs = {"z": jnp.where(lengths[:, None] > 0, encoded, random), **inputs}
        candidates = config.candidates if predictor else None
        sampler = GuidedSampler(model, predictor, config.length, candidates, config.convention)

        def once(key: jax.Array) -> Samples:
            return sample_guided(sampler, key, temperature, **inputs)

        if score is not None:
            return best_of(lambda drawings: score(critic, drawings), once, config.best_of)(key)
        unknown = jnp.full(len(temperature), jnp.nan)
        return BestOfN(once(key), unknown, unknown, unknown, jnp.zeros(len(temperature), jnp.int32))

    critic = None if config.critic is None else config.critic.params
    return lambda key, temperature, **inputs: draw(weights, critic, key, jnp.asarray(temperature), inputs)

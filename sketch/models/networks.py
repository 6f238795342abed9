"""The models of drawings as pairs of pure functions, `Network(init, apply)`, like every network of jsafe.

    network = networks.sketch_rnn(PRESETS["small"].architecture)
    params = network.init(jax.random.key(0))
    following = jax.jit(network.apply)(params, pad(drawings))

The stages train these networks and `sketch.models.checkpoint` stores them. Randomness, dropout and drawing are in the
modules they come from.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jsafe.networks.mlp import Network
from sketch.data.strokes import Drawings, batch_to_stroke5
from sketch.judges import classifier as judges
from sketch.judges.classifier import Judge, JudgeSize, prepared
from sketch.models import discriminator as critics
from sketch.models import predictor as predictors
from sketch.models import sketch_rnn as generators
from sketch.models.discriminator import DiscriminatorSize
from sketch.models.mixture import Mixture
from sketch.models.predictor import Predictor, PredictorSize, Suggestion
from sketch.models.sketch_rnn import Architecture


def sketch_rnn(config: Architecture) -> Network:
    """Drawings in the model's unit to the distribution of each row given those before it, a `Mixture` of `[B, N]`.

    A model with an encoder reads the whole drawing first and takes the mean of what it may be. A guided decoder also
    needs what a predictor says of each row, `apply(params, drawings, extra [B, N, extra_inputs])`.
    """

    def apply(params: Any, drawings: Drawings, extra: jax.Array | None = None) -> Mixture:
        rows = batch_to_stroke5(drawings)
        z = generators.encode(config, params, rows, jnp.asarray(drawings.lengths)).mean if config.conditional else None
        return generators.decode(config, params, rows, z, extra)

    return Network(partial(generators.init, config), apply)


def predictor(size: PredictorSize) -> Network:
    """Canvas and last stroke, ink `[B, side, side]` each, to the expected `Suggestion` of the next stroke."""

    def apply(params: Any, seen: tuple[jax.Array, jax.Array]) -> Suggestion:
        return Predictor(size).apply(params, *seen, method="expected")  # type: ignore[return-value]

    return Network(partial(predictors.init, size), apply)


def discriminator(size: DiscriminatorSize) -> Network:
    """Ink `[B, side, side]` from 0 to 1 to log odds `[B]` that the thing is recognised."""
    return Network(partial(critics.init, size), partial(critics.logits, size))


def judge(size: JudgeSize, classes: int) -> Network:
    """Bitmaps `[B, 28, 28]`, or drawings where it is recurrent, to logits `[B, classes]`."""

    def apply(params: Any, inputs: Any) -> jax.Array:
        return Judge(size, classes).apply(params, prepared(inputs))[0]  # type: ignore[index]

    return Network(partial(judges.init, size, classes), apply)

"""Models of drawings as pairs of pure functions, `Network(init, apply)`, like every network of jsafe.

    network = networks.sketch_rnn(PRESETS["small"].architecture)
    params = network.init(jax.random.key(0))
    following = jax.jit(network.apply)(params, pad(drawings))

The training stages train these networks, and `sketch.models.checkpoint` stores them. Dropout and sampling are in the
modules of the models.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jsafe.networks.mlp import Network
from sketch.data.strokes import Drawings, batch_to_stroke5
from sketch.models import classifier as classifiers
from sketch.models import discriminator as critics
from sketch.models import predictor as predictors
from sketch.models import sketch_rnn as generators
from sketch.models.classifier import ClassifierConfig, ClassifierNetwork, preprocess
from sketch.models.discriminator import DiscriminatorConfig
from sketch.models.mixture import Mixture
from sketch.models.predictor import Predictor, PredictorConfig, Suggestion
from sketch.models.sketch_rnn import SketchRNNConfig


def sketch_rnn(config: SketchRNNConfig) -> Network:
    """Network from drawings in the unit of the model to the distribution `[B, N]` of each row, a `Mixture`.

    A model with an encoder encodes the whole drawing and uses the mean of the posterior. A guided decoder also takes
    its extra inputs, `apply(params, drawings, extra [B, N, extra_inputs])`.
    """

    def apply(params: Any, drawings: Drawings, extra: jax.Array | None = None) -> Mixture:
        rows = batch_to_stroke5(drawings)
        z = generators.encode(config, params, rows, jnp.asarray(drawings.lengths)).mean if config.conditional else None
        return generators.decode(config, params, rows, z, extra)

    return Network(partial(generators.init, config), apply)


def predictor(size: PredictorConfig) -> Network:
    """Network from canvas and last stroke, ink `[B, side, side]` each, to the expected `Suggestion`."""

    def apply(params: Any, images: tuple[jax.Array, jax.Array]) -> Suggestion:
        return Predictor(size).apply(params, *images, method="expected")  # type: ignore[return-value]

    return Network(partial(predictors.init, size), apply)


def discriminator(size: DiscriminatorConfig) -> Network:
    """Network from ink `[B, side, side]` between 0 and 1 to log odds `[B]` of recognisability."""
    return Network(partial(critics.init, size), partial(critics.logits, size))


def classifier(size: ClassifierConfig, classes: int) -> Network:
    """Network from bitmaps `[B, 28, 28]`, or from drawings if it is recurrent, to logits `[B, classes]`."""

    def apply(params: Any, inputs: Any) -> jax.Array:
        return ClassifierNetwork(size, classes).apply(params, preprocess(inputs))[0]  # type: ignore[index]

    return Network(partial(classifiers.init, size, classes), apply)

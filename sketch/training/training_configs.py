"""Hyper-parameters and presets of the training stages; imports no JAX."""

from __future__ import annotations

from typing import NamedTuple

from jsafe.config import Config, hyperparameters, option
from sketch.data.dataset_config import BITMAP_SIDE
from sketch.models.model_configs import ClassifierConfig, DiscriminatorConfig, SketchRNNConfig

CONVENTION_NAMES = ("paper", "javascript", "python")
"""Meanings of a temperature, see `sketch.sampling.sample.CONVENTIONS`."""


@hyperparameters
class TrainingConfig(Config):
    """Hyper-parameters of supervised training; the defaults are Sketch-RNN's published ones."""

    iterations: int = option("iterations of a complete run", default=200, low=1)
    updates: int = option(
        "optimiser updates per iteration, each iteration followed by a validation", default=100, low=1
    )
    batch_size: int = option("drawings per update, sampled without replacement", default=100, low=1)
    learning_rate: float = option("initial learning rate of Adam", default=1e-3, traced=True, above=0)
    last_learning_rate: float = option("final learning rate", default=1e-5, low=0)
    learning_rate_decay: float = option(
        "decay of the learning rate towards its final value, per update", default=0.9999, above=0, high=1
    )
    gradient_clip: float = option("bound on the absolute value of each gradient entry", default=1.0, above=0)


@hyperparameters
class SketchRNNTrainingConfig(TrainingConfig):
    """Hyper-parameters of Sketch-RNN training; the defaults are those of the published code."""

    kl_weight: float = option("final weight of the KL divergence", default=0.5, traced=True, low=0)
    kl_decay: float = option(
        "decay of the weight of the KL divergence towards its final value, per update",
        default=0.99995,
        above=0,
        high=1,
    )
    kl_floor: float = option("floor of the KL divergence, below which it has no gradient", default=0.2, low=0)
    keep: float = option("keep probability of recurrent dropout", default=0.9, above=0, high=1)
    stretch: float = option("largest relative change of width and height", default=0.15, low=0, high=0.99)
    point_drop: float = option("probability of dropping a point inside a stroke", default=0.1, low=0, high=1)
    flip: float = option("probability of a horizontal flip", default=0.0, low=0, high=1)
    turn: float = option("largest rotation in degrees", default=0.0, low=0, high=180)
    density_floor: bool = option("add 1e-6 to densities, as the published code does", default=False)


class Preset(NamedTuple):
    """Sizes of a Sketch-RNN and hyper-parameters of its training."""

    architecture: SketchRNNConfig
    options: SketchRNNTrainingConfig


SKETCH_RNN_PRESETS = {
    "code": Preset(SketchRNNConfig(), SketchRNNTrainingConfig()),
    "paper": Preset(
        SketchRNNConfig(encoder_size=512, decoder_cell="hyper", decoder_size=2048),
        SketchRNNTrainingConfig(learning_rate=1e-4, kl_weight=1.0, kl_decay=0.99999, stretch=0.1, iterations=1000),
    ),
    "small": Preset(
        SketchRNNConfig(conditional=False, decoder_cell="layer_norm", decoder_size=192),
        SketchRNNTrainingConfig(
            iterations=40,
            updates=50,
            batch_size=64,
            learning_rate=2e-3,
            learning_rate_decay=0.999,
            keep=0.8,
            point_drop=0.15,
            flip=0.5,
            turn=10.0,
        ),
    ),
}
"""Published defaults of the code and of the paper, and a size for a small data set on a CPU."""


@hyperparameters
class GuidedTrainingConfig(SketchRNNTrainingConfig):
    """Hyper-parameters of guided training."""

    copies: int = option("augmented copies of each drawing with precomputed embeddings", default=8, low=1)
    copies_seed: int = option("seed of the augmented copies", default=0, low=0)
    supervision: float = option("weight of the image loss of strokes; 0 disables it", default=0.1, low=0)


class GuidedPreset(NamedTuple):
    """Sizes of a guided decoder and hyper-parameters of its training; the predictor sets the extra inputs."""

    architecture: SketchRNNConfig
    options: GuidedTrainingConfig


GUIDED_PRESETS = {
    name: GuidedPreset(architecture, GuidedTrainingConfig(**options.config()))
    for name, (architecture, options) in SKETCH_RNN_PRESETS.items()
}
"""Presets of Sketch-RNN, with the defaults of guided training."""


@hyperparameters
class PredictorTrainingConfig(TrainingConfig):
    """Hyper-parameters of predictor training."""

    ink_weight: float = option("weight of a pixel with ink relative to a blank pixel", default=8.0, above=0)
    kl_weight: float = option("weight of the KL divergence", default=0.1, low=0)
    free_bits: float = option("free bits per latent dimension, in nats", default=0.1, low=0)
    flip: float = option("probability of a horizontal flip", default=0.5, low=0, high=1)


@hyperparameters
class DiscriminatorTrainingConfig(TrainingConfig):
    """Hyper-parameters of discriminator training."""

    iterations: int = option("iterations of a complete run", default=40, low=1)
    updates: int = option("optimiser updates per iteration, each iteration followed by a validation", default=50, low=1)
    batch_size: int = option("positives per update, with as many negatives", default=64, low=2)
    learning_rate_decay: float = option(
        "decay of the learning rate towards its final value, per update", default=0.999, above=0, high=1
    )
    label_smoothing: float = option("distance of the targets from 0 and 1", default=0.1, low=0, high=0.49)
    dropout: float = option("dropout probability of a feature", default=0.3, low=0, high=0.99)
    flip: float = option("probability of a horizontal flip", default=0.5, low=0, high=1)
    at_once: int = option(
        "drawings rendered together; 1 fits the cache of a CPU, accelerators need more", default=1, low=1
    )


class DiscriminatorPreset(NamedTuple):
    """Sizes of a discriminator and hyper-parameters of its training."""

    size: DiscriminatorConfig
    options: DiscriminatorTrainingConfig


DISCRIMINATOR_PRESETS = {
    "full": DiscriminatorPreset(DiscriminatorConfig(), DiscriminatorTrainingConfig()),
    "small": DiscriminatorPreset(
        DiscriminatorConfig(side=32, channels=(16, 32, 64)),
        DiscriminatorTrainingConfig(iterations=20, learning_rate=2e-3, learning_rate_decay=0.997),
    ),
}
"""The described size, and a size that a CPU trains in minutes."""


@hyperparameters
class ClassifierTrainingConfig(TrainingConfig):
    """Hyper-parameters of classifier training."""

    iterations: int = option("iterations of a complete run", default=8, low=1)
    updates: int = option(
        "optimiser updates per iteration, each iteration followed by a validation", default=166, low=1
    )
    batch_size: int = option("drawings per update, sampled without replacement", default=128, low=1)
    learning_rate: float = option("initial learning rate of Adam", default=2e-3, traced=True, above=0)
    learning_rate_decay: float = option(
        "decay of the learning rate towards its final value, per update", default=0.998, above=0, high=1
    )
    dropout: float = option("dropout probability of a feature", default=0.3, low=0, high=0.99)
    flip: float = option("probability of a horizontal flip", default=0.5, low=0, high=1)
    shift: int = option("maximum random translation of a bitmap, in pixels", default=2, low=0, high=BITMAP_SIDE)
    stretch: float = option("largest relative change of width and height of vectors", default=0.1, low=0)


CLASSIFIER_PRESETS: dict[str, tuple[ClassifierConfig, ClassifierTrainingConfig]] = {
    "plain": (ClassifierConfig(), ClassifierTrainingConfig()),
    "residual": (ClassifierConfig(architecture="residual", channels=(32, 64, 128)), ClassifierTrainingConfig()),
    "recurrent": (
        ClassifierConfig(architecture="recurrent", units=96),
        ClassifierTrainingConfig(updates=125, batch_size=64, learning_rate_decay=0.997),
    ),
}
"""The three architectures, for four epochs of 42,500 bitmaps, or of 16,000 drawings for the recurrent one."""


@hyperparameters
class ReinforceConfig(TrainingConfig):
    """Hyper-parameters of reinforcement."""

    iterations: int = option("iterations of a complete run", default=40, low=1)
    updates: int = option("optimiser updates per iteration", default=25, low=1)
    batch_size: int = option("drawings sampled per update", default=128, low=2)
    learning_rate: float = option("initial learning rate of Adam", default=1e-4, traced=True, above=0)
    temperature: float = option("sampling temperature", default=0.65, above=0)
    convention: str = option("meaning of the temperature", default="paper", choices=CONVENTION_NAMES)
    kl_weight: float = option("weight of the KL divergence from the initial generator", default=0.2, traced=True, low=0)
    entropy_floor: float = option("floor of the mean pen entropy of a row, in nats", default=0.1, low=0)
    entropy_weight: float = option("weight of the pen entropy below the floor", default=1.0, low=0)
    likelihood_weight: float = option("weight of the likelihood loss on people's drawings", default=0.0, low=0)


REINFORCE_PRESETS = {
    "paper": ReinforceConfig(),
    "small": ReinforceConfig(iterations=10, updates=10, batch_size=64, learning_rate=3e-4),
}
"""A thousand updates, in the described range, and a size for a CPU."""

"""Sizes of the models of drawings; imports no JAX."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jsafe.config import Config, hyperparameters, option

if TYPE_CHECKING:
    from sketch.models.rnn_cells import Cell

CELL_NAMES = ("lstm", "layer_norm", "hyper")
"""Published names of the recurrent cells, see `sketch.models.rnn_cells`."""

BITMAPS, VECTORS = "bitmaps", "vectors"
"""Kinds of inputs of a classifier."""


@hyperparameters
class SketchRNNConfig(Config):
    """Sizes of a Sketch-RNN; the defaults are those of the published code."""

    conditional: bool = option("encode drawings to a latent vector", default=True)
    encoder_cell: str = option("recurrent cell of the bidirectional encoder", default="lstm", choices=CELL_NAMES)
    encoder_size: int = option("encoder units in each direction", default=256, low=1)
    decoder_cell: str = option("recurrent cell of the decoder", default="lstm", choices=CELL_NAMES)
    decoder_size: int = option("decoder units", default=512, low=1)
    latent_size: int = option("length of the latent vector", default=128, low=1)
    mixtures: int = option("components of the mixture of an offset", default=20, low=1)
    extra_inputs: int = option(
        "extra inputs of the decoder at each step, in addition to the last row", default=0, low=0
    )

    @property
    def encoder(self) -> Cell:
        """Recurrent cell of the encoder."""
        from sketch.models import rnn_cells

        return rnn_cells.make(self.encoder_cell, self.encoder_size)

    @property
    def decoder(self) -> Cell:
        """Recurrent cell of the decoder."""
        from sketch.models import rnn_cells

        return rnn_cells.make(self.decoder_cell, self.decoder_size)

    @property
    def plain_inputs(self) -> int:
        """Number of decoder inputs without the extra ones: a row and the latent vector."""
        return 5 + (self.latent_size if self.conditional else 0)


@hyperparameters
class PredictorConfig(Config):
    """Sizes of a predictor."""

    side: int = option("pixels of one side of the images; a multiple of 2 to the number of channels", default=64, low=4)
    channels: tuple[int, ...] = option(
        "channels of the convolutions; each convolution halves the image", default=(32, 64, 128, 256)
    )
    features: int = option("length of the canvas features", default=256, low=1)
    latent_size: int = option("length of the latent vector", default=16, low=1)
    embedding_size: int = option("length of the embedding that a guided decoder receives", default=64, low=1)
    strokes: int = option("largest number of strokes of a drawing that are rendered", default=32, low=1)

    def __post_init__(self) -> None:
        """Check each option, and that every convolution can halve the image."""
        super().__post_init__()
        if not self.channels or min(self.channels) < 1 or self.side % 2 ** len(self.channels):
            raise ValueError(f"side {self.side} must be a multiple of 2 to the number of channels {self.channels}")


PREDICTOR_SMALL = PredictorConfig(side=32, channels=(16, 32, 64, 128), features=128, embedding_size=32)
"""Sizes for a small data set on a CPU."""


@hyperparameters
class DiscriminatorConfig(Config):
    """Sizes of a discriminator."""

    side: int = option("pixels of one side of the image; a multiple of 2 to the number of channels", default=64, low=4)
    channels: tuple[int, ...] = option(
        "channels of the convolutions; each convolution halves the image", default=(32, 64, 128, 256)
    )
    spectral_norm: float = option("largest singular value of each layer", default=2.0, above=0)
    power_iterations: int = option("power iterations for the largest singular value of each layer", default=8, low=1)

    def __post_init__(self) -> None:
        """Check each option, and that every convolution can halve the image."""
        super().__post_init__()
        if not self.channels or min(self.channels) < 1 or self.side % 2 ** len(self.channels):
            raise ValueError(f"side {self.side} must be a multiple of 2 to the number of channels {self.channels}")


@hyperparameters
class ClassifierConfig(Config):
    """Sizes of a classifier."""

    architecture: str = option("network architecture", default="plain", choices=("plain", "residual", "recurrent"))
    channels: tuple[int, ...] = option("channels of the convolutions (plain and residual)", default=(24, 48, 96))
    units: int = option("units of each direction (recurrent)", default=128, low=1)
    features: int = option("length of the feature vector before the output layer", default=128, low=1)

    def __post_init__(self) -> None:
        """Check each option, and that there are convolutions."""
        super().__post_init__()
        if not self.channels or min(self.channels) < 1:
            raise ValueError(f"channels must be positive numbers, got {list(self.channels)}")

    @property
    def input_kind(self) -> str:
        """`bitmaps` or `vectors`."""
        return VECTORS if self.architecture == "recurrent" else BITMAPS

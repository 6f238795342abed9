"""Predictor of the next stroke from the canvas: its start, its end and its ink.

A conditional variational autoencoder (Sohn, Lee and Yan 2015): a latent vector selects one of the strokes that may
follow. Only the idea of the paper (Pang et al. 2020) is public; the sizes are this project's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sketch import raster
from sketch.data.strokes import Drawings, stroke_count, stroke_numbers
from sketch.models import next_stroke_data
from sketch.models.matmul_conv import Conv
from sketch.models.model_configs import PredictorConfig
from sketch.models.next_stroke_data import NextStroke
from sketch.models.sketch_rnn import Latent


class Suggestion(NamedTuple):
    """Prediction of the next stroke.

    Attributes:
        ink: `[B, side, side]` logits of the next stroke's ink.
        start: `[B, (side / 2)^2]` logits of the grid cell in which it starts.
        end: `[B, (side / 2)^2]` logits of the grid cell in which it ends.
        box: `[B, 4]`, see `NextStroke`.
        log_length: `[B]`, see `NextStroke`.
        over: `[B]` logits of the end of the drawing.
        embedding: `[B, embedding_size]` between -1 and 1.
    """

    ink: Float[Array, "batch side side"]
    start: Float[Array, "batch cells"]
    end: Float[Array, "batch cells"]
    box: Float[Array, "batch 4"]
    log_length: Float[Array, " batch"]
    over: Float[Array, " batch"]
    embedding: Float[Array, "batch embedding"]


class ImageEncoder(nn.Module):
    """Encoder of images `[B, side, side, channels]`: convolutions of stride two and a dense layer."""

    channels: Sequence[int]
    features: int

    @nn.compact
    def __call__(self, image: jax.Array) -> jax.Array:
        """Return features `[B, features]`; two channels with pixel coordinates are appended to the image."""
        ramp = jnp.linspace(-1.0, 1.0, image.shape[1])
        places = jnp.stack(jnp.meshgrid(ramp, ramp), axis=-1)
        x = jnp.concatenate([image, jnp.broadcast_to(places, (*image.shape[:-1], 2))], axis=-1)
        for width in self.channels:
            x = Conv(width, (3, 3), strides=2)(x)
            x = nn.elu(nn.GroupNorm(num_groups=min(8, width) if width % 8 == 0 else 1)(x))
        return nn.elu(nn.Dense(self.features)(x.reshape(len(x), -1)))


def doubled(image: Float[Array, "batch side side channels"]) -> jax.Array:
    """Double the side of images by turning four channels of a pixel into four pixels (Shi et al. 2016).

    After a convolution it replaces a transposed convolution, which is slow on a CPU.
    """
    batch, height, width, channels = image.shape
    parts = image.reshape(batch, height, width, 2, 2, channels // 4)
    return jnp.moveaxis(parts, 3, 2).reshape(batch, 2 * height, 2 * width, channels // 4)


class Predictor(nn.Module):
    """The network; `__call__` is for training, `prior` and `suggest` for sampling.

    Attributes:
        size: its sizes.
    """

    size: PredictorConfig

    def setup(self) -> None:
        """Create the layers."""
        size = self.size
        self.eye = ImageEncoder(size.channels, size.features)
        self.next_eye = ImageEncoder(size.channels, size.features)
        self.prior_head, self.posterior_head = nn.Dense(2 * size.latent_size), nn.Dense(2 * size.latent_size)
        cells = (size.side // 2) ** 2
        self.mix = nn.Dense(size.features)
        self.heads = {"start": nn.Dense(cells), "end": nn.Dense(cells), "box": nn.Dense(4)}
        self.log_length, self.over, self.embed = nn.Dense(1), nn.Dense(1), nn.Dense(size.embedding_size)
        self.base = size.side // 2 ** len(size.channels)
        self.seed = nn.Dense(self.base**2 * size.channels[-1])
        widths = (*reversed(size.channels[:-1]), max(size.channels[0] // 2, 1))
        self.grow = [Conv(4 * width, (3, 3)) for width in widths]
        self.ink = Conv(1, (3, 3))

    def look(self, canvas: jax.Array, last: jax.Array) -> jax.Array:
        """Return canvas features `[B, features]`."""
        return self.eye(jnp.stack([canvas, last], axis=-1))

    def prior(self, canvas_features: jax.Array) -> Latent:
        """Return the prior of the latent vector given the canvas."""
        return Latent(*jnp.split(self.prior_head(canvas_features), 2, axis=-1))

    def posterior(self, canvas_features: jax.Array, following: jax.Array) -> Latent:
        """Return the posterior of the latent vector given the canvas and the true next stroke."""
        both = jnp.concatenate([canvas_features, self.next_eye(following[..., None])], axis=-1)
        return Latent(*jnp.split(self.posterior_head(both), 2, axis=-1))

    def suggest(self, canvas_features: jax.Array, latent: jax.Array) -> Suggestion:
        """Decode a latent vector to a next stroke."""
        x = nn.elu(self.mix(jnp.concatenate([canvas_features, latent], axis=-1)))
        image = nn.elu(self.seed(x)).reshape(len(x), self.base, self.base, -1)
        for layer in self.grow:
            image = nn.elu(doubled(layer(image)))
        heads = {name: layer(x) for name, layer in self.heads.items()}
        over = self.over(nn.elu(canvas_features))[..., 0]  # the end of the drawing depends on the canvas alone
        return Suggestion(
            self.ink(image)[..., 0], heads["start"], heads["end"], heads["box"], self.log_length(x)[..., 0], over,
            jnp.tanh(self.embed(x)),
        )  # fmt: skip

    def __call__(self, example: NextStroke, key: jax.Array) -> tuple[Suggestion, Latent, Latent]:
        """Return the reconstructed next stroke, the posterior and the prior."""
        canvas_features = self.look(example.canvas, example.last)
        prior, posterior = self.prior(canvas_features), self.posterior(canvas_features, example.next)
        return self.suggest(canvas_features, posterior.sample(key)), posterior, prior

    def expected(self, canvas: jax.Array, last: jax.Array) -> Suggestion:
        """Return the prediction at the mean of the prior."""
        canvas_features = self.look(canvas, last)
        return self.suggest(canvas_features, self.prior(canvas_features).mean)

    def likely(self, canvas: jax.Array, last: jax.Array, key: jax.Array) -> Suggestion:
        """Return the prediction for a sample of the prior."""
        canvas_features = self.look(canvas, last)
        return self.suggest(canvas_features, self.prior(canvas_features).sample(key))


class TrainedPredictor(NamedTuple):
    """A trained predictor.

    Attributes:
        size: its sizes.
        params: its parameters.
    """

    size: PredictorConfig
    params: Any


def init(size: PredictorConfig, key: jax.Array) -> Any:
    """Return initial parameters."""
    blank = jnp.zeros((1, size.side, size.side))
    return Predictor(size).init(key, NextStroke(blank, blank, blank, *[jnp.zeros(1)] * 5), key)


def deterministic(trained: TrainedPredictor) -> TrainedPredictor:
    """Return a predictor without noise, whose latent vector always is the mean of the prior."""
    params = {**trained.params, "params": dict(trained.params["params"])}
    head = params["params"]["prior_head"]
    kernel, bias = np.array(head["kernel"]), np.array(head["bias"])
    deviations = slice(trained.size.latent_size, None)
    kernel[:, deviations], bias[deviations] = 0.0, NEGLIGIBLE
    params["params"]["prior_head"] = {"kernel": kernel, "bias": bias}
    return trained._replace(params=params)


NEGLIGIBLE = -80.0
"""Logarithm of a negligible variance."""


Suggest = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]
"""`(canvas [B, side, side], last [B, side, side], strokes finished []) -> embedding [B, embedding_size]`."""


def guidance_size(size: PredictorConfig) -> int:
    """Number of extra inputs of a guided decoder: the pen position and the embedding."""
    return 2 + size.embedding_size


def embeddings(size: PredictorConfig, suggest: Suggest, drawings: Drawings) -> Float[Array, "batch canvases embedding"]:
    """Embed the canvas before the first stroke of framed drawings and after each stroke.

    Embeddings behind the largest stroke count of the batch are 0, without a call of the network. The network is most of
    the cost, so batches of drawings with similar stroke counts are cheapest. There is no gradient.

    Args:
        size: sizes of the predictor.
        suggest: function that embeds one canvas of each drawing.
        drawings: framed drawings.
    """
    places = raster.framed_places(drawings)
    images = raster.stroke_images(drawings, size.strokes, next_stroke_data.view(size.side), places=places)
    canvases = next_stroke_data.canvases(images)
    last = jnp.concatenate([jnp.zeros_like(images[:, :1]), images], axis=1)
    most = jnp.minimum(jnp.max(stroke_count(drawings)), size.strokes)

    def add(number: jax.Array, embedded: jax.Array) -> jax.Array:
        return embedded.at[:, number].set(suggest(canvases[:, number], last[:, number], number))

    return jax.lax.fori_loop(0, most + 1, add, jnp.zeros((*canvases.shape[:2], size.embedding_size)))


def guidance_inputs(
    size: PredictorConfig, drawings: Drawings, embedding: Float[Array, "batch canvases embedding"]
) -> Float[Array, "batch time guidance"]:
    """Return the extra inputs of a decoder before each row: the pen position and the canvas embedding."""
    finished = jnp.minimum(stroke_numbers(drawings), size.strokes)
    current = jnp.take_along_axis(embedding, finished[..., None], axis=1)
    pen = jnp.pad(raster.framed_places(drawings)[:, :-1] - raster.BOX / 2, ((0, 0), (1, 0), (0, 0)))
    return jnp.concatenate([pen / (raster.BOX / 2), current], axis=-1)


def guidance(size: PredictorConfig, suggest: Suggest, drawings: Drawings) -> Float[Array, "batch time guidance"]:
    """Compute the extra inputs of a decoder from framed drawings; see `embeddings`."""
    return guidance_inputs(size, drawings, embeddings(size, suggest, drawings))

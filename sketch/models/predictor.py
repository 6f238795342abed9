"""A network that looks at a canvas and suggests the next stroke: where it begins and ends, and what it looks like.

A variational autoencoder of the next stroke given the canvas (Sohn, Lee and Yan 2015): many strokes may come next, and
a latent vector says which. Of the paper (Pang et al. 2020) only the idea is known; the sizes are this project's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jsafe.config import Hyper, hyperparameters, option
from sketch import raster
from sketch.data import augment, next_stroke_data, strokes
from sketch.data.next_stroke_data import Moment
from sketch.data.strokes import Drawings
from sketch.models.matmul_conv import Conv
from sketch.models.sketch_rnn import Latent
from sketch.training.drawing_trainer import Judgement, Problem, TrainingOptions, descent_trainer
from sketch.training.stages import Stage


@hyperparameters
class PredictorSize(Hyper):
    """Sizes of a predictor."""

    side: int = option("pixels of the images it looks at, a multiple of 2 to the number of channels", default=64, low=4)
    channels: tuple[int, ...] = option(
        "of its convolutions, each of which halves the image", default=(32, 64, 128, 256)
    )
    features: int = option("numbers that say what is on the canvas", default=256, low=1)
    latent_size: int = option("numbers that say which of the likely strokes comes", default=16, low=1)
    embedding_size: int = option("numbers that a decoder is told", default=64, low=1)
    strokes: int = option("strokes of a drawing that are looked at", default=32, low=1)

    def __post_init__(self) -> None:
        """Check each option, and that the image can be halved as often as there are convolutions."""
        super().__post_init__()
        if not self.channels or min(self.channels) < 1 or self.side % 2 ** len(self.channels):
            raise ValueError(f"side {self.side} must be a multiple of 2 to the number of channels {self.channels}")


PREDICTOR_SMALL = PredictorSize(side=32, channels=(16, 32, 64, 128), features=128, embedding_size=32)
"""A size for few drawings on a CPU."""


@hyperparameters
class PredictorOptions(TrainingOptions):
    """Hyper-parameters of its training."""

    ink_weight: float = option("weight of a pixel with ink beside one without", default=8.0, above=0)
    kl_weight: float = option("of the divergence", default=0.1, low=0)
    free_bits: float = option("divergence of an entry of the latent vector that costs nothing more", default=0.1, low=0)
    flip: float = option("probability that left and right are swapped", default=0.5, low=0, high=1)


class Suggestion(NamedTuple):
    """What may come next.

    Attributes:
        ink: `[B, side, side]` logits of the next stroke's ink.
        start: `[B, (side / 2)^2]` logits of the cell in which it begins.
        end: the same for its end.
        box: `[B, 4]`, see `Moment`.
        log_length: `[B]`.
        over: `[B]` logit of the drawing being over.
        embedding: `[B, embedding_size]` within -1 and 1.
    """

    ink: Float[Array, "batch side side"]
    start: Float[Array, "batch cells"]
    end: Float[Array, "batch cells"]
    box: Float[Array, "batch 4"]
    log_length: Float[Array, " batch"]
    over: Float[Array, " batch"]
    embedding: Float[Array, "batch embedding"]


class Eye(nn.Module):
    """Convolutions of stride two that end in a vector; what it sees is `[B, side, side, channels]`."""

    channels: Sequence[int]
    features: int

    @nn.compact
    def __call__(self, image: jax.Array) -> jax.Array:
        """Features `[B, features]`; two channels with the coordinates of each pixel are added."""
        ramp = jnp.linspace(-1.0, 1.0, image.shape[1])
        places = jnp.stack(jnp.meshgrid(ramp, ramp), axis=-1)
        x = jnp.concatenate([image, jnp.broadcast_to(places, (*image.shape[:-1], 2))], axis=-1)
        for width in self.channels:
            x = Conv(width, (3, 3), strides=2)(x)
            x = nn.elu(nn.GroupNorm(num_groups=min(8, width) if width % 8 == 0 else 1)(x))
        return nn.elu(nn.Dense(self.features)(x.reshape(len(x), -1)))


def doubled(image: Float[Array, "batch side side channels"]) -> jax.Array:
    """Images of twice the side and a quarter of the channels: four channels of a pixel become four pixels.

    After a convolution this is what a transposed one does (Shi et al. 2016), without the slow path of these on a CPU.
    """
    batch, height, width, channels = image.shape
    parts = image.reshape(batch, height, width, 2, 2, channels // 4)
    return jnp.moveaxis(parts, 3, 2).reshape(batch, 2 * height, 2 * width, channels // 4)


class Predictor(nn.Module):
    """The network; `__call__` is for training, `prior` and `suggest` for drawing.

    Attributes:
        size: its sizes.
    """

    size: PredictorSize

    def setup(self) -> None:
        """Name the parts."""
        size = self.size
        self.eye = Eye(size.channels, size.features)
        self.next_eye = Eye(size.channels, size.features)
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
        """What is on the canvas, `[B, features]`."""
        return self.eye(jnp.stack([canvas, last], axis=-1))

    def prior(self, seen: jax.Array) -> Latent:
        """Which strokes may come."""
        return Latent(*jnp.split(self.prior_head(seen), 2, axis=-1))

    def posterior(self, seen: jax.Array, following: jax.Array) -> Latent:
        """Which stroke came."""
        both = jnp.concatenate([seen, self.next_eye(following[..., None])], axis=-1)
        return Latent(*jnp.split(self.posterior_head(both), 2, axis=-1))

    def suggest(self, seen: jax.Array, latent: jax.Array) -> Suggestion:
        """The stroke that a latent vector stands for."""
        x = nn.elu(self.mix(jnp.concatenate([seen, latent], axis=-1)))
        image = nn.elu(self.seed(x)).reshape(len(x), self.base, self.base, -1)
        for layer in self.grow:
            image = nn.elu(doubled(layer(image)))
        heads = {name: layer(x) for name, layer in self.heads.items()}
        over = self.over(nn.elu(seen))[..., 0]  # whether the drawing is over shows on the canvas alone
        return Suggestion(
            self.ink(image)[..., 0], heads["start"], heads["end"], heads["box"], self.log_length(x)[..., 0], over,
            jnp.tanh(self.embed(x)),
        )  # fmt: skip

    def __call__(self, moment: Moment, key: jax.Array) -> tuple[Suggestion, Latent, Latent]:
        """The suggestion for what came, its posterior and its prior."""
        seen = self.look(moment.canvas, moment.last)
        prior, posterior = self.prior(seen), self.posterior(seen, moment.next)
        return self.suggest(seen, posterior.sample(key)), posterior, prior

    def expected(self, canvas: jax.Array, last: jax.Array) -> Suggestion:
        """The suggestion of the mean of the prior."""
        seen = self.look(canvas, last)
        return self.suggest(seen, self.prior(seen).mean)

    def likely(self, canvas: jax.Array, last: jax.Array, key: jax.Array) -> Suggestion:
        """A suggestion drawn from the prior."""
        seen = self.look(canvas, last)
        return self.suggest(seen, self.prior(seen).sample(key))


def blurred(images: Float[Array, "batch side side"]) -> jax.Array:
    """Images blurred by a normal distribution of one pixel."""
    kernel = jnp.exp(-0.5 * jnp.arange(-2.0, 3.0) ** 2)
    kernel = kernel / jnp.sum(kernel)
    for axis in (1, 2):
        pad = [(2, 2) if a == axis else (0, 0) for a in range(3)]
        size, wide = images.shape[axis], jnp.pad(images, pad)
        parts = (jax.lax.slice_in_dim(wide, i, i + size, axis=axis) for i in range(5))
        images = sum(k * part for k, part in zip(kernel, parts, strict=True))  # type: ignore[assignment]
    return images


def moment_loss(
    suggestion: Suggestion, posterior: Latent, prior: Latent, moment: Moment, options: PredictorOptions
) -> Judgement:
    """How far suggestions are from what came; where the drawing is over only that counts."""
    real = (~moment.over).astype(jnp.float32)
    count = jnp.maximum(jnp.sum(real), 1.0)

    def mean(each: jax.Array) -> jax.Array:
        return jnp.sum(each * real) / count

    target = blurred(moment.next)
    log_on, log_off = jax.nn.log_sigmoid(suggestion.ink), jax.nn.log_sigmoid(-suggestion.ink)
    ink = -jnp.mean(options.ink_weight * target * log_on + (1.0 - target) * log_off, axis=(1, 2))
    share = jax.nn.sigmoid(suggestion.ink)
    overlap = jnp.sum(share * target, axis=(1, 2)) + 1.0
    dice = 1.0 - 2.0 * overlap / (jnp.sum(share, axis=(1, 2)) + jnp.sum(target, axis=(1, 2)) + 2.0)

    def crossed(logits: jax.Array, wanted: jax.Array) -> jax.Array:
        return -jnp.take_along_axis(jax.nn.log_softmax(logits), wanted[:, None], axis=1)[:, 0]

    start, end = mean(crossed(suggestion.start, moment.start)), mean(crossed(suggestion.end, moment.end))
    box = mean(jnp.sum(jnp.abs(suggestion.box - moment.box), -1) + jnp.abs(suggestion.log_length - moment.log_length))
    over = moment.over.astype(jnp.float32)
    stop = -jnp.mean(over * jax.nn.log_sigmoid(suggestion.over) + (1 - over) * jax.nn.log_sigmoid(-suggestion.over))
    ratio = posterior.log_variance - prior.log_variance
    gap = (posterior.mean - prior.mean) ** 2 * jnp.exp(-prior.log_variance)
    each = 0.5 * (jnp.exp(ratio) + gap - 1.0 - ratio)
    kl = jnp.sum(jnp.maximum(jnp.sum(each * real[:, None], axis=0) / count, options.free_bits))
    total = mean(ink + dice) + 0.5 * start + 0.25 * end + 0.5 * box + stop + options.kl_weight * kl
    found = {"ink": mean(ink), "dice": mean(dice), "start": start, "end": end, "box": box, "stop": stop, "kl": kl}
    return Judgement(total, found)


class TrainedPredictor(NamedTuple):
    """A trained predictor.

    Attributes:
        size: its sizes.
        params: its parameters.
    """

    size: PredictorSize
    params: Any


def init(size: PredictorSize, key: jax.Array) -> Any:
    """Parameters of a predictor that has learned nothing."""
    blank = jnp.zeros((1, size.side, size.side))
    return Predictor(size).init(key, Moment(blank, blank, blank, *[jnp.zeros(1)] * 5), key)


def certain(trained: TrainedPredictor) -> TrainedPredictor:
    """The same without chance: its latent vector is always the mean of what may come."""
    params = {**trained.params, "params": dict(trained.params["params"])}
    head = params["params"]["prior_head"]
    kernel, bias = np.array(head["kernel"]), np.array(head["bias"])
    deviations = slice(trained.size.latent_size, None)
    kernel[:, deviations], bias[deviations] = 0.0, NEGLIGIBLE
    params["params"]["prior_head"] = {"kernel": kernel, "bias": bias}
    return trained._replace(params=params)


NEGLIGIBLE = -80.0
"""Logarithm of a variance that is none."""


def predictor_stage(
    train: Sequence[np.ndarray], valid: Sequence[np.ndarray], size: PredictorSize, options: PredictorOptions
) -> Stage:
    """A predictor from drawings, stroke-3 each in any unit.

    Raises:
        ValueError: there are no drawings, or fewer than a batch.
    """
    network = Predictor(size)
    longest = max(map(len, [*train, *valid]), default=0)

    def look(key: jax.Array, drawings: Drawings) -> Moment:
        framed = raster.framed(jax.tree.map(jnp.asarray, drawings))
        return next_stroke_data.anywhere(key, framed, size.side, size.strokes)

    def judged(params: Any, drawings: Drawings, key: jax.Array, flip: float) -> Judgement:
        when, which, way = jax.random.split(key, 3)
        if flip:
            drawings = augment.flip(way, drawings, flip)
        moment = look(when, drawings)
        return moment_loss(*network.apply(params, moment, which), moment, options)  # type: ignore[misc]

    problem = Problem(
        lambda key: init(size, key),
        lambda params, batch, key, *_: judged(params, batch, key, options.flip),
        # The same moments each time, so that the best parameters are not those of an easy draw.
        lambda params, data, _: judged(params, data, jax.random.key(0), 0.0),
        strokes.pad(train, longest),
        strokes.pad(valid, longest) if len(valid) else None,
    )
    trainer = descent_trainer("predictor", problem, options, shown=("ink", "start"), config=size.config())

    def finish(state: Any) -> TrainedPredictor:
        return TrainedPredictor(size, jax.tree.map(np.asarray, state.params["best"]))

    return Stage(trainer, options.iterations, finish)


Suggest = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]
"""`(canvas [B, side, side], last [B, side, side], strokes finished []) -> embedding [B, embedding_size]`."""


def guidance_size(size: PredictorSize) -> int:
    """Numbers that a decoder is told at each step: where the pen is, and what may come."""
    return 2 + size.embedding_size


def embeddings(size: PredictorSize, suggest: Suggest, drawings: Drawings) -> Float[Array, "batch moments embedding"]:
    """What a predictor says of the canvas before the first stroke of framed drawings and after each.

    After more strokes than any drawing of the batch has it is 0: drawings of about as many strokes should come
    together, for the network is most of the cost. There is no gradient.

    Args:
        size: of the predictor.
        suggest: what says it.
        drawings: framed.
    """
    places = raster.framed_places(drawings)
    images = raster.stroke_images(drawings, size.strokes, next_stroke_data.view(size.side), places=places)
    seen = next_stroke_data.canvases(images)
    last = jnp.concatenate([jnp.zeros_like(images[:, :1]), images], axis=1)
    most = jnp.minimum(jnp.max(next_stroke_data.stroke_count(drawings)), size.strokes)

    def add(number: jax.Array, found: jax.Array) -> jax.Array:
        return found.at[:, number].set(suggest(seen[:, number], last[:, number], number))

    return jax.lax.fori_loop(0, most + 1, add, jnp.zeros((*seen.shape[:2], size.embedding_size)))


def told(
    size: PredictorSize, drawings: Drawings, embedding: Float[Array, "batch moments embedding"]
) -> Float[Array, "batch time guidance"]:
    """What a decoder is told before each row of framed drawings: where the pen is, and what was said of the canvas."""
    finished = jnp.minimum(next_stroke_data.stroke_numbers(drawings), size.strokes)
    said = jnp.take_along_axis(embedding, finished[..., None], axis=1)
    pen = jnp.pad(raster.framed_places(drawings)[:, :-1] - raster.BOX / 2, ((0, 0), (1, 0), (0, 0)))
    return jnp.concatenate([pen / (raster.BOX / 2), said], axis=-1)


def guidance(size: PredictorSize, suggest: Suggest, drawings: Drawings) -> Float[Array, "batch time guidance"]:
    """The same from the drawings alone; see `embeddings`."""
    return told(size, drawings, embeddings(size, suggest, drawings))

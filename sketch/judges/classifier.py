"""Independent judges of what drawings show: three kinds of classifiers that learn from people's drawings alone.

A plain and a residual network look at bitmaps of 28 by 28 pixels as they are published, a recurrent one reads strokes.
No judge has a part in making or choosing the drawings that it judges.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from scipy.optimize import minimize_scalar

from jsafe.config import Hyper, hyperparameters, option
from sketch import raster
from sketch.data import augment
from sketch.data.strokes import Drawings, real_rows
from sketch.models.matmul_conv import Conv
from sketch.training.drawing_trainer import Judgement, Problem, TrainingOptions, descent_trainer
from sketch.training.stages import Stage

SIDE = 28
"""Pixels of a bitmap's side."""

UNIT = 32.0
"""Units of the box, 0 to 256, that the recurrent judge takes as one."""

Inputs = np.ndarray | Drawings
"""Bitmaps `[N, 28, 28]`, uint8 or 0 to 1, for the judges that look at them; padded drawings for the recurrent one."""


@hyperparameters
class JudgeSize(Hyper):
    """Sizes of a judge."""

    architecture: str = option("what it is", default="plain", choices=("plain", "residual", "recurrent"))
    channels: tuple[int, ...] = option("of the plain and the residual one's convolutions", default=(24, 48, 96))
    units: int = option("of the recurrent one in each direction", default=128, low=1)
    features: int = option("numbers that the class is read from", default=128, low=1)

    def __post_init__(self) -> None:
        """Check each option, and that there are convolutions."""
        super().__post_init__()
        if not self.channels or min(self.channels) < 1:
            raise ValueError(f"channels must be positive numbers, got {list(self.channels)}")


@hyperparameters
class JudgeOptions(TrainingOptions):
    """Hyper-parameters of its training."""

    iterations: int = option("of a whole run", default=8, low=1)
    updates: int = option("of the optimiser in one iteration, before a look at the validation set", default=166, low=1)
    batch_size: int = option("drawings of one gradient, drawn without replacement", default=128, low=1)
    learning_rate: float = option("step size of Adam at first", default=2e-3, traced=True, above=0)
    learning_rate_decay: float = option("share of the way that is left after an update", default=0.998, above=0, high=1)
    dropout: float = option("probability that a feature is dropped", default=0.3, low=0, high=0.99)
    flip: float = option("probability that left and right are swapped", default=0.5, low=0, high=1)
    shift: int = option("most pixels that a bitmap is moved by", default=2, low=0, high=SIDE)
    stretch: float = option("largest change of width and height of read drawings, as a share", default=0.1, low=0)


PRESETS: dict[str, tuple[JudgeSize, JudgeOptions]] = {
    "plain": (JudgeSize(), JudgeOptions()),
    "residual": (JudgeSize(architecture="residual", channels=(32, 64, 128)), JudgeOptions()),
    "recurrent": (
        JudgeSize(architecture="recurrent", units=96),
        JudgeOptions(updates=125, batch_size=64, learning_rate_decay=0.997),
    ),
}
"""The three judges: four epochs of 42,500 bitmaps, and of 16,000 drawings for the recurrent one."""


class TrainedJudge(NamedTuple):
    """A trained judge.

    Attributes:
        size: its sizes.
        params: its parameters.
        classes: names, in the order of its probabilities.
        temperature: that logits are divided by.
    """

    size: JudgeSize
    params: Any
    classes: tuple[str, ...]
    temperature: float


class Opinion(NamedTuple):
    """What a judge says of drawings.

    Attributes:
        probabilities: `[B, C]` of each class.
        features: `[B, F]` what they were read from, for distances between sets of drawings.
    """

    probabilities: np.ndarray
    features: np.ndarray


class _Plain(nn.Module):
    channels: Sequence[int]

    @nn.compact
    def __call__(self, image: jax.Array) -> jax.Array:
        x = image[..., None]
        for width in self.channels:
            x = nn.relu(Conv(width, (3, 3))(x))
            x = nn.max_pool(x, (2, 2), strides=(2, 2), padding="SAME")
        return x.reshape(len(x), -1)


class _Residual(nn.Module):
    """Pre-activation blocks (He et al. 2016), two convolutions each; each but the first halves the image."""

    channels: Sequence[int]

    @nn.compact
    def __call__(self, image: jax.Array) -> jax.Array:
        def norm(x: jax.Array) -> jax.Array:
            width = x.shape[-1]
            return nn.relu(nn.GroupNorm(num_groups=8 if width % 8 == 0 else 1)(x))

        x = Conv(self.channels[0], (3, 3), strides=2)(image[..., None])
        for number, width in enumerate(self.channels):
            stride = 1 if number == 0 else 2
            straight = x if number == 0 else Conv(width, (1, 1), strides=stride, use_bias=False)(x)
            inner = Conv(width, (3, 3), strides=stride)(norm(x))
            x = straight + Conv(width, (3, 3))(norm(inner))
        return jnp.mean(norm(x), axis=(1, 2))


class _Recurrent(nn.Module):
    """Gated recurrent units (Cho et al. 2014) in both directions, the end of each and the mean over all rows."""

    units: int

    @nn.compact
    def __call__(self, drawings: Drawings) -> jax.Array:
        rows, lengths = drawings
        parts = []
        for backward in (False, True):
            layer = nn.RNN(nn.GRUCell(self.units), reverse=backward, keep_order=True)
            read: Any = layer(jnp.asarray(rows), seq_lengths=jnp.asarray(lengths))
            real = real_rows(drawings)[..., None]
            last = 0 if backward else jnp.maximum(lengths - 1, 0)
            end = read[jnp.arange(len(rows)), last]
            parts += [end, jnp.sum(jnp.where(real, read, 0.0), axis=1) / jnp.maximum(lengths, 1)[:, None]]
        return jnp.concatenate(parts, axis=-1)


class Judge(nn.Module):
    """The network; gives logits `[B, classes]` and features `[B, F]`.

    Attributes:
        size: its sizes.
        classes: number of classes.
    """

    size: JudgeSize
    classes: int

    @nn.compact
    def __call__(self, inputs: Any, key: jax.Array | None = None, dropout: float = 0.0) -> tuple[jax.Array, jax.Array]:
        """Logits and features; a key drops features at random."""
        if self.size.architecture == "recurrent":
            x = _Recurrent(self.size.units)(inputs)
        elif self.size.architecture == "residual":
            x = _Residual(self.size.channels)(inputs)
        else:
            x = _Plain(self.size.channels)(inputs)
        features = nn.relu(nn.Dense(self.size.features)(x))
        x = features
        if key is not None and dropout:
            x = jnp.where(jax.random.bernoulli(key, 1.0 - dropout, x.shape), x / (1.0 - dropout), 0.0)
        return nn.Dense(self.classes)(x), features


def init(size: JudgeSize, classes: int, key: jax.Array) -> Any:
    """Parameters of a judge that has learned nothing."""
    blank = np.zeros((1, SIDE, SIDE), np.uint8)
    stroke = Drawings(np.zeros((1, 2, 3), np.float32), np.full(1, 2, np.int32))
    return Judge(size, classes).init(key, prepared(stroke if size.architecture == "recurrent" else blank))


def prepared(inputs: Any) -> Any:
    """What a network takes: ink from 0 to 1, or framed drawings in units of the recurrent judge."""
    if isinstance(inputs, Drawings):
        framed = raster.framed(jax.tree.map(jnp.asarray, inputs))
        return framed._replace(rows=framed.rows / jnp.asarray([UNIT, UNIT, 1.0]))
    whole = jnp.issubdtype(inputs.dtype, jnp.integer)
    return inputs / 255.0 if whole else jnp.asarray(inputs, jnp.float32)


def shifted(key: jax.Array, images: Float[Array, "batch side side"], most: int) -> jax.Array:
    """Images moved by up to so many pixels along each axis, each its own; what comes in is blank."""
    corner = jax.random.randint(key, (len(images), 2), 0, 2 * most + 1)
    padded = jnp.pad(images, ((0, 0), (most, most), (most, most)))
    rows = corner[:, :1] + jnp.arange(images.shape[1])
    columns = corner[:, 1:] + jnp.arange(images.shape[2])
    return padded[jnp.arange(len(images))[:, None, None], rows[:, :, None], columns[:, None, :]]


def _varied(key: jax.Array, inputs: Any, options: JudgeOptions) -> Any:
    first, second = jax.random.split(key)
    if isinstance(inputs, Drawings):
        drawings = augment.flip(first, jax.tree.map(jnp.asarray, inputs), options.flip)
        return prepared(augment.stretch(second, drawings, options.stretch))
    images = prepared(inputs)
    swapped = jax.random.bernoulli(first, options.flip, (len(images), 1, 1))
    return shifted(second, jnp.where(swapped, images[:, :, ::-1], images), options.shift)


def judge_stage(
    inputs: Inputs,
    labels: Int[np.ndarray, " n"],
    valid_inputs: Inputs | None,
    valid_labels: Int[np.ndarray, " m"] | None,
    classes: Sequence[str],
    size: JudgeSize,
    options: JudgeOptions,
) -> Stage:
    """A judge from people's drawings; its temperature is 1 until it is `calibrated`.

    Args:
        inputs: what its architecture takes.
        labels: numbers of the classes.
        valid_inputs: to choose the best parameters by; None to take the last.
        valid_labels: of these.
        classes: names.
        size: of the network.
        options: hyper-parameters.

    Raises:
        ValueError: inputs of another kind or shape than the architecture takes, labels without a class, fewer
            drawings than a batch.
    """
    network, names = Judge(size, len(classes)), tuple(map(str, classes))
    data = _checked(size, inputs, labels, len(names))
    valid = None if valid_inputs is None else _checked(size, valid_inputs, valid_labels, len(names))

    def init(key: jax.Array) -> Any:
        return network.init(key, prepared(jax.tree.map(lambda leaf: jnp.asarray(leaf[:1]), data[0])))

    def judged(logits: jax.Array, wanted: jax.Array) -> Judgement:
        chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), wanted[:, None], axis=1)
        return Judgement(-jnp.mean(chosen), {"accuracy": jnp.mean(jnp.argmax(logits, axis=1) == wanted)})

    def loss(params: Any, batch: Any, key: jax.Array, *_: Any) -> Judgement:
        vary, drop = jax.random.split(key)
        logits, _ = network.apply(params, _varied(vary, batch[0], options), drop, options.dropout)  # type: ignore[misc]
        return judged(logits, batch[1])

    def validate(params: Any, rows: Any, _: jax.Array) -> Judgement:
        def one(row: Any) -> jax.Array:
            return network.apply(params, prepared(jax.tree.map(lambda leaf: leaf[None], row)))[0][0]  # type: ignore[index]

        return judged(jax.lax.map(one, rows[0], batch_size=CHUNK), rows[1])

    problem = Problem(init, loss, validate, data, valid)
    shown = ("accuracy", *(("valid_accuracy",) if valid is not None else ()))
    recorded = {**size.config(), "classes": list(names)}
    trainer = descent_trainer("judge", problem, options, shown=shown, config=recorded)

    def finish(state: Any) -> TrainedJudge:
        return TrainedJudge(size, jax.tree.map(np.asarray, state.params["best"]), names, 1.0)

    return Stage(trainer, options.iterations, finish)


CHUNK = 256
"""Drawings that are judged together."""


def judged(judge: TrainedJudge, inputs: Inputs) -> Opinion:
    """What a judge says of drawings, of any number and `CHUNK` at a time.

    Raises:
        ValueError: inputs of another kind or shape than the architecture takes.
    """
    logits, features = _outputs(judge, inputs)
    return Opinion(np.asarray(jax.nn.softmax(logits / judge.temperature, axis=-1)), features)


def calibrated(judge: TrainedJudge, inputs: Inputs, labels: Int[np.ndarray, " n"]) -> TrainedJudge:
    """The judge with the temperature that makes held-out drawings of people likeliest (Guo et al. 2017).

    Raises:
        ValueError: inputs of another kind or shape than the architecture takes, or labels without a class.
    """
    held, wanted = _checked(judge.size, inputs, labels, len(judge.classes))
    logits = _outputs(judge, held)[0].astype(np.float64)

    def cost(log_temperature: float) -> float:
        scaled = logits / np.exp(log_temperature)
        top = scaled.max(axis=1)
        total = top + np.log(np.exp(scaled - top[:, None]).sum(axis=1))
        return float(np.mean(total - scaled[np.arange(len(wanted)), wanted]))

    found = minimize_scalar(cost, bounds=(np.log(0.05), np.log(20.0)), method="bounded")
    return judge._replace(temperature=float(np.exp(found.x)))  # type: ignore[attr-defined]


@partial(jax.jit, static_argnums=(0, 1))
def _chunk(size: JudgeSize, classes: int, params: Any, inputs: Any) -> tuple[jax.Array, jax.Array]:
    return Judge(size, classes).apply(params, prepared(inputs))  # type: ignore[return-value]


def _outputs(judge: TrainedJudge, inputs: Inputs) -> tuple[np.ndarray, np.ndarray]:
    """Logits and features; the last chunk is filled up, so that there is one program."""
    held = _as_taken(judge.size, inputs)
    count = len(jax.tree.leaves(held)[0])
    if not count:
        raise ValueError("there are no drawings to judge")
    found = []
    for first in range(0, count, CHUNK):
        places = np.minimum(np.arange(first, first + CHUNK), count - 1)
        part = jax.tree.map(lambda leaf, places=places: leaf[places], held)
        found.append(jax.tree.map(np.asarray, _chunk(judge.size, len(judge.classes), judge.params, part)))
    logits, features = (np.concatenate(parts)[:count] for parts in zip(*found, strict=True))
    return logits, features


def _as_taken(size: JudgeSize, inputs: Inputs) -> Any:
    """Inputs of the kind and shape that an architecture takes."""
    if isinstance(inputs, Drawings) != (size.architecture == "recurrent"):
        wanted = "padded drawings" if size.architecture == "recurrent" else "bitmaps"
        raise ValueError(f"a {size.architecture} judge takes {wanted}")
    if isinstance(inputs, Drawings):
        return Drawings(np.asarray(inputs.rows, np.float32), np.asarray(inputs.lengths, np.int32))
    bitmaps = np.asarray(inputs)
    if bitmaps.ndim != 3 or bitmaps.shape[1:] != (SIDE, SIDE):
        raise ValueError(f"bitmaps must be [n, {SIDE}, {SIDE}], got {list(bitmaps.shape)}")
    return bitmaps


def _checked(size: JudgeSize, inputs: Inputs, labels: Any, classes: int) -> tuple[Any, np.ndarray]:
    held, numbers = _as_taken(size, inputs), np.asarray(labels)
    count = len(jax.tree.leaves(held)[0])
    if numbers.shape != (count,) or numbers.dtype.kind not in "iu":
        raise ValueError(f"labels must be {count} whole numbers, got {numbers.dtype} {list(numbers.shape)}")
    if count and not 0 <= numbers.min() <= numbers.max() < classes:
        raise ValueError(f"labels must be 0 to {classes - 1}, got {numbers.min()} to {numbers.max()}")
    return held, numbers.astype(np.int32)

"""Classifiers of drawings, trained on people's drawings alone, which judge what a drawing shows.

A plain and a residual network read published bitmaps of 28 by 28 pixels, a recurrent network reads strokes. No
classifier takes part in generating or selecting the drawings that it classifies.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from sketch import raster
from sketch.data.bitmap_dataset import BITMAP_SIDE
from sketch.data.strokes import Drawings, real_rows
from sketch.models.matmul_conv import Conv
from sketch.models.model_configs import VECTORS, ClassifierConfig

UNIT = 32.0
"""Input unit of the recurrent classifier, in units of the box."""

CHUNK = 256
"""Drawings that are classified together."""

Inputs = np.ndarray | Drawings
"""Bitmaps `[N, 28, 28]`, uint8 or 0 to 1, or padded drawings in any unit."""


class ClassifierOutput(NamedTuple):
    """Output of a classifier.

    Attributes:
        log_probs: `[N, K]` log probability of each class.
        features: `[N, F]` features, in which sets of drawings are compared.
    """

    log_probs: Float[np.ndarray, "n classes"]
    features: Float[np.ndarray, "n features"]


class Classifier(Protocol):
    """Classifier of bitmaps or vectors; one forward pass gives log probabilities and features."""

    @property
    def classes(self) -> Sequence[str]:
        """Class names, in the order of the log probabilities."""
        ...

    @property
    def input_kind(self) -> str:
        """`bitmaps` or `vectors`."""
        ...

    def classify(self, inputs: Any) -> ClassifierOutput:
        """Classify bitmaps `[N, 28, 28]` or padded drawings in any unit."""
        ...


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
    """Pre-activation blocks of two convolutions (He et al. 2016); all but the first halve the image."""

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
    """Bidirectional gated recurrent units (Cho et al. 2014), read out by final state and mean over rows."""

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


class ClassifierNetwork(nn.Module):
    """The network; returns logits `[B, classes]` and features `[B, F]`.

    Attributes:
        size: its sizes.
        classes: number of classes.
    """

    size: ClassifierConfig
    classes: int

    @nn.compact
    def __call__(self, inputs: Any, key: jax.Array | None = None, dropout: float = 0.0) -> tuple[jax.Array, jax.Array]:
        """Return logits and features; a key enables dropout of features."""
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


def init(size: ClassifierConfig, classes: int, key: jax.Array) -> Any:
    """Return initial parameters."""
    blank = np.zeros((1, BITMAP_SIDE, BITMAP_SIDE), np.uint8)
    stroke = Drawings(np.zeros((1, 2, 3), np.float32), np.full(1, 2, np.int32))
    return ClassifierNetwork(size, classes).init(key, preprocess(stroke if size.input_kind == VECTORS else blank))


def preprocess(inputs: Any) -> Any:
    """Convert inputs to those of a network: ink from 0 to 1, or framed drawings in units of `UNIT`."""
    if isinstance(inputs, Drawings):
        framed = raster.framed(jax.tree.map(jnp.asarray, inputs))
        return framed._replace(rows=framed.rows / jnp.asarray([UNIT, UNIT, 1.0]))
    whole = jnp.issubdtype(inputs.dtype, jnp.integer)
    return inputs / 255.0 if whole else jnp.asarray(inputs, jnp.float32)


@dataclasses.dataclass(frozen=True)
class TrainedClassifier:
    """A trained classifier.

    Attributes:
        size: its sizes.
        params: its parameters.
        classes: class names, in the order of the log probabilities.
        temperature: calibration temperature, by which logits are divided.
    """

    size: ClassifierConfig
    params: Any
    classes: tuple[str, ...]
    temperature: float = 1.0

    @property
    def input_kind(self) -> str:
        """`bitmaps` or `vectors`."""
        return self.size.input_kind

    def classify(self, inputs: Inputs) -> ClassifierOutput:
        """Classify any number of drawings, `CHUNK` at a time.

        Raises:
            ValueError: if the inputs have another kind or shape than the architecture needs.
        """
        logits, features = self._forward(inputs)
        return ClassifierOutput(log_softmax(logits.astype(np.float64) / self.temperature, axis=-1), features)

    def log_probs(self, inputs: Inputs) -> Float[np.ndarray, "n classes"]:
        """Return the log probability of each class; see `classify`."""
        return self.classify(inputs).log_probs

    def calibrate(self, inputs: Inputs, labels: Int[np.ndarray, " n"]) -> TrainedClassifier:
        """Return the classifier with the temperature of maximum likelihood on held-out drawings (Guo et al. 2017).

        Raises:
            ValueError: if the inputs do not fit the architecture, or a label is out of range.
        """
        inputs, labels = check_inputs(self.size, inputs), check_labels(labels, inputs, len(self.classes))
        logits = self._forward(inputs)[0].astype(np.float64)

        def cost(log_temperature: float) -> float:
            scaled = logits / np.exp(log_temperature)
            top = scaled.max(axis=1)
            total = top + np.log(np.exp(scaled - top[:, None]).sum(axis=1))
            return float(np.mean(total - scaled[np.arange(len(labels)), labels]))

        best = minimize_scalar(cost, bounds=(np.log(0.05), np.log(20.0)), method="bounded")
        return dataclasses.replace(self, temperature=float(np.exp(best.x)))  # type: ignore[attr-defined]

    def _forward(self, inputs: Inputs) -> tuple[np.ndarray, np.ndarray]:
        """Logits and features; the last chunk is padded, so that there is one program."""
        inputs = check_inputs(self.size, inputs)
        count = len(jax.tree.leaves(inputs)[0])
        if not count:
            raise ValueError("a classifier needs at least one drawing, got none")
        parts = []
        for first in range(0, count, CHUNK):
            rows = np.minimum(np.arange(first, first + CHUNK), count - 1)
            chunk = jax.tree.map(lambda leaf, rows=rows: leaf[rows], inputs)
            parts.append(jax.tree.map(np.asarray, _apply(self.size, len(self.classes), self.params, chunk)))
        logits, features = (np.concatenate(leaves)[:count] for leaves in zip(*parts, strict=True))
        return logits, features


@partial(jax.jit, static_argnums=(0, 1))
def _apply(size: ClassifierConfig, classes: int, params: Any, inputs: Any) -> tuple[jax.Array, jax.Array]:
    return ClassifierNetwork(size, classes).apply(params, preprocess(inputs))  # type: ignore[return-value]


def check_inputs(size: ClassifierConfig, inputs: Inputs) -> Any:
    """Return inputs as host arrays of the types that the architecture reads.

    Raises:
        ValueError: if they have another kind or shape.
    """
    if isinstance(inputs, Drawings) != (size.input_kind == VECTORS):
        expected = "padded drawings" if size.input_kind == VECTORS else "bitmaps"
        raise ValueError(f"a {size.architecture} classifier needs {expected}, got {type(inputs).__name__}")
    if isinstance(inputs, Drawings):
        return Drawings(np.asarray(inputs.rows, np.float32), np.asarray(inputs.lengths, np.int32))
    bitmaps = np.asarray(inputs)
    if bitmaps.ndim != 3 or bitmaps.shape[1:] != (BITMAP_SIDE, BITMAP_SIDE):
        raise ValueError(f"bitmaps must be [n, {BITMAP_SIDE}, {BITMAP_SIDE}], got {list(bitmaps.shape)}")
    return bitmaps


def check_labels(labels: Any, inputs: Any, classes: int) -> Int[np.ndarray, " n"]:
    """Return labels of inputs as int32.

    Raises:
        ValueError: if there are not as many labels as inputs, or a label is not a class number.
    """
    labels, count = np.asarray(labels), len(jax.tree.leaves(inputs)[0])
    if labels.shape != (count,) or labels.dtype.kind not in "iu":
        raise ValueError(f"labels must be {count} whole numbers, got {labels.dtype} {list(labels.shape)}")
    if count and not 0 <= labels.min() <= labels.max() < classes:
        raise ValueError(f"labels must be 0 to {classes - 1}, got {labels.min()} to {labels.max()}")
    return labels.astype(np.int32)

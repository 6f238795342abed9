"""Sketch-RNN: a variational autoencoder of drawings with recurrent encoder and decoder (Ha and Eck 2017).

Without the encoder it is an autoregressive model of rows. All functions work on stroke-5 whose offsets are divided by
the scale factor of the training set.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sketch.data.simplify import SIDE
from sketch.data.strokes import START
from sketch.models import mixture, rnn_cells
from sketch.models.mixture import Mixture
from sketch.models.model_configs import SketchRNNConfig
from sketch.models.rnn_cells import GLOROT, Carry, Dropout

Params = dict[str, Any]

HEAD_DEVIATION = 0.001
"""Published standard deviation of the initial weights around the latent vector."""


class SketchRNN(NamedTuple):
    """A trained model.

    Attributes:
        config: its sizes.
        params: its parameters.
        scale_factor: unit of its inputs, by which offsets are divided.
        max_length: rows of the longest training drawing.
        framed: True if its drawings start at the centre of the box, see `sketch.raster.framed`; always the case for
            guided models.
        extent: left, top and side of its training drawings, see `sketch.data.extent.Extent`.
        from_first_point: True if its training drawings start at the origin.
        classes: classes of its training drawings, the most frequent first; empty if unknown.
    """

    config: SketchRNNConfig
    params: Params
    scale_factor: float
    max_length: int
    framed: bool = False
    extent: tuple[float, float, float] = (0.0, 0.0, SIDE)
    from_first_point: bool = False
    classes: tuple[str, ...] = ()


def _small_linear(key: jax.Array, inputs: int, outputs: int) -> Params:
    return {"kernel": HEAD_DEVIATION * jax.random.normal(key, (inputs, outputs)), "bias": jnp.zeros(outputs)}


def _apply(layer: Params, x: jax.Array) -> jax.Array:
    return x @ layer["kernel"] + layer["bias"]


def init(config: SketchRNNConfig, key: jax.Array) -> Params:
    """Return initial parameters as published; the kernels of extra inputs are zero."""
    keys = jax.random.split(key, 7)
    decoder, outputs = config.decoder, mixture.output_size(config.mixtures)
    params: Params = {
        "decoder": decoder.widen(decoder.init(keys[0], config.plain_inputs), config.plain_inputs, config.extra_inputs),
        "output": {"kernel": GLOROT(keys[1], (decoder.units, outputs)), "bias": jnp.zeros(outputs)},
    }
    if config.conditional:
        encoder = config.encoder
        params["encoder"] = {"forward": encoder.init(keys[2], 5), "backward": encoder.init(keys[3], 5)}
        params["mean"] = _small_linear(keys[4], 2 * encoder.units, config.latent_size)
        params["log_variance"] = _small_linear(keys[5], 2 * encoder.units, config.latent_size)
        params["initial"] = _small_linear(keys[6], config.latent_size, sum(decoder.layout))
    return params


def widened(config: SketchRNNConfig, params: Params, more: int) -> Params:
    """Add extra inputs with zero kernels, which do not change the function until they are trained."""
    inputs = config.plain_inputs + config.extra_inputs
    return params | {"decoder": config.decoder.widen(params["decoder"], inputs, more)}


def parameter_count(params: Any) -> int:
    """Total number of parameters in a tree."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))


class Latent(NamedTuple):
    """Normal distribution over latent vectors.

    Attributes:
        mean: `[B, latent]`.
        log_variance: `[B, latent]`.
    """

    mean: Float[Array, "batch latent"]
    log_variance: Float[Array, "batch latent"]

    def sample(self, key: jax.Array) -> jax.Array:
        """Sample one vector for each drawing."""
        return self.mean + jnp.exp(self.log_variance / 2) * jax.random.normal(key, self.mean.shape)


def encode(
    config: SketchRNNConfig,
    params: Params,
    rows: Float[Array, "batch time 5"],
    lengths: jax.Array,
    dropout: tuple[Dropout, Dropout] | None = None,
) -> Latent:
    """Encode drawings to the posterior of the latent vector.

    Args:
        config: sizes, with `conditional`.
        params: parameters of the model.
        rows: stroke-5 without the start row.
        lengths: rows of each drawing; later rows are ignored.
        dropout: dropout of each direction.
    """
    cell = config.encoder
    empty = cell.empty(len(rows))
    forward, backward = dropout or (None, None)
    places = jnp.maximum(lengths[:, None] - 1 - jnp.arange(rows.shape[1]), 0)
    reversed_rows = jnp.take_along_axis(rows, places[..., None], axis=1)
    ends = [
        rnn_cells.read(cell, params["encoder"][name], x, empty, lengths=lengths, dropout=drop)[0]
        for name, x, drop in (("forward", rows, forward), ("backward", reversed_rows, backward))
    ]
    last = 1 if config.encoder_cell == "lstm" else 0  # index of the output in the carry of a cell
    read = jnp.concatenate([end[last] for end in ends], axis=-1)
    return Latent(_apply(params["mean"], read), _apply(params["log_variance"], read))


def first_carry(config: SketchRNNConfig, params: Params, z: jax.Array | None, batch: int) -> Carry:
    """Return the initial state of the decoder."""
    if not config.conditional:
        return config.decoder.empty(batch)
    return config.decoder.carry(jnp.tanh(_apply(params["initial"], z)))  # type: ignore[arg-type]


def _inputs(rows: jax.Array, z: jax.Array | None, extra: jax.Array | None) -> jax.Array:
    parts = [rows]
    if z is not None:
        parts.append(jnp.broadcast_to(z.reshape(len(z), *[1] * (rows.ndim - 2), -1), (*rows.shape[:-1], z.shape[-1])))
    return jnp.concatenate([*parts, *([] if extra is None else [extra])], axis=-1)


def step(
    config: SketchRNNConfig,
    params: Params,
    carry: Carry,
    row: Float[Array, "batch 5"],
    z: jax.Array | None = None,
    extra: jax.Array | None = None,
) -> tuple[Carry, Mixture]:
    """Advance the decoder by one row and return the distribution of the next row.

    Args:
        config: sizes of the model.
        params: its parameters.
        carry: state of the decoder.
        row: last row.
        z: `[B, latent]`, None for a model without an encoder.
        extra: `[B, extra_inputs]`, None for a model without extra inputs.
    """
    cell = config.decoder
    carry, output = cell.step(params["decoder"], carry, cell.inputs(params["decoder"], _inputs(row, z, extra)), None)
    return carry, mixture.from_output(_apply(params["output"], output))


def decode(
    config: SketchRNNConfig,
    params: Params,
    rows: Float[Array, "batch time 5"],
    z: jax.Array | None = None,
    extra: jax.Array | None = None,
    dropout: Dropout | None = None,
) -> Mixture:
    """Return the distribution `[B, N]` of each row given the rows before it.

    Args:
        config: sizes of the model.
        params: its parameters.
        rows: stroke-5 without the start row.
        z: see `step`.
        extra: `[B, N, extra_inputs]`.
        dropout: None for no dropout.
    """
    cell, carry = config.decoder, first_carry(config, params, z, len(rows))
    start = jnp.broadcast_to(jnp.asarray(START, rows.dtype), (len(rows), 1, 5))
    before = jnp.concatenate([start, rows[:, :-1]], axis=1)
    outputs = rnn_cells.read(cell, params["decoder"], _inputs(before, z, extra), carry, dropout=dropout)[1]
    return mixture.from_output(_apply(params["output"], outputs))


class Losses(NamedTuple):
    """Losses of a batch.

    Attributes:
        reconstruction: `[]` sum of offset and pen loss, averaged over drawings and all rows with padding, as published.
        offset: `[]` offset loss.
        pen: `[]` pen loss.
        per_point: `[]` negative log-likelihood of a row that is not padding, independent of the padding.
    """

    reconstruction: jax.Array
    offset: jax.Array
    pen: jax.Array
    per_point: jax.Array


def reconstruction(
    predicted: Mixture, rows: Float[Array, "batch time 5"], *, training: bool = True, floor: float | None = None
) -> Losses:
    """Return the reconstruction losses of a batch.

    Args:
        predicted: distribution of each row.
        rows: true rows.
        training: include the pen loss of padding rows, as the published training does.
        floor: see `mixture.offset_loss`.
    """
    real = 1.0 - rows[..., 4]
    offset = mixture.offset_loss(predicted, rows[..., :2], floor=floor) * real
    pen = mixture.pen_loss(predicted, rows[..., 2:])
    counted = pen if training else pen * real
    point = jnp.sum(offset + pen * real) / jnp.maximum(jnp.sum(real), 1.0)
    return Losses(jnp.mean(offset + counted), jnp.mean(offset), jnp.mean(counted), point)


def kl_divergence(latent: Latent) -> jax.Array:
    """KL divergence from the standard normal, averaged over drawings and latent dimensions, `[]`."""
    mean, log_variance = latent
    return -0.5 * jnp.mean(1.0 + log_variance - mean**2 - jnp.exp(log_variance))


def annealed(start: Any, end: Any, decay: float, update: jax.Array) -> jax.Array:
    """Exponential schedule from `start` to `end`, `end - (end - start) decay^update`."""
    return end - (end - start) * jnp.exp(math.log(decay) * update)

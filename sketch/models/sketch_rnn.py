"""Sketch-RNN: a variational autoencoder of drawings with recurrent encoder and decoder (Ha and Eck 2017).

Without its encoder it is a model of drawings that predicts row after row. Everything here works on stroke-5 whose
offsets are divided by the scale factor of the training set.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jsafe.config import Hyper, hyperparameters, option
from sketch.data.strokes import START
from sketch.models import mixture, rnn_cells
from sketch.models.mixture import Mixture
from sketch.models.rnn_cells import CELLS, GLOROT, Carry, Cell, Dropout

Params = dict[str, Any]

HEAD_DEVIATION = 0.001
"""Of the initial weights around the latent vector, as published."""


@hyperparameters
class Architecture(Hyper):
    """Sizes of a Sketch-RNN; the defaults are those of the published code."""

    conditional: bool = option("whether drawings are encoded to a latent vector", default=True)
    encoder_cell: str = option("cell that reads drawings, in both directions", default="lstm", choices=tuple(CELLS))
    encoder_size: int = option("its units in each direction", default=256, low=1)
    decoder_cell: str = option("cell that draws", default="lstm", choices=tuple(CELLS))
    decoder_size: int = option("its units", default=512, low=1)
    latent_size: int = option("length of the latent vector", default=128, low=1)
    mixtures: int = option("normal distributions in the mixture of an offset", default=20, low=1)
    extra_inputs: int = option("numbers the decoder is told at each step beside the last row", default=0, low=0)

    @property
    def encoder(self) -> Cell:
        return rnn_cells.make(self.encoder_cell, self.encoder_size)

    @property
    def decoder(self) -> Cell:
        return rnn_cells.make(self.decoder_cell, self.decoder_size)

    @property
    def plain_inputs(self) -> int:
        """Numbers the decoder is told at each step without the extra ones: a row and the latent vector."""
        return 5 + (self.latent_size if self.conditional else 0)


def _small_linear(key: jax.Array, inputs: int, outputs: int) -> Params:
    return {"kernel": HEAD_DEVIATION * jax.random.normal(key, (inputs, outputs)), "bias": jnp.zeros(outputs)}


def _apply(layer: Params, x: jax.Array) -> jax.Array:
    return x @ layer["kernel"] + layer["bias"]


def init(config: Architecture, key: jax.Array) -> Params:
    """Parameters as published; what the extra inputs do is zero at first."""
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


def widened(config: Architecture, params: Params, more: int) -> Params:
    """Parameters for so many extra inputs more, that give the same function until they are trained."""
    inputs = config.plain_inputs + config.extra_inputs
    return params | {"decoder": config.decoder.widen(params["decoder"], inputs, more)}


def parameter_count(params: Any) -> int:
    """Numbers in a tree of parameters."""
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
        """One vector for each drawing."""
        return self.mean + jnp.exp(self.log_variance / 2) * jax.random.normal(key, self.mean.shape)


def encode(
    config: Architecture,
    params: Params,
    rows: Float[Array, "batch time 5"],
    lengths: jax.Array,
    dropout: tuple[Dropout, Dropout] | None = None,
) -> Latent:
    """What a drawing may be a drawing of.

    Args:
        config: with `conditional`.
        params: of the model.
        rows: stroke-5 without the start row.
        lengths: rows of each drawing, behind which nothing is read.
        dropout: for each direction.
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
    last = 1 if config.encoder_cell == "lstm" else 0  # where a cell carries its output
    read = jnp.concatenate([end[last] for end in ends], axis=-1)
    return Latent(_apply(params["mean"], read), _apply(params["log_variance"], read))


def first_carry(config: Architecture, params: Params, z: jax.Array | None, batch: int) -> Carry:
    """State of the decoder before it draws."""
    if not config.conditional:
        return config.decoder.empty(batch)
    return config.decoder.carry(jnp.tanh(_apply(params["initial"], z)))  # type: ignore[arg-type]


def _inputs(rows: jax.Array, z: jax.Array | None, extra: jax.Array | None) -> jax.Array:
    parts = [rows]
    if z is not None:
        parts.append(jnp.broadcast_to(z.reshape(len(z), *[1] * (rows.ndim - 2), -1), (*rows.shape[:-1], z.shape[-1])))
    return jnp.concatenate([*parts, *([] if extra is None else [extra])], axis=-1)


def step(
    config: Architecture,
    params: Params,
    carry: Carry,
    row: Float[Array, "batch 5"],
    z: jax.Array | None = None,
    extra: jax.Array | None = None,
) -> tuple[Carry, Mixture]:
    """The distribution of the next row after one more row.

    Args:
        config: of the model.
        params: its parameters.
        carry: state of the decoder.
        row: the last row.
        z: `[B, latent]`, None for a model without an encoder.
        extra: `[B, extra_inputs]`, None for a model without extra inputs.
    """
    cell = config.decoder
    carry, output = cell.step(params["decoder"], carry, cell.inputs(params["decoder"], _inputs(row, z, extra)), None)
    return carry, mixture.from_output(_apply(params["output"], output))


def decode(
    config: Architecture,
    params: Params,
    rows: Float[Array, "batch time 5"],
    z: jax.Array | None = None,
    extra: jax.Array | None = None,
    dropout: Dropout | None = None,
) -> Mixture:
    """The distribution of each row given those before it, `[B, N]`.

    Args:
        config: of the model.
        params: its parameters.
        rows: stroke-5 without the start row.
        z: see `step`.
        extra: `[B, N, extra_inputs]`.
        dropout: None for none.
    """
    cell, carry = config.decoder, first_carry(config, params, z, len(rows))
    start = jnp.broadcast_to(jnp.asarray(START, rows.dtype), (len(rows), 1, 5))
    before = jnp.concatenate([start, rows[:, :-1]], axis=1)
    outputs = rnn_cells.read(cell, params["decoder"], _inputs(before, z, extra), carry, dropout=dropout)[1]
    return mixture.from_output(_apply(params["output"], outputs))


class Losses(NamedTuple):
    """Costs of a batch.

    Attributes:
        reconstruction: `[]`, offset and pen, means over drawings and over all rows with padding, as published.
        offset: `[]`, the offsets' part.
        pen: `[]`, the pen's part.
        per_point: `[]`, negative log-likelihood of a row that is not padding; does not depend on the padding.
    """

    reconstruction: jax.Array
    offset: jax.Array
    pen: jax.Array
    per_point: jax.Array


def reconstruction(
    predicted: Mixture, rows: Float[Array, "batch time 5"], *, training: bool = True, floor: float | None = None
) -> Losses:
    """How well rows were foreseen.

    Args:
        predicted: of each row.
        rows: what came.
        training: count the pen of padding rows too, as the published training does.
        floor: see `mixture.offset_loss`.
    """
    real = 1.0 - rows[..., 4]
    offset = mixture.offset_loss(predicted, rows[..., :2], floor=floor) * real
    pen = mixture.pen_loss(predicted, rows[..., 2:])
    counted = pen if training else pen * real
    point = jnp.sum(offset + pen * real) / jnp.maximum(jnp.sum(real), 1.0)
    return Losses(jnp.mean(offset + counted), jnp.mean(offset), jnp.mean(counted), point)


def kl_divergence(latent: Latent) -> jax.Array:
    """From the standard normal, mean over drawings and over the entries of the latent vector, `[]`."""
    mean, log_variance = latent
    return -0.5 * jnp.mean(1.0 + log_variance - mean**2 - jnp.exp(log_variance))


def annealed(start: Any, end: Any, decay: float, update: jax.Array) -> jax.Array:
    """A number that goes from `start` to `end`: `end - (end - start) decay^update`."""
    return end - (end - start) * jnp.exp(math.log(decay) * update)

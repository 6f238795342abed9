"""Recurrent cells of Sketch-RNN as pure functions: LSTM, layer-norm LSTM and HyperLSTM (Ha, Dai and Le 2016).

The gates are in the order input, candidate, forget, output, each a block of one column per unit. The projection of the
inputs is separate from the step, so that a whole sequence needs one matrix product.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jsafe.suggestions import did_you_mean

Params = dict[str, Any]
Carry = tuple[jax.Array, ...]

FORGET_BIAS = 1.0
"""Bias of the forget gate."""

NORM_EPSILON = 1e-3
"""Published epsilon of the layer norms."""

HYPER_UNITS = 256
HYPER_EMBEDDING = 32

GLOROT = jax.nn.initializers.glorot_uniform()


class Cell(NamedTuple):
    """A recurrent cell.

    Attributes:
        init: `(key, input_size) -> params`.
        inputs: `(params, x [..., input_size]) -> tree [..., *]`, the projected inputs of a step.
        step: `(params, carry, inputs [B, *], gain [B, units] or None) -> (carry, output [B, units])`; `gain` multiplies
            the candidate (recurrent dropout without memory loss, Semeniuta et al. 2016).
        widen: `(params, input_size, more) -> params` of the same function with `more` inputs, whose kernels are zero.
        units: H, width of the output.
        layout: widths of the parts of the carry, in the published order.
    """

    init: Callable[[jax.Array, int], Params]
    inputs: Callable[[Params, jax.Array], Any]
    step: Callable[[Params, Carry, Any, jax.Array | None], tuple[Carry, jax.Array]]
    widen: Callable[[Params, int, int], Params]
    units: int
    layout: tuple[int, ...]

    def carry(self, state: Float[Array, "batch state"]) -> Carry:
        """Split a state, one row for each drawing, into the parts of the carry."""
        edges = [sum(self.layout[: i + 1]) for i in range(len(self.layout) - 1)]
        return tuple(jnp.split(state, edges, axis=-1))

    def empty(self, batch: int) -> Carry:
        """Return a carry of zeros."""
        return tuple(jnp.zeros((batch, width)) for width in self.layout)


def _kernels(key: jax.Array, input_size: int, units: int) -> Params:
    """Initial kernels of the input (Glorot) and of the last output (orthogonal for each gate)."""
    first, second = jax.random.split(key)
    square = jax.nn.initializers.orthogonal()
    blocks = [square(k, (units, units), jnp.float32) for k in jax.random.split(second, 4)]
    return {"input": GLOROT(first, (input_size, 4 * units)), "recurrent": jnp.concatenate(blocks, axis=1)}


def _norms(units: int) -> Params:
    return {
        "gate_scale": jnp.ones(4 * units),
        "gate_shift": jnp.zeros(4 * units),
        "cell_scale": jnp.ones(units),
        "cell_shift": jnp.zeros(units),
    }


def _zero_rows(kernel: jax.Array, place: int, more: int) -> jax.Array:
    return jnp.insert(kernel, jnp.full(more, place), 0.0, axis=0)


def _normalized(x: jax.Array) -> jax.Array:
    """Normalise to mean 0 and variance 1 over the last axis."""
    centred = x - jnp.mean(x, axis=-1, keepdims=True)
    return centred * jax.lax.rsqrt(jnp.mean(centred**2, axis=-1, keepdims=True) + NORM_EPSILON)


def _memory(gates: jax.Array, memory: jax.Array, gain: jax.Array | None) -> tuple[jax.Array, jax.Array]:
    """Return the next memory and the output gate, from gates `[B, 4H]` before their nonlinearities."""
    write, candidate, keep, read = jnp.split(gates, 4, axis=-1)
    value = jnp.tanh(candidate) if gain is None else jnp.tanh(candidate) * gain
    memory = memory * jax.nn.sigmoid(keep + FORGET_BIAS) + jax.nn.sigmoid(write) * value
    return memory, jax.nn.sigmoid(read)


def _normalized_update(params: Params, gates: jax.Array, memory: jax.Array, gain: Any) -> tuple[jax.Array, jax.Array]:
    """Return memory and output of a cell with layer norms of each gate and of the memory."""
    blocks = gates.reshape(*gates.shape[:-1], 4, -1)
    gates = _normalized(blocks).reshape(gates.shape) * params["gate_scale"] + params["gate_shift"]
    memory, read = _memory(gates, memory, gain)
    return memory, jnp.tanh(_normalized(memory) * params["cell_scale"] + params["cell_shift"]) * read


def lstm(units: int) -> Cell:
    """LSTM (Hochreiter and Schmidhuber 1997) with a forget bias of one; the carry is (memory, output)."""

    def init(key: jax.Array, input_size: int) -> Params:
        return _kernels(key, input_size, units) | {"bias": jnp.zeros(4 * units)}

    def inputs(params: Params, x: jax.Array) -> jax.Array:
        return x @ params["input"] + params["bias"]

    def step(params: Params, carry: Carry, projected: Any, gain: jax.Array | None) -> tuple[Carry, jax.Array]:
        memory, output = carry
        memory, read = _memory(projected + output @ params["recurrent"], memory, gain)
        output = jnp.tanh(memory) * read
        return (memory, output), output

    def widen(params: Params, input_size: int, more: int) -> Params:
        return params | {"input": _zero_rows(params["input"], input_size, more)}

    return Cell(init, inputs, step, widen, units, (units, units))


def layer_norm_lstm(units: int) -> Cell:
    """LSTM with layer norms (Ba, Kiros and Hinton 2016); the carry is (output, memory before its norm)."""

    def init(key: jax.Array, input_size: int) -> Params:
        return _kernels(key, input_size, units) | _norms(units)

    def inputs(params: Params, x: jax.Array) -> jax.Array:
        return x @ params["input"]

    def step(params: Params, carry: Carry, projected: Any, gain: jax.Array | None) -> tuple[Carry, jax.Array]:
        output, memory = carry
        memory, output = _normalized_update(params, projected + output @ params["recurrent"], memory, gain)
        return (output, memory), output

    return Cell(init, inputs, step, lstm(units).widen, units, (units, units))


def hyper_lstm(units: int, hyper_units: int = HYPER_UNITS, embedding: int = HYPER_EMBEDDING) -> Cell:
    """LSTM with layer norms whose matrices a smaller LSTM scales row by row (Ha, Dai and Le 2016).

    The carry is (output, output of the small cell, memory, memory of the small cell).

    Args:
        units: H.
        hyper_units: units of the small cell.
        embedding: E, embedding of each gate and source, from which the scales of all units are computed.
    """
    small = layer_norm_lstm(hyper_units)

    def init(key: jax.Array, input_size: int) -> Params:
        main, hyper, shift = jax.random.split(key, 3)
        # The first axis is the source, input or last output; the second is the gate.
        return (
            _kernels(main, input_size, units)
            | _norms(units)
            | {
                "bias": jnp.zeros(4 * units),
                "hyper": small.init(hyper, input_size + units),
                "scale_kernel": jnp.zeros((2, 4, hyper_units, embedding)),
                "scale_bias": jnp.ones((2, 4, embedding)),
                "scale_spread": jnp.full((2, 4, embedding, units), 0.1 / embedding),
                "shift_kernel": 0.01 * jax.random.normal(shift, (4, hyper_units, embedding)),
                "shift_spread": jnp.zeros((4, embedding, units)),
            }
        )

    def inputs(params: Params, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        return x @ params["input"], x @ params["hyper"]["input"][: x.shape[-1]]

    def step(params: Params, carry: Carry, projected: Any, gain: jax.Array | None) -> tuple[Carry, jax.Array]:
        output, hyper_output, memory, hyper_memory = carry
        from_input, to_hyper = projected
        hyper = params["hyper"]
        to_hyper = to_hyper + output @ hyper["input"][-units:]
        (hyper_output, hyper_memory), u = small.step(hyper, (hyper_output, hyper_memory), to_hyper, None)
        z = jnp.einsum("bu,sgue->bsge", u, params["scale_kernel"]) + params["scale_bias"]
        scale = jnp.einsum("bsge,sgeh->bsgh", z, params["scale_spread"])
        shift = jnp.einsum("bge,geh->bgh", jnp.einsum("bu,gue->bge", u, params["shift_kernel"]), params["shift_spread"])
        sources = jnp.stack([from_input, output @ params["recurrent"]], axis=1).reshape(scale.shape)
        gates = (jnp.sum(scale * sources, axis=1) + shift).reshape(from_input.shape) + params["bias"]
        memory, output = _normalized_update(params, gates, memory, gain)
        return (output, hyper_output, memory, hyper_memory), output

    def widen(params: Params, input_size: int, more: int) -> Params:
        wide = lstm(units).widen(params, input_size, more)
        return wide | {"hyper": small.widen(params["hyper"], input_size, more)}

    return Cell(init, inputs, step, widen, units, (units, hyper_units, units, hyper_units))


CELLS: dict[str, Callable[[int], Cell]] = {"lstm": lstm, "layer_norm": layer_norm_lstm, "hyper": hyper_lstm}
"""Cells by their published names."""


def make(name: str, units: int) -> Cell:
    """Return a cell by name.

    Raises:
        ValueError: if the name is unknown; the message has the nearest one.
    """
    if name not in CELLS:
        raise ValueError(f"cell must be one of {sorted(CELLS)}, got {name!r}{did_you_mean(name, CELLS)}")
    return CELLS[name](units)


@dataclasses.dataclass(frozen=True)
class Dropout:
    """Recurrent dropout of candidates.

    Attributes:
        key: typed PRNG key.
        keep: keep probability, by which retained candidates are divided.
    """

    key: jax.Array
    keep: float | jax.Array

    def gain(self, step: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        """Return the factors of a step, 0 or `1 / keep`."""
        # Sixteen random bits are precise enough, at half the cost of a float.
        bits = jax.random.bits(jax.random.fold_in(self.key, step), shape, jnp.uint16)
        return jnp.where(bits < jnp.asarray(self.keep) * 2.0**16, 1.0 / self.keep, 0.0)


def read(
    cell: Cell,
    params: Params,
    x: Float[Array, "batch time inputs"],
    carry: Carry,
    *,
    lengths: jax.Array | None = None,
    dropout: Dropout | None = None,
) -> tuple[Carry, Float[Array, "batch time units"]]:
    """Run a cell over sequences.

    Args:
        cell: the cell.
        params: its parameters.
        x: the sequences.
        carry: initial state.
        lengths: `[B]` lengths of the sequences; None if all rows count.
        dropout: None for no dropout.

    Returns:
        The carry at the end of each sequence, and the output of each step; the carry is constant behind the end.
    """

    def one(carry: Carry, inputs: Any) -> tuple[Carry, jax.Array]:
        number, projected = inputs
        gain = dropout.gain(number, (len(x), cell.units)) if dropout is not None else None
        new, output = cell.step(params, carry, projected, gain)
        if lengths is not None:
            inside = (number < lengths)[:, None]
            new = tuple(jnp.where(inside, n, o) for n, o in zip(new, carry, strict=True))
        return new, output

    projected = jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), cell.inputs(params, x))
    carry, outputs = jax.lax.scan(one, carry, (jnp.arange(x.shape[1]), projected))
    return carry, jnp.swapaxes(outputs, 0, 1)

"""Recurrent cells: NumPy reference of each step, initial parameters, dropout and lengths."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sketch.models import rnn_cells
from sketch.models.rnn_cells import Dropout
from tests.support import numpy_rnn_cells

UNITS, INPUTS, BATCH, TIME = 7, 5, 3, 6
KINDS = {
    "lstm": rnn_cells.lstm(UNITS),
    "layer_norm": rnn_cells.layer_norm_lstm(UNITS),
    "hyper": rnn_cells.hyper_lstm(UNITS, hyper_units=4, embedding=3),
}


def scrambled(cell, seed=0, inputs=INPUTS):
    """Parameters none of which is zero or one, so that each of them matters."""
    leaves, tree = jax.tree.flatten(cell.init(jax.random.key(seed), inputs))
    rng = np.random.default_rng(seed)
    return jax.tree.unflatten(tree, [leaf + rng.normal(0, 0.3, leaf.shape).astype(np.float32) for leaf in leaves])


def doubles(params):
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)


@pytest.mark.parametrize("name", KINDS)
def test_a_cell_is_the_published_one_with_dropout_and_ends_of_sequences(name):
    cell, rng = KINDS[name], np.random.default_rng(1)
    params, x = scrambled(cell), rng.normal(size=(BATCH, TIME, INPUTS)).astype(np.float32)
    flat = rng.normal(size=(BATCH, sum(cell.layout))).astype(np.float32)
    dropout, lengths = Dropout(jax.random.key(2), 0.7), np.array([6, 2, 4])

    @jax.jit
    def both(params, x, flat):
        whole = rnn_cells.read(cell, params, x, cell.carry(flat), dropout=dropout)
        return whole, rnn_cells.read(cell, params, x, cell.carry(flat), lengths=lengths, dropout=dropout)

    (carry, outputs), (ended, _) = both(params, x, flat)
    masks = np.array([dropout.gain(jnp.int32(t), (BATCH, UNITS)) for t in range(TIME)])
    np.testing.assert_allclose(np.unique(masks), [0.0, 1 / 0.7], rtol=1e-6)
    edges = np.cumsum(cell.layout)[:-1]
    for row in range(BATCH):
        state = tuple(np.split(flat[row].astype(float), edges))
        expected, last = numpy_rnn_cells.read(name, doubles(params), x[row], state, masks[:, row])
        np.testing.assert_allclose(outputs[row], expected, atol=1e-5)
        for ours, theirs in zip(carry, last, strict=True):
            np.testing.assert_allclose(ours[row], theirs, atol=1e-5)
        _, early = numpy_rnn_cells.read(name, doubles(params), x[row, : lengths[row]], state, masks[:, row])
        for ours, theirs in zip(ended, early, strict=True):
            np.testing.assert_allclose(ours[row], theirs, atol=1e-5)


@pytest.mark.parametrize("name", KINDS)
def test_more_inputs_change_nothing_until_they_are_trained(name):
    cell = KINDS[name]
    params, x = scrambled(cell), jax.random.normal(jax.random.key(3), (BATCH, TIME, INPUTS))
    more = jax.random.normal(jax.random.key(4), (BATCH, TIME, 2))
    wide = cell.widen(params, INPUTS, 2)
    _, plain = rnn_cells.read(cell, params, x, cell.empty(BATCH))
    _, same = rnn_cells.read(cell, wide, jnp.concatenate([x, more], -1), cell.empty(BATCH))
    np.testing.assert_allclose(same, plain, atol=1e-6)
    slope = jax.grad(lambda p: rnn_cells.read(cell, p, jnp.concatenate([x, more], -1), cell.empty(BATCH))[1].sum())(
        wide
    )
    assert np.abs(slope["input"][INPUTS:]).min() > 0


def test_cells_begin_as_published():
    lstm = rnn_cells.lstm(64).init(jax.random.key(0), 5)
    bound = np.sqrt(6 / (5 + 256))
    assert 0.98 * bound < np.abs(lstm["input"]).max() <= bound and not lstm["bias"].any()
    for gate in range(4):
        block = np.asarray(lstm["recurrent"][:, 64 * gate : 64 * (gate + 1)])
        np.testing.assert_allclose(block @ block.T, np.eye(64), atol=1e-5)
    assert np.abs(lstm["recurrent"][:, :64] - lstm["recurrent"][:, 64:128]).max() > 0.1
    norm = rnn_cells.layer_norm_lstm(64).init(jax.random.key(0), 5)
    assert (norm["gate_scale"] == 1).all() and not norm["gate_shift"].any() and "bias" not in norm
    hyper = rnn_cells.hyper_lstm(64).init(jax.random.key(0), 5)
    assert hyper["hyper"]["input"].shape == (5 + 64, 4 * 256) and not hyper["shift_spread"].any()
    assert not hyper["scale_kernel"].any() and (hyper["scale_bias"] == 1).all()
    # Each row is scaled by 32 * 1 * 0.1 / 32 at first.
    np.testing.assert_allclose(hyper["scale_spread"].sum(2), 0.1, rtol=1e-5)
    assert hyper["shift_kernel"].std() == pytest.approx(0.01, rel=0.05)


def test_dropout_keeps_the_given_fraction():
    gain = Dropout(jax.random.key(0), 0.9).gain(jnp.int32(3), (400, 400))
    assert float((gain > 0).mean()) == pytest.approx(0.9, abs=0.003) and float(gain.max()) == pytest.approx(1 / 0.9)
    assert (Dropout(jax.random.key(0), 1.0).gain(jnp.int32(3), (400, 400)) == 1).all()


def test_an_unknown_cell_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match=r"got 'layernorm'; did you mean 'layer_norm'\?"):
        rnn_cells.make("layernorm", 3)

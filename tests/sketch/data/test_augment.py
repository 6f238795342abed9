"""Data augmentation: invariants and probabilities."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sketch.data import augment
from sketch.data.strokes import Drawings, pad, unpad
from tests.support.quickdraw import cats, needs_data


def spiral(n, seed=0):
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(n, 3)).astype(np.float32)
    rows[:, 2] = 0
    rows[[n // 2, n - 1], 2] = 1
    return rows


def dropped_by_hand(rows, drawn, probability):
    """The published walk over the rows of one drawing, in its own words."""
    kept, count, last = [], 0, 1.0
    for row, u in zip(rows, drawn, strict=True):
        count = 0 if row[2] == 1 or last == 1 else count + 1
        if row[2] == 0 and last == 0 and count > 2 and u < probability:
            kept[-1][:2] += row[:2]
        else:
            kept.append(row.copy())
            last = row[2]
    return np.array(kept)


@pytest.mark.parametrize("probability", [0.0, 0.3, 1.0])
def test_point_dropping_is_the_published_walk(probability):
    drawings = pad([spiral(30), spiral(11, 1), spiral(4, 2)])
    key = jax.random.key(5)
    drawn = np.asarray(jax.random.uniform(key, (3, 30)))
    result = unpad(jax.jit(augment.drop_points)(key, drawings, probability))
    for ours, rows, u in zip(result, unpad(drawings), drawn, strict=True):
        np.testing.assert_allclose(ours, dropped_by_hand(rows, u[: len(rows)], probability), atol=1e-6)
    assert (len(result[0]) < 30) == (probability > 0)


@needs_data
def test_point_dropping_keeps_the_end_and_the_strokes_of_real_drawings():
    drawings = pad(cats()[:200])
    result = jax.jit(augment.drop_points)(jax.random.key(0), drawings, 0.15)
    np.testing.assert_allclose(result.rows[..., :2].sum(1), drawings.rows[..., :2].sum(1), atol=1e-3)
    np.testing.assert_array_equal(result.rows[..., 2].sum(1), drawings.rows[..., 2].sum(1))
    assert 0.9 < result.lengths.sum() / drawings.lengths.sum() < 0.99
    for rows, length in zip(np.asarray(result.rows), result.lengths, strict=True):
        assert not rows[length:].any() and rows[length - 1, 2] == 1


def test_stretching_draws_one_factor_for_each_axis_of_each_drawing():
    drawings = Drawings(jnp.ones((5000, 3, 3)), jnp.full(5000, 3))
    result = np.asarray(augment.stretch(jax.random.key(0), drawings, 0.15).rows)
    assert (result == result[:, :1]).all() and (result[..., 2] == 1).all()
    x, y = result[:, 0, 0], result[:, 0, 1]
    for factor in (x, y):
        assert 0.85 <= factor.min() < 0.8501 + 0.001 and 1.149 < factor.max() <= 1.15
        assert factor.std() == pytest.approx(0.3 / np.sqrt(12), rel=0.03)
    assert abs(np.corrcoef(x, y)[0, 1]) < 0.05


def test_flipping_and_turning_keep_lengths_and_the_pen():
    drawings = pad([spiral(20, seed) for seed in range(400)])
    flipped = np.asarray(augment.flip(jax.random.key(0), drawings, 0.5).rows)
    ratio = flipped[:, 0, 0] / drawings.rows[:, 0, 0]
    assert set(np.unique(ratio)) == {-1.0, 1.0} and 0.4 < (ratio < 0).mean() < 0.6
    np.testing.assert_array_equal(flipped[..., 1:], drawings.rows[..., 1:])
    turned = np.asarray(augment.turn(jax.random.key(0), drawings, 10.0).rows)
    sizes = [np.hypot(rows[..., 0], rows[..., 1]) for rows in (turned, drawings.rows)]
    np.testing.assert_allclose(*sizes, rtol=1e-5)
    angle = np.angle((turned[:, 0] @ [1, 1j, 0]) / (drawings.rows[:, 0] @ [1, 1j, 0]), deg=True)
    assert 9.5 < np.abs(angle).max() <= 10.001 and abs(angle.mean()) < 1.0

"""Corruptions of drawings: their strength, and no change outside of the rows of a batch."""

import jax
import numpy as np
import pytest

from sketch.data import corruptions, procedural
from sketch.data.strokes import from_polylines, pad, scaled, to_polylines, unpad

CATS = pad(procedural.drawings("cat", 16))
ONE_STROKE = from_polylines([np.array([[0.0, 0], [200, 0], [200, 100], [10, 90]])])


def lines_of(drawings):
    return [to_polylines(drawing) for drawing in unpad(drawings)]


def size_of(lines):
    places = np.concatenate(lines)
    return np.max(places.max(0) - places.min(0))


def test_half_of_the_strokes_move_by_more_than_the_least_and_keep_their_shape():
    result = jax.jit(corruptions.shift_strokes)(jax.random.key(0), CATS)
    for before, after in zip(lines_of(CATS), lines_of(result), strict=True):
        ways = []
        for a, b in zip(before, after, strict=True):
            np.testing.assert_allclose(np.diff(a, axis=0), np.diff(b, axis=0), atol=1e-2)
            ways.append(np.linalg.norm(b[0] - a[0]) / size_of(before))
        ways = np.array(ways)
        assert (ways > 1e-3).sum() == len(before) // 2
        assert ((ways > 0.149) & (ways < 0.501))[ways > 1e-3].all()


def test_a_share_of_the_strokes_goes_and_the_others_stay_where_they_were():
    result = jax.jit(corruptions.remove_strokes)(jax.random.key(1), CATS)
    for before, after in zip(lines_of(CATS), lines_of(result), strict=True):
        assert len(after) == len(before) - max(1, round(0.3 * len(before)))
        left = iter(before)
        for line in after:  # in their order
            assert any(len(line) == len(old) and np.abs(line - old).max() < 1e-2 for old in left)


def test_half_of_the_strokes_come_from_one_other_drawing_in_the_same_box():
    tall = pad([np.concatenate([d, np.zeros((400 - len(d), 3), np.float32)]) for d in unpad(CATS)])
    roomy = tall._replace(lengths=CATS.lengths)
    result = jax.jit(corruptions.swap_strokes)(jax.random.key(2), roomy)
    drawn = lines_of(CATS)
    donors = set()
    for number, after in enumerate(lines_of(result)):
        own = len(drawn[number]) - len(drawn[number]) // 2
        for line in after[:own]:
            assert any(len(line) == len(old) and np.abs(line - old).max() < 1e-2 for old in drawn[number])
        shapes = [np.diff(line, axis=0) for line in after[own:]]
        for donor, lines in enumerate(drawn):
            ratio = size_of(drawn[number]) / size_of(lines)
            parts = [np.diff(line, axis=0) * ratio for line in lines]
            same = [any(len(s) == len(p) and np.allclose(s, p, atol=1e-2) for p in parts) for s in shapes]
            if donor != number and len(same) == len(lines) // 2 and all(same):
                donors.add((donor - number) % len(drawn))
    assert len(donors) == 1


def test_swapping_never_needs_more_rows_than_there_are():
    result = jax.jit(corruptions.swap_strokes)(jax.random.key(2), CATS)
    assert result.rows.shape == CATS.rows.shape and max(result.lengths) <= CATS.rows.shape[1]
    for row, length in zip(np.asarray(result.rows), result.lengths, strict=True):
        assert row[length - 1, 2] == 1 and not row[length:].any()


def test_every_point_trembles_with_the_deviation_that_was_drawn():
    many = pad(unpad(CATS) * 8)
    result = jax.jit(corruptions.jitter)(jax.random.key(3), many)
    np.testing.assert_array_equal(result.rows[..., 2], many.rows[..., 2])
    shares = []
    for before, after in zip(lines_of(many), lines_of(result), strict=True):
        shares.append(np.std(np.concatenate(after) - np.concatenate(before)) / size_of(before))
    assert 0.04 < min(shares) < 0.065 and 0.105 < max(shares) < 0.14


def test_a_cut_drawing_is_its_own_beginning():
    result = jax.jit(corruptions.truncate)(jax.random.key(4), pad([*unpad(CATS), ONE_STROKE, ONE_STROKE[:2]]))
    shares = np.asarray(result.lengths[:16]) / CATS.lengths
    assert 0.17 < shares.min() < 0.35 and 0.45 < shares.max() <= 0.6
    assert result.lengths[16:].tolist() == [2, 2]
    for before, after in zip(unpad(CATS), unpad(result), strict=False):
        np.testing.assert_array_equal(after[:, :2], before[: len(after), :2])
        assert after[-1, 2] == 1


def test_every_drawing_is_damaged_whatever_its_strokes_and_its_unit():
    many = pad([*unpad(CATS), *[ONE_STROKE] * 16])
    result = jax.jit(corruptions.corrupt)(jax.random.key(5), many)
    small = jax.jit(corruptions.corrupt)(jax.random.key(5), scaled(many, 0.01))
    for before, after, tiny in zip(unpad(many), unpad(result), unpad(small), strict=True):
        assert len(before) != len(after) or np.abs(before[1:] - after[1:]).max() > 5
        np.testing.assert_allclose(tiny[:, :2] * 100, after[:, :2], atol=0.05)
    with pytest.raises(ValueError, match="swapping strokes needs at least two drawings in a batch, got one"):
        corruptions.corrupt(jax.random.key(0), pad([ONE_STROKE]))

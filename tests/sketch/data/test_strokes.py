"""Formats of drawings: conversions are inverse to each other."""

import jax
import numpy as np
import pytest

from sketch.data import strokes
from sketch.data.strokes import Drawings
from tests.support.quickdraw import by_pen, cats, needs_data

# Two strokes by hand: (1, 2) -> (4, 6), pen up, (4, 0) -> (5, 0) -> (5, 1).
LINES = [np.array([[1, 2], [4, 6]]), np.array([[4, 0], [5, 0], [5, 1]])]
ROWS3 = [[1, 2, 0], [3, 4, 1], [0, -6, 0], [1, 0, 0], [0, 1, 1]]
ROWS5 = [[1, 2, 1, 0, 0], [3, 4, 0, 1, 0], [0, -6, 1, 0, 0], [1, 0, 1, 0, 0], [0, 1, 0, 1, 0], [0, 0, 0, 0, 1]]


def test_polylines_stroke3_and_stroke5_of_a_drawing_written_by_hand():
    np.testing.assert_array_equal(strokes.from_polylines(LINES), ROWS3)
    for result, expected in zip(strokes.to_polylines(np.array(ROWS3)), LINES, strict=True):
        np.testing.assert_array_equal(result, expected)
    np.testing.assert_array_equal(strokes.to_stroke5(np.array(ROWS3), 6), ROWS5)
    np.testing.assert_array_equal(strokes.from_stroke5(np.array(ROWS5)), ROWS3)
    assert strokes.to_stroke5(np.array(ROWS3), 5)[:, 4].sum() == 0  # the longest drawing has no row that ends it


def test_a_batch_in_a_program_is_the_drawings_one_by_one():
    drawings = strokes.pad([np.array(ROWS3), np.array(ROWS3[:2])], 6)
    rows = jax.jit(strokes.batch_to_stroke5)(drawings)
    np.testing.assert_array_equal(rows[0], ROWS5)
    np.testing.assert_array_equal(rows[1], strokes.to_stroke5(np.array(ROWS3[:2]), 6))
    back = jax.jit(strokes.batch_from_stroke5)(rows)
    np.testing.assert_array_equal(back.rows, drawings.rows)
    np.testing.assert_array_equal(back.lengths, [5, 2])
    for result, expected in zip(strokes.unpad(back), (ROWS3, ROWS3[:2]), strict=True):
        np.testing.assert_array_equal(result, expected)


def test_a_drawing_that_ends_at_once_is_empty_unless_the_published_off_by_one_is_wanted():
    rows = np.array([ROWS5[-1], *ROWS5[:2]])
    assert strokes.from_stroke5(rows).shape == (0, 3)
    assert strokes.from_stroke5(rows, published_off_by_one=True).shape == (3, 3)


def test_offsets_are_clipped_and_scaled_by_their_deviation():
    drawings = strokes.pad([np.array([[2000, -3000, 0], [1, 1, 1]])])
    np.testing.assert_array_equal(drawings.rows[0, 0], [1000, -1000, 0])
    drawings = strokes.pad([np.array(ROWS3), np.array([[7, 7, 0], [7, 7, 1]])], 9)
    offsets = [1, 2, 3, 4, 0, -6, 1, 0, 0, 1, 7, 7, 7, 7]
    assert strokes.scale_factor(drawings) == pytest.approx(np.std(offsets))
    shrunk = strokes.scaled(drawings, 0.5)
    np.testing.assert_array_equal(shrunk.rows[0, :5], np.array(ROWS3) * [0.5, 0.5, 1.0])


@needs_data
def test_real_drawings_round_trip_exactly():
    drawings = cats()
    for drawing in drawings[::7]:
        lines = strokes.to_polylines(drawing)
        for result, expected in zip(lines, by_pen(drawing), strict=True):
            np.testing.assert_array_equal(result, expected)
        np.testing.assert_array_equal(strokes.from_polylines(lines), drawing)
        np.testing.assert_array_equal(strokes.from_stroke5(strokes.to_stroke5(drawing, 163)), drawing)


@needs_data
def test_the_scale_of_the_cats_is_the_published_one():
    whole = cats()[:1600]
    assert strokes.scale_factor(strokes.pad(whole)) == pytest.approx(32.4921, abs=5e-5)
    assert strokes.scale_factor(strokes.pad([drawing[1:] for drawing in whole])) == pytest.approx(30.0854, abs=5e-5)


@pytest.mark.parametrize(
    "action, message",
    [
        (lambda: strokes.from_polylines([]), "the drawing has no points"),
        (lambda: strokes.from_polylines([np.ones((2, 3))]), r"stroke 0 must be \[n, 2\], got \[2, 3\]"),
        (lambda: strokes.to_stroke5(np.array(ROWS3), 4), "a drawing of 5 points does not fit into 4 rows"),
        (lambda: strokes.pad([np.array(ROWS3)], 4), "drawing 0 has 5 points, at most 4 fit"),
        (lambda: strokes.pad([]), "needs at least one drawing, got none"),
        (lambda: strokes.scale_factor(Drawings(np.ones((1, 2, 3)), np.array([2]))), "need offsets that vary"),
    ],
)
def test_what_cannot_be_written_in_a_format_is_refused(action, message):
    with pytest.raises(ValueError, match=message):
        action()

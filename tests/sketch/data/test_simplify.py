"""The chain from raw to simplified drawings, against small cases by hand and the published pairs."""

import numpy as np
import pytest

from sketch.data import simplify
from tests.support.quickdraw import DATA, by_pen, cats, needs_data


def test_a_drawing_is_moved_to_the_origin_and_scaled_by_its_longest_side():
    first, second = simplify.fit_to_box([np.array([[10.0, 20], [30, 20]]), np.array([[20.0, 25]])], 100.0)
    np.testing.assert_allclose(first, [[0, 0], [100, 0]])
    np.testing.assert_allclose(second, [[50, 25]])
    np.testing.assert_array_equal(simplify.fit_to_box([np.array([[3.0, 4]])])[0], [[0, 0]])


def test_resampling_goes_along_the_line_and_keeps_its_end():
    result = simplify.resample(np.array([[0.0, 0], [1.5, 0], [1.5, 2]]))
    np.testing.assert_allclose(result, [[0, 0], [1, 0], [1.5, 0.5], [1.5, 1.5], [1.5, 2]])


def test_points_near_the_line_go_and_corners_stay():
    line = np.array([[0.0, 0], [5, 1.9], [10, 0], [10, 5], [10, 10]])
    np.testing.assert_array_equal(simplify.ramer_douglas_peucker(line), line[[0, 2, 4]])
    np.testing.assert_array_equal(simplify.ramer_douglas_peucker(line, 1.0), line[[0, 1, 2, 4]])


def test_distances_are_to_the_line_without_ends():
    # (-9, 1) is 9 away from the segment and 1 from the line that the segment lies on.
    line = np.array([[0.0, 0], [-9, 1], [10, 0]])
    np.testing.assert_array_equal(simplify.ramer_douglas_peucker(line), line[[0, 2]])


def test_a_closed_stroke_keeps_its_furthest_point():
    line = np.array([[0.0, 0], [3, 0], [3, 3], [0, 0]])
    np.testing.assert_array_equal(simplify.ramer_douglas_peucker(line), line[[0, 1, 2, 3]])


@needs_data
def test_published_raw_drawings_become_the_published_simplified_ones():
    with np.load(DATA / "cat_raw_25.npz") as file:
        places = file["points_xyt"][:, :2].astype(float)
        strokes = np.split(places, np.cumsum(file["points_per_stroke"])[:-1])
        ends = np.cumsum(file["strokes_per_sketch"])
    exact = total = 0
    for start, end, published in zip([0, *ends[:-1]], ends, cats(), strict=False):
        for ours, theirs in zip(simplify.simplify(strokes[start:end]), by_pen(published), strict=True):
            exact += np.array_equal(ours, theirs)
            total += 1
    assert total == 221 and exact >= 214


def test_a_point_stays_a_point():
    result = simplify.simplify([np.array([[5.0, 5]]), np.array([[5.0, 5], [260, 5]])])
    np.testing.assert_array_equal(result[0], [[0, 0]])
    assert result[1] == pytest.approx(np.array([[0, 0], [255, 0]]))

"""Extent of drawings: absolute positions, drawings that start at the origin, and the way back."""

import numpy as np
import pytest

from sketch.data import extent
from sketch.data.extent import Extent
from sketch.data.strokes import from_polylines
from tests.support.quickdraw import cats, needs_data

RNG = np.random.default_rng(0)


def circles(radius, centre):
    """Drawings from angles that differ, around a centre."""
    turns = RNG.uniform(0, 2 * np.pi, 100)[:, None] + np.linspace(0, 2 * np.pi, 50)
    return [from_polylines([radius * np.stack([np.cos(a), np.sin(a)], axis=1) + centre]) for a in turns]


def test_the_extent_of_absolute_drawings_is_their_box():
    left, top, side, from_first_point = extent.measure(circles(50, (70, 90)))
    np.testing.assert_allclose([left, top, side], [20, 40, 100], atol=0.5)
    assert not from_first_point


def test_drawings_that_start_at_the_origin_are_recognised():
    drawings = circles(400, (0, 0))
    for drawing in drawings:
        drawing[0, :2] = 0.0  # Sketch-RNN's own files
    assert extent.measure(drawings)[3] and extent.measure(drawings).side == pytest.approx(800, rel=0.01)


@pytest.mark.parametrize("place", [Extent(), Extent(-3.0, 7.0, 840.0), Extent(0.0, 0.0, 840.0, True)])
def test_positions_come_back_from_the_unit_of_the_drawings(place):
    lines = [RNG.uniform(0, 255, (4, 2)), RNG.uniform(0, 255, (2, 2))]
    converted = extent.fitted(lines, place)
    for line, expected in zip(extent.restored(converted, lines, place), lines, strict=True):
        np.testing.assert_allclose(line, expected, atol=1e-9)
    if place.from_first_point:
        np.testing.assert_array_equal(converted[0][0], [0, 0])
        # Without a given stroke, the drawing is in the middle of the box.
        points = np.concatenate(extent.restored(converted, [], place))
        np.testing.assert_allclose((points.min(axis=0) + points.max(axis=0)) / 2, 127.5, atol=1e-9)


@needs_data
def test_the_extent_of_published_vectors_is_the_box_of_255():
    assert extent.measure(cats()) == Extent(0.0, 0.0, 255.0, False)

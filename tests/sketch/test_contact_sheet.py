"""Rendered files: read back, and compared with cairo."""

import numpy as np
import pytest
from PIL import Image

from sketch import contact_sheet
from sketch.data import svg
from sketch.data.strokes import from_polylines, to_polylines
from tests.support.cairo import needs_cairo, paint
from tests.support.quickdraw import cats, needs_data


def scribble(seed=0):
    rng = np.random.default_rng(seed)
    lines = [rng.uniform(-50, 300, (size, 2)) for size in (5, 1, 2, 9)]
    return from_polylines(lines)


def test_svg_gives_a_drawing_back():
    for factor in (1.0, 1e-3, 1e3):
        strokes = scribble() * np.float32([factor, factor, 1])
        result = svg.parse(contact_sheet.svg(strokes))
        np.testing.assert_array_equal(result[:, 2], strokes[:, 2])
        np.testing.assert_allclose(result[:, :2], strokes[:, :2], atol=1e-4 * factor)
    whole = np.round(scribble())
    np.testing.assert_array_equal(svg.parse(contact_sheet.svg(whole)), whole)
    assert contact_sheet.svg(whole).count("<path") == 4


@needs_data
def test_svg_gives_real_drawings_back_exactly():
    for strokes in cats()[:50]:
        np.testing.assert_array_equal(svg.parse(contact_sheet.svg(strokes)), strokes)


def test_an_svg_shows_all_of_its_drawing():
    text = contact_sheet.svg(from_polylines([np.array([[10, 20], [110, 20], [110, 70]])]), line_width=4)
    assert 'viewBox="3 13 114 64"' in text  # 5 % of 100 and half of the line on each side
    assert svg.parse(text).shape == (3, 3)
    assert "nan" not in contact_sheet.svg(np.zeros((0, 3))) and "nan" not in contact_sheet.svg(np.array([[5, 5, 1]]))


@needs_cairo
def test_bitmaps_of_any_number_of_drawings_are_cairos():
    drawings = [scribble(seed) for seed in range(7)] + [np.zeros((0, 3), np.float32)]
    result = contact_sheet.bitmaps(drawings, batch=3)
    assert result.shape == (8, 28, 28) and result.dtype == np.uint8 and not result[7].any()
    for strokes, image in zip(drawings[:7], result, strict=False):
        lines = to_polylines(strokes)
        points = np.concatenate(lines)
        low, high = points.min(axis=0), points.max(axis=0)
        factor = 255 / (high - low).max()
        placed = [(line - (low + high) / 2) * factor + 128 for line in lines]
        error = np.abs(image.astype(float) - paint(placed)) / 255
        assert error.mean() < 0.004 and error.max() < 0.2
    assert contact_sheet.bitmaps([]).shape == (0, 28, 28)


def test_bitmaps_do_not_depend_on_the_unit():
    factors = [np.float32([factor, factor, 1]) for factor in (1.0, 0.01, 1000.0)]
    first, *others = contact_sheet.bitmaps([scribble() * factor for factor in factors]).astype(int)
    assert first.max() == 255 and max(np.abs(other - first).max() for other in others) <= 1


def test_a_sheet_holds_each_drawing_at_its_place(tmp_path):
    drawings = [scribble(seed) for seed in range(3)]
    image = contact_sheet.sheet(drawings, 2, ["one", "two", "a caption that is far too long"], side=40)
    assert image.shape == (2 * 55 + 1, 2 * 41 + 1)
    canvas = contact_sheet.Canvas(side=40, line_width=6.0, samples=2)
    expected = 255 - contact_sheet.bitmaps(drawings, canvas)
    for place, ink in zip([(1, 1), (1, 42), (56, 1)], expected, strict=True):
        np.testing.assert_array_equal(image[place[0] : place[0] + 40, place[1] : place[1] + 40], ink)
        assert image[place[0] + 40 : place[0] + 54, place[1] : place[1] + 40].min() < 100  # its caption
    assert image[56:110, 42:82].min() == 255  # nothing where the fourth would be
    assert contact_sheet.sheet(drawings, side=40).shape == (42, 3 * 41 + 1)
    contact_sheet.save_png(tmp_path / "s.png", image)
    with Image.open(tmp_path / "s.png") as read:
        np.testing.assert_array_equal(np.asarray(read), image)


def test_what_cannot_be_a_sheet_is_refused(tmp_path):
    with pytest.raises(ValueError, match="needs drawings and columns, got 0 and 3"):
        contact_sheet.sheet([], 3)
    with pytest.raises(ValueError, match="a sheet of 1 drawings needs that number of captions, got 2"):
        contact_sheet.sheet([scribble()], 3, ["a", "b"])
    with pytest.raises(ValueError, match=r"bytes .* got float64 \[2, 2\]"):
        contact_sheet.save_png(tmp_path / "s.png", np.zeros((2, 2)))


def test_lines_of_an_svg_are_as_thin_as_on_the_drawing_page():
    text = contact_sheet.svg(from_polylines([np.array([[0, 0], [255, 0], [255, 100]])]))
    assert 'stroke-width="3"' in text


def test_a_marked_sheet_has_the_prefix_in_black_and_the_rest_in_colour():
    # One line from left to right; the first half is the prefix.
    drawing = from_polylines([np.array([[0, 0], [100, 0], [200, 0]])])
    image = contact_sheet.marked_sheet([drawing], [2]).astype(int)
    row = image[image.shape[0] // 2]
    assert (row[20:50] == 0).all() and (row[65:100] == contact_sheet.CONTINUED).all()
    whole = contact_sheet.marked_sheet([drawing, drawing], [3, 0]).astype(int)
    assert (np.ptp(whole[:, : whole.shape[1] // 2], axis=2) == 0).all() and np.ptp(whole, axis=2).any()

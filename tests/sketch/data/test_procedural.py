"""Procedural drawings: deterministic for a seed, in the published form, and recognisable."""

import numpy as np
import pytest

from sketch import raster
from sketch.data import procedural
from sketch.data.drawing_files import check_strokes
from sketch.data.strokes import pad, to_polylines


def test_a_drawing_depends_on_its_class_its_number_and_the_seed_and_on_nothing_else():
    few, many = procedural.drawings("cat", 3, seed=5), procedural.drawings("cat", 6, seed=5)
    for one, same in zip(few, many, strict=False):
        np.testing.assert_array_equal(one, same)
    np.testing.assert_array_equal(procedural.drawings("cat", 1, seed=5, first=4)[0], many[4])
    different = [*many, *procedural.drawings("cat", 6, seed=6), *procedural.drawings("face", 6, seed=5)]
    assert len({drawing.tobytes() for drawing in different}) == 18


@pytest.mark.parametrize("name", procedural.CLASSES)
def test_drawings_have_the_form_of_simplified_ones(name):
    for drawing in procedural.drawings(name, 20):
        points = np.concatenate(to_polylines(check_strokes(drawing)))
        # The outermost point may have lain on a line, as in published drawings.
        assert (points == points.round()).all() and 0 <= points.min() and 250 <= np.ptp(points, axis=0).max() <= 255
        assert len(drawing) < 200 and drawing[-1, 2] == 1


def test_cats_have_as_many_strokes_as_peoples():
    strokes = [drawing[:, 2].sum() for drawing in procedural.drawings("cat", 100)]
    assert 8 < np.mean(strokes) < 15 and np.std(strokes) > 0.5


def test_the_classes_are_separable_by_their_mean_images():
    names = list(procedural.CLASSES)
    drawings = pad([drawing for name in names for drawing in procedural.drawings(name, 60)])
    flat = np.asarray(raster.exact(drawings, raster.Canvas(samples=1))).reshape(len(names), 60, -1)
    means = flat[:, :40].mean(axis=1)
    distance = ((flat[:, 40:, None] - means) ** 2).sum(-1)
    right = distance.argmin(-1) == np.arange(len(names))[:, None]
    assert right.mean() > 0.85 and right.mean(axis=1).min() > 0.5


def test_an_unknown_class_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match=r"no drawings of 'cats'; did you mean 'cat'\?"):
        procedural.drawings("cats", 1)

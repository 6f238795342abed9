"""Rendering: areas by hand, cairo, published bitmaps, and gradients."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sketch import raster
from sketch.data.strokes import Drawings, from_polylines, pad
from sketch.raster import Canvas
from tests.support.cairo import needs_cairo, paint
from tests.support.quickdraw import DATA, by_pen, cats, needs_data

# A unit of the drawing is a pixel: 256 + 2 * (24 + 16 / 2) = 320.
PLAIN = Canvas(side=320, line_width=16.0, padding=24.0)


def scribbles(count, seed=0):
    """Random drawings of some strokes, in the box from 0 to 255."""
    rng = np.random.default_rng(seed)
    drawings = []
    for _ in range(count):
        sizes = rng.integers(2, 9, rng.integers(1, 7))
        lines = [rng.uniform(0, 255, 2) + np.cumsum(rng.normal(0, 30, (size, 2)), axis=0) for size in sizes]
        points = np.concatenate(lines)
        low, extent = points.min(0), (points.max(0) - points.min(0)).max()
        drawings.append([(line - low) * 255 / extent for line in lines])
    return drawings


def test_a_straight_line_is_a_rectangle_with_two_half_discs():
    drawings = pad([from_polylines([np.array([[0, 0], [255, 0]])])])
    image = np.asarray(raster.exact(drawings, PLAIN)[0])
    assert image.sum() == pytest.approx(255 * 16 + np.pi * 8**2, rel=1e-4)
    # Centred: 0.5 to 255.5 across and 128 down, 32 pixels of margin before it.
    assert image[160, 32:287].min() == 1.0 and image[152:168, 160].min() == 1.0
    assert image[151, 160] == image[168, 160] == 0.0 and image[160, 24] == pytest.approx(0.5, abs=0.1)
    assert image[160, :24].max() == image[160, 296:].max() == 0.0


def test_a_line_without_length_is_a_disc_and_a_lone_point_draws_nothing():
    wide = np.array([[0, 0], [255, 0]])
    alone, twice = from_polylines([wide, np.array([[128, 99]])]), from_polylines([wide, np.array([[128, 99]] * 2)])
    lone, disc, bare = np.asarray(raster.exact(pad([alone, twice, from_polylines([wide])]), PLAIN)).sum((1, 2))
    assert lone == pytest.approx(bare, rel=1e-6) and disc - bare == pytest.approx(np.pi * 8**2, rel=2e-3)


def test_strokes_are_laid_over_one_another_and_lines_of_a_stroke_are_not():
    path = np.array([[0, 0], [255, 100], [0, 0]])
    once = from_polylines([path])
    again = from_polylines([path[:2], path[1:]])
    one, two = np.asarray(raster.exact(pad([once, again])))
    np.testing.assert_allclose(two, 1 - (1 - one) ** 2, atol=1e-6)
    assert (two - one).max() > 0.2
    spacing = [np.array([[0, 0], [255, 0]]), np.array([[0, 255], [255, 255]])]
    image = np.asarray(raster.exact(pad([from_polylines(spacing)]), PLAIN)[0])
    assert image.sum() == pytest.approx(2 * (255 * 16 + np.pi * 8**2), rel=1e-4)


def test_a_drawing_of_any_size_fills_the_canvas_and_an_empty_one_is_blank():
    lines = scribbles(1)[0]
    small = from_polylines([line * 0.01 - 3.0 for line in lines])
    drawings = pad([from_polylines(lines), small, small[:0]])
    image, same, blank = np.asarray(raster.exact(drawings))
    np.testing.assert_allclose(image, same, atol=1e-3)
    assert image.max() == 1.0 and not blank.any()


def test_drawings_together_are_drawings_one_by_one():
    drawings = pad([from_polylines(lines) for lines in scribbles(5)])
    alone = raster.exact(drawings)
    np.testing.assert_allclose(raster.exact(drawings, at_once=3), alone, atol=1e-6)
    np.testing.assert_allclose(
        jax.vmap(lambda d: raster.exact(jax.tree.map(lambda x: x[None], d)))(drawings)[:, 0], alone, atol=1e-6
    )


def test_images_of_single_strokes_give_every_canvas_on_the_way():
    lines = scribbles(1, seed=3)[0]
    assert len(lines) > 3
    drawing, places = from_polylines(lines), np.concatenate(lines)[None]
    images = raster.stroke_images(pad([drawing]), len(lines) + 2, places=places)
    canvases = 1 - np.cumprod(1 - np.asarray(images[0]), axis=0)
    for count in range(1, len(lines) + 3):
        so_far = np.concatenate(lines[:count])
        part = pad([from_polylines(lines[:count])])
        np.testing.assert_allclose(canvases[count - 1], raster.exact(part, places=so_far[None])[0], atol=1e-6)
    few = raster.stroke_images(pad([drawing]), 2, places=places)
    np.testing.assert_allclose(few[0], images[0, :2], atol=1e-6)


@needs_cairo
@pytest.mark.parametrize("canvas", [Canvas(), Canvas(side=64), Canvas(side=64, line_width=8.0)])
def test_images_are_cairos(canvas):
    drawings = scribbles(20, seed=1)
    ours = raster.exact(pad([from_polylines(lines) for lines in drawings]), canvas)
    for lines, image in zip(drawings, np.asarray(ours), strict=True):
        shift = (256 - np.concatenate(lines).max(0)) / 2
        theirs = paint([line + shift for line in lines], canvas.side, canvas.line_width, canvas.padding) / 255
        assert np.abs(image - theirs).mean() < 0.003 and np.abs(image - theirs).max() < 0.12


@needs_data
def test_images_are_the_published_bitmaps():
    with np.load(DATA / "bitmaps28.npz") as file:
        assert (file["cat_lines"][:1800] == np.arange(1800)).all()
        expected = file["cat"][:400].reshape(-1, 28, 28) / 255
    drawings = pad(cats()[:400])
    error = np.abs(np.asarray(raster.exact(drawings, places=raster.published_places(drawings))) - expected)
    assert error.mean() < 0.002 and error.max() < 0.12


@needs_cairo
@needs_data
def test_the_recipe_on_cairo_is_the_published_one_to_the_byte():
    with np.load(DATA / "bitmaps28.npz") as file:
        expected = file["cat"][:200].reshape(-1, 28, 28)
    for drawing, image in zip(cats(), expected, strict=False):
        lines = by_pen(drawing)
        shift = (256 - np.concatenate(lines).max(0)) / 2
        np.testing.assert_array_equal(paint([line + shift for line in lines]), image)


def test_the_soft_image_is_the_sigmoid_of_the_least_distance():
    lines = scribbles(1, seed=2)[0]
    canvas = Canvas(side=12)
    result = raster.soft(pad([from_polylines(lines)]), canvas, softness=0.7)[0]
    scale = 12 / 304
    shift = (256 - np.concatenate(lines).max(0)) / 2 + 24
    for y in range(12):
        for x in range(12):
            place, least = np.array([x + 0.5, y + 0.5]), np.inf
            for line in lines:
                for a, b in zip((line[:-1] + shift) * scale, (line[1:] + shift) * scale, strict=True):
                    along = np.clip((place - a) @ (b - a) / ((b - a) @ (b - a)), 0, 1)
                    least = min(least, np.hypot(*(place - a - along * (b - a))))
            assert result[y, x] == pytest.approx(1 / (1 + np.exp(-(8 * scale - least) / 0.7)), abs=1e-4)


def test_the_gradient_of_the_soft_image_is_that_of_finite_differences():
    canvas, step = Canvas(side=16), 1e-5
    with jax.enable_x64(True):
        drawings = jax.tree.map(jnp.asarray, pad([from_polylines(lines) for lines in scribbles(2, seed=4)]))
        drawings = Drawings(drawings.rows.astype(jnp.float64), drawings.lengths)
        weights = jax.random.normal(jax.random.key(0), (2, 16, 16), jnp.float64)

        def value(offsets):
            rows = drawings.rows.at[..., :2].set(offsets)
            return jnp.sum(weights * raster.soft(drawings._replace(rows=rows), canvas))

        offsets = drawings.rows[..., :2]
        slope = np.asarray(jax.jit(jax.grad(value))(offsets))
        value = jax.jit(value)
        for place in np.argwhere(np.arange(drawings.rows.shape[1]) < np.asarray(drawings.lengths)[:, None])[::3]:
            for axis in (0, 1):
                moved = jnp.zeros_like(offsets).at[*place, axis].set(step)
                difference = float(value(offsets + moved) - value(offsets - moved)) / (2 * step)
                assert slope[*place, axis] == pytest.approx(difference, rel=1e-4, abs=1e-6)
        assert np.abs(slope).max() > 1e-2


def test_the_gradient_is_finite_where_nothing_or_only_a_point_is_drawn():
    row = from_polylines([np.array([[5, 5], [5, 5]]), np.array([[5, 5]])])
    drawings = pad([row, row[:1], row[:0]])
    slope = jax.jit(jax.grad(lambda rows: raster.soft(drawings._replace(rows=rows)).sum()))(jnp.asarray(drawings.rows))
    assert np.isfinite(slope).all()


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"side": 0}, "side must be greater than 0, got 0"),
        ({"line_width": -1.0}, "line_width must be greater than 0"),
        ({"padding": -1.0}, "padding must not be negative"),
    ],
)
def test_a_canvas_that_makes_no_sense_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(Canvas(), **changes)

"""Films: captions, outlines and GIF files."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageSequence

from envs_mjx.render.film import ALARM, Caption, add_caption, outline, save_gif
from envs_mjx.render.top_view_renderer import camera, draw_frame

EXTENTS = (-2.0, -2.0, 2.0, 2.0)


def test_a_gif_keeps_its_frames_and_the_red_of_a_later_one():
    view = camera(EXTENTS, 120)
    frames = [draw_frame([], view, Caption(step=i, reward_sum=0, cost_sum=i, costing=i == 7)) for i in range(20)]
    buffer = io.BytesIO()
    save_gif(frames, buffer, 0.1)
    film = Image.open(buffer)
    assert len(ImageSequence.all_frames(film)) == 20
    film.seek(7)
    assert np.allclose(np.asarray(film.convert("RGB"))[60, 1], ALARM, atol=12)


@pytest.mark.parametrize(
    ("frames", "colours", "message"),
    [(0, 96, "at least one frame, got none"), (1, 1, "colours must be between 2 and 256, got 1")],
)
def test_an_impossible_gif_is_refused(frames, colours, message):
    with pytest.raises(ValueError, match=message):
        save_gif([Image.new("RGB", (8, 8))] * frames, io.BytesIO(), 0.1, colours)


def test_browsers_get_no_frame_shorter_than_two_hundredths_of_a_second():
    frames, buffer = [Image.new("RGB", (8, 8), (40 * i, 0, 0)) for i in range(3)], io.BytesIO()
    save_gif(frames, buffer, 0.001)
    assert Image.open(buffer).info["duration"] == 20


def test_a_caption_is_a_bar_below_the_picture_and_a_title_makes_it_taller():
    picture = Image.new("RGB", (200, 100), (0, 0, 255))
    short = add_caption(picture, Caption(step=1, reward_sum=2.0, cost_sum=0.0))
    tall = add_caption(picture, Caption(step=1, reward_sum=2.0, cost_sum=0.0, title="SafetyPointGoal1-v0"))
    assert picture.size == (200, 100) and short.width == 200 and 100 < short.height < tall.height
    assert np.array_equal(np.asarray(short)[:100], np.asarray(picture))
    assert np.asarray(short)[100:].min() < 128 < np.asarray(short)[100:].max()


def test_an_outline_leaves_the_middle_of_the_picture():
    picture = np.asarray(outline(Image.new("RGB", (100, 100), (255, 255, 255))))
    assert tuple(picture[50, 0]) == ALARM and tuple(picture[50, 50]) == (255, 255, 255)

"""The top view: positions, colours, order and captions."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from envs_mjx.render.film import ALARM, Caption
from envs_mjx.render.top_view_renderer import camera, draw_frame

EXTENTS = (-2.0, -2.0, 2.0, 2.0)
QUIET = Caption(step=0, reward_sum=0.0, cost_sum=0.0)


def item(kind: str, position, rgba, size: float | list[float] = 0.3, yaw=0.0, shape="circle") -> dict:
    return {"kind": kind, "position": np.array(position), "yaw": yaw, "size": size, "shape": shape, "rgba": rgba}


def colour_at(image: Image.Image, view, position) -> np.ndarray:
    x, y = view.place(position)
    return np.asarray(image)[round(y), round(x)].astype(int)


def test_x_points_right_and_y_points_up():
    view = camera(EXTENTS, 200)
    left, right, up = view.place((-1, 0)), view.place((1, 0)), view.place((0, 1))
    assert left[0] < right[0] and left[1] == right[1]
    assert up[1] < view.place((0, 0))[1]


def test_an_object_is_drawn_where_it_stands_and_nowhere_else():
    view = camera(EXTENTS, 300)
    image = draw_frame([item("goal", (1.0, -1.0), (0, 1, 0, 1))], view, QUIET, EXTENTS)
    assert np.allclose(colour_at(image, view, (1.0, -1.0)), (0, 255, 0), atol=3)
    for empty in ((-1.05, 0.95), (1.05, 0.95), (-1.05, -0.95)):
        assert min(colour_at(image, view, empty)) > 200


def test_a_box_turns_with_its_yaw():
    view = camera(EXTENTS, 300)
    long = item("push_box", (0, 0), (1, 0, 0, 1), size=[1.0, 0.1], yaw=np.pi / 2, shape="box")
    image = draw_frame([long], view, QUIET)
    assert np.allclose(colour_at(image, view, (0.02, 0.8)), (255, 0, 0), atol=3)
    assert min(colour_at(image, view, (0.8, 0.02))) > 200


def test_the_agent_stands_above_everything_else():
    view = camera(EXTENTS, 300)
    scene = [item("agent", (0, 0), (1, 0, 0, 1), size=0.1), item("hazard", (0, 0), (0, 0, 1, 1), size=0.5)]
    assert np.allclose(colour_at(draw_frame(scene, view, QUIET), view, (-0.05, 0)), (255, 0, 0), atol=3)


def test_a_step_with_cost_is_framed_in_red():
    view = camera(EXTENTS, 200)
    calm = draw_frame([], view, QUIET)
    alarm = draw_frame([], view, Caption(step=3, reward_sum=0.0, cost_sum=1.0, costing=True))
    assert np.allclose(np.asarray(alarm)[100, 1], ALARM, atol=3)
    assert not np.allclose(np.asarray(calm)[100, 1], ALARM, atol=3)


def test_the_camera_keeps_an_agent_that_leaves_the_arena_in_view():
    view = camera(EXTENTS, 200, paths=[np.array([[0.0, 0.0], [0.0, 4.0], [np.nan, 1.0]])])
    x, y = view.place((0.0, 4.0))
    assert 0 <= x <= 200 and 0 <= y <= 200


def test_the_arena_stays_large_enough_when_the_agent_runs_away():
    view = camera(EXTENTS, 200, paths=[np.array([[0.0, 0.0], [0.0, 90.0]])])
    (left, _), (right, _) = view.place((-2.0, 0.0)), view.place((2.0, 0.0))
    assert right - left > 200 / 3


def test_an_object_at_no_place_is_left_out():
    draw_frame([item("vase", (np.nan, 0.0), (1, 0, 0, 1))], camera(EXTENTS, 100), QUIET)


def test_a_higher_layer_covers_a_lower_one():
    view = camera(EXTENTS, 200)
    upper = item("anything", (0, 0), (1, 0, 0, 1)) | {"layer": 5}
    lower = item("anything", (0, 0), (0, 0, 1, 1)) | {"layer": 1}
    for scene in ([upper, lower], [lower, upper]):
        assert np.allclose(colour_at(draw_frame(scene, view, QUIET), view, (0, 0)), (255, 0, 0), atol=3)


def test_an_incomplete_item_is_refused():
    with pytest.raises(ValueError, match="an item of a scene needs kind, position, size, rgba, got"):
        draw_frame([{"kind": "goal", "position": (0, 0)}], camera(EXTENTS, 100), QUIET)

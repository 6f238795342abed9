"""Pictures of an episode from above, drawn from scene descriptions with Pillow. No GL backend is needed.

A scene is the result of `env.scene(state)`: a list of dicts with `kind`, `position` (x, y in metres), `yaw` (radians,
counter-clockwise), `size` (radius, or half-lengths x and y, in metres), `shape` (`circle` or `box`), `rgba` (0 to 1)
and `layer` (drawing order, from below upwards). `yaw`, `shape` and `layer` are optional.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from envs_mjx.render.film import INK, Caption, add_caption, outline

SUPERSAMPLING = 3
"""Frames are drawn this many times larger and scaled down, which smooths the edges."""

FARTHEST = 2.5
"""Largest view in arena sizes. An agent beyond it leaves the picture, so that the arena stays visible."""

FLOOR = (246, 246, 243)
GRID = (228, 228, 223)
BORDER = (150, 150, 146)
TRAIL = (60, 90, 160)

REQUIRED = ("kind", "position", "size", "rgba")
"""Entries that every item of a scene has."""

Point = Sequence[float] | np.ndarray
"""x and y in metres."""
Points = Sequence[Point] | np.ndarray
"""`[steps, 2]`, metres."""


@dataclasses.dataclass(frozen=True)
class Camera:
    """Map from metres to pixels, seen from above with x to the right and y upwards.

    Attributes:
        low: smallest x and y shown, metres.
        high: largest x and y shown, metres.
        pixels: width of the square view.
    """

    low: tuple[float, float]
    high: tuple[float, float]
    pixels: int

    @property
    def scale(self) -> float:
        """Pixels in a metre."""
        return self.pixels / max(self.high[0] - self.low[0], self.high[1] - self.low[1])

    def place(self, position: Point) -> tuple[float, float]:
        """Pixel coordinates of a point given in metres."""
        middle_x, middle_y = (self.low[0] + self.high[0]) / 2, (self.low[1] + self.high[1]) / 2
        half = self.pixels / 2
        return half + (position[0] - middle_x) * self.scale, half - (position[1] - middle_y) * self.scale


def camera(extents: Sequence[float], pixels: int, paths: Sequence[np.ndarray] = (), margin: float = 0.35) -> Camera:
    """A view of the arena and of all `paths`, up to `FARTHEST` times the arena's size.

    Args:
        extents: x_min, y_min, x_max, y_max of the arena in metres.
        pixels: width of the view.
        paths: arrays `[steps, 2]` of positions that must be visible, for example the path of the agent.
        margin: metres left free around.

    Raises:
        ValueError: for extents that are not four numbers.
    """
    extents = [float(value) for value in np.asarray(extents).reshape(-1)]
    if len(extents) != 4:
        raise ValueError(f"extents must be x_min, y_min, x_max, y_max, got {extents}")
    low, high = np.array(extents[:2]), np.array(extents[2:])
    for path in paths:
        seen = np.asarray(path, float).reshape(-1, 2)
        seen = seen[np.isfinite(seen).all(axis=1)]
        if len(seen):
            low, high = np.minimum(low, seen.min(axis=0)), np.maximum(high, seen.max(axis=0))
    middle, half = np.add(extents[:2], extents[2:]) / 2, np.subtract(extents[2:], extents[:2]) / 2
    low, high = np.maximum(low, middle - FARTHEST * half), np.minimum(high, middle + FARTHEST * half)
    low, high = low - margin, high + margin
    return Camera((float(low[0]), float(low[1])), (float(high[0]), float(high[1])), pixels)


def draw_frame(
    scene: Sequence[Mapping[str, Any]],
    view: Camera,
    caption: Caption,
    extents: Sequence[float] | None = None,
    trail: Points = (),
) -> Image.Image:
    """Draw one moment.

    Args:
        scene: the things, in the form of the module's docstring.
        view: from `camera`.
        caption: text below the view.
        extents: the arena to outline, x_min, y_min, x_max, y_max in metres.
        trail: positions `[steps, 2]` of the agent up to now, drawn fading.

    Returns:
        An RGB image, `view.pixels` wide and taller by the caption bar.

    Raises:
        ValueError: for an item without one of the required entries.
    """
    fine = dataclasses.replace(view, pixels=view.pixels * SUPERSAMPLING)
    canvas = Image.new("RGB", (fine.pixels, fine.pixels), FLOOR)
    draw = ImageDraw.Draw(canvas, "RGBA")
    _draw_floor(draw, fine, extents)
    _draw_trail(draw, fine, trail)
    for item in scene:
        missing = [name for name in REQUIRED if name not in item]
        if missing:
            raise ValueError(f"an item of a scene needs {', '.join(REQUIRED)}, got {sorted(item)}")
    for item in sorted(scene, key=lambda item: (item["kind"] == "agent", item.get("layer", 0))):
        _draw_item(draw, fine, item)
    if caption.costing:
        outline(canvas)
    return add_caption(canvas.reduce(SUPERSAMPLING), caption)


def _draw_floor(draw: ImageDraw.ImageDraw, view: Camera, extents: Sequence[float] | None) -> None:
    for axis in (0, 1):
        for metre in range(math.floor(view.low[axis]) - 3, math.ceil(view.high[axis]) + 4):
            point = [0.0, 0.0]
            point[axis] = metre
            x, y = view.place(point)
            line = (x, 0, x, view.pixels) if axis == 0 else (0, y, view.pixels, y)
            draw.line(line, fill=GRID, width=SUPERSAMPLING)
    if extents is not None:
        x_min, y_min, x_max, y_max = (float(value) for value in np.asarray(extents).reshape(-1))
        left, top = view.place((x_min, y_max))
        right, bottom = view.place((x_max, y_min))
        draw.rectangle((left, top, right, bottom), outline=BORDER, width=SUPERSAMPLING)


def _draw_trail(draw: ImageDraw.ImageDraw, view: Camera, trail: Points) -> None:
    points = [view.place(point) for point in trail]
    for index, (start, end) in enumerate(zip(points[:-1], points[1:], strict=True)):
        alpha = int(150 * (index + 1) / len(points))
        draw.line((*start, *end), fill=(*TRAIL, alpha), width=2 * SUPERSAMPLING)


def _draw_item(draw: ImageDraw.ImageDraw, view: Camera, item: Mapping[str, Any]) -> None:
    position = np.asarray(item["position"], float).reshape(-1)[:2]
    if not np.isfinite(position).all():
        return
    yaw = float(np.asarray(item.get("yaw", 0.0)))
    fill = tuple(int(round(255 * float(value))) for value in np.asarray(item["rgba"]).reshape(-1)[:4])
    fill = fill if len(fill) == 4 else (*fill, 255)
    outline = tuple(int(0.72 * value) for value in fill[:3])
    size = np.asarray(item["size"], float).reshape(-1)
    x, y = view.place(position)
    if item.get("shape", "circle") == "box":
        half_x, half_y = (float(size[0]), float(size[min(1, len(size) - 1)]))
        corners = [(half_x, half_y), (-half_x, half_y), (-half_x, -half_y), (half_x, -half_y)]
        draw.polygon([view.place(_turn(position, corner, yaw)) for corner in corners], fill=fill, outline=outline)
    else:
        radius = float(size[0]) * view.scale
        width = max(1, SUPERSAMPLING)
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=fill, outline=outline, width=width)
    if item["kind"] == "agent":
        reach = float(size.max())
        nose = [(1.7 * reach, 0.0), (0.25 * reach, 0.62 * reach), (0.25 * reach, -0.62 * reach)]
        draw.polygon([view.place(_turn(position, corner, yaw)) for corner in nose], fill=(*INK, 255))


def _turn(position: Point, offset: tuple[float, float], yaw: float) -> tuple[float, float]:
    """`position` plus `offset` rotated by `yaw`."""
    cosine, sine = math.cos(yaw), math.sin(yaw)
    return (
        position[0] + cosine * offset[0] - sine * offset[1],
        position[1] + sine * offset[0] + cosine * offset[1],
    )

"""Pictures of an episode from above, drawn from scene descriptions with Pillow. No GL backend is needed.

A scene is the result of `env.scene(state)`: a list of dicts with `kind`, `position` (x, y in metres), `yaw` (radians,
counter-clockwise), `size` (radius, or half-lengths x and y, in metres), `shape` (`circle` or `box`), `rgba` (0 to 1)
and `layer` (drawing order, from below upwards). `yaw`, `shape` and `layer` are optional.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

SUPERSAMPLING = 3
"""Frames are drawn this many times larger and scaled down, which smooths the edges."""

FARTHEST = 2.5
"""Largest view in arena sizes. An agent beyond it leaves the picture, so that the arena stays visible."""

FLOOR = (246, 246, 243)
GRID = (228, 228, 223)
BORDER = (150, 150, 146)
INK = (40, 42, 46)
MUTED = (112, 114, 118)
ALARM = (206, 38, 38)
TRAIL = (60, 90, 160)

REQUIRED = ("kind", "position", "size", "rgba")
"""Entries that every item of a scene has."""

Point = Sequence[float] | np.ndarray
"""x and y in metres."""
Points = Sequence[Point] | np.ndarray
"""`[steps, 2]`, metres."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Caption:
    """Text of the bar below the view.

    Attributes:
        step: control steps since the start of the episode.
        reward_sum: reward since the start.
        cost_sum: cost since the start.
        costing: whether this step had a cost; the frame is then outlined in red.
        title: text of the first line, for example the id of the environment.
    """

    step: int
    reward_sum: float
    cost_sum: float
    costing: bool = False
    title: str = ""


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
        alarm(canvas)
    return add_caption(canvas.reduce(SUPERSAMPLING), caption)


def alarm(image: Image.Image) -> Image.Image:
    """Outline the image in red, in place; returns it."""
    width = max(2, image.width // 70)
    ImageDraw.Draw(image).rectangle((0, 0, image.width - 1, image.height - 1), outline=ALARM, width=width)
    return image


def save_gif(
    frames: Sequence[Image.Image], path: Path | str | Any, seconds_per_frame: float, colours: int = 96
) -> None:
    """Write frames as an endless GIF with one palette for all of them, without dithering.

    Args:
        frames: RGB images of one size, at least one.
        path: file name or a binary file object.
        seconds_per_frame: rounded to hundredths of a second, at least 0.02 (browsers slow down anything below).
        colours: size of the palette, 2 to 256.

    Raises:
        ValueError: for no frames, or a palette of another size.
    """
    if not frames:
        raise ValueError("a GIF needs at least one frame, got none")
    if not 2 <= colours <= 256:
        raise ValueError(f"colours must be between 2 and 256, got {colours}")
    # The palette comes from several frames, so that it includes the red outline even if the first frame has none.
    picked = [frames[index] for index in np.linspace(0, len(frames) - 1, min(len(frames), 12)).astype(int)]
    width, height = picked[0].size
    strip = Image.new("RGB", (width, height * len(picked) + 4 * 40))
    for row, frame in enumerate(picked):
        strip.paste(frame, (0, row * height))
    # Thin things (text, outline, agent) cover few pixels, so their colours would be merged with others: a swatch each.
    for row, colour in enumerate((INK, MUTED, ALARM, (255, 255, 255))):
        ImageDraw.Draw(strip).rectangle((0, height * len(picked) + 40 * row, width, strip.height), fill=colour)
    palette = strip.quantize(colours, method=Image.Quantize.MEDIANCUT)
    flat = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    milliseconds = max(20, round(seconds_per_frame * 100) * 10)
    flat[0].save(
        path, format="GIF", save_all=True, append_images=flat[1:], duration=milliseconds, loop=0, optimize=True
    )


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


def add_caption(image: Image.Image, caption: Caption) -> Image.Image:
    """The image with the bar of text of `caption` below it."""
    size = max(10, image.width // 26)
    font = ImageFont.load_default(size=size)
    height = int(size * (3.2 if caption.title else 1.9))
    framed = Image.new("RGB", (image.width, image.height + height), "white")
    framed.paste(image, (0, 0))
    draw = ImageDraw.Draw(framed)
    line = image.height + int(0.4 * size)
    if caption.title:
        draw.text((0.5 * size, line), caption.title, fill=MUTED, font=font)
        line += int(1.3 * size)
    parts = (
        (0.02, f"step {caption.step}", INK),
        (0.30, f"return {caption.reward_sum:.2f}", INK),
        (0.66, f"cost {caption.cost_sum:.4g}", ALARM if caption.costing else INK),
    )
    for place, text, colour in parts:
        draw.text((place * image.width, line), text, fill=colour, font=font)
    return framed

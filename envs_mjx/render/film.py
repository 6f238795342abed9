"""Films of episodes: captions, the outline of steps with cost, and GIF files."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

INK = (40, 42, 46)
MUTED = (112, 114, 118)
ALARM = (206, 38, 38)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Caption:
    """Text of the bar below the view.

    Attributes:
        step: control steps since the start of the episode.
        reward_sum: reward since the start.
        cost_sum: cost since the start.
        costing: True if this step had a cost; the frame is then outlined in red.
        title: text of the first line, for example the id of the environment.
    """

    step: int
    reward_sum: float
    cost_sum: float
    costing: bool = False
    title: str = ""


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


def outline(image: Image.Image) -> Image.Image:
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

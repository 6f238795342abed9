"""The published drawing recipe on cairo, the library that made Quick, Draw!'s bitmaps."""

import numpy as np
import pytest

try:
    import cairocffi
except (ImportError, OSError):  # cairocffi without the library it wraps is an OSError
    cairocffi = None

needs_cairo = pytest.mark.skipif(cairocffi is None, reason="cairocffi or the cairo library is not there")


def paint(lines, side=28, line_width=16.0, padding=16.0, box=256.0):
    """Bytes `[side, side]` of white strokes on black; `lines` are positions `[n, 2]` in the box, already centred."""
    total = 2 * padding + line_width
    surface = cairocffi.ImageSurface(cairocffi.FORMAT_ARGB32, side, side)
    context = cairocffi.Context(surface)
    context.set_antialias(cairocffi.ANTIALIAS_BEST)
    context.set_line_cap(cairocffi.LINE_CAP_ROUND)
    context.set_line_join(cairocffi.LINE_JOIN_ROUND)
    context.set_line_width(line_width)
    context.scale(side / (box + total), side / (box + total))
    context.translate(total / 2, total / 2)
    context.set_source_rgb(0, 0, 0)
    context.paint()
    context.set_source_rgb(1, 1, 1)
    for line in lines:
        context.move_to(*line[0])
        for place in line[1:]:
            context.line_to(*place)
        context.stroke()
    surface.flush()
    return np.frombuffer(surface.get_data(), np.uint8).reshape(side, side, 4)[..., 0].copy()

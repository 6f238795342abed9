"""Curves as inline SVG that takes the colour of the page's text, so one file reads well on light and on dark."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

from jsafe.confidence import mean_and_interval

PALETTE = ("#3b82c4", "#e0793a", "#3f9d6b", "#b05fb8", "#c19a1b", "#d2546c", "#5aa6b4", "#8c8c8c")
"""Line colours with enough contrast on white and on near-black."""

_INK = "#0a0b0c"
"""A colour nobody would choose; it is replaced by `currentColor` in the finished SVG."""


class Series:
    """One line with its band.

    Attributes:
        label: text of the legend.
        x: `[points]`.
        mean: `[points]`, over seeds.
        low: `[points]`, lower end of the 95 % interval of the mean; equal to `mean` with a single seed.
        high: `[points]`, upper end.
        each: `[seeds, points]`.
    """

    def __init__(self, label: str, x: np.ndarray, each: np.ndarray):
        """Summarise `each`, `[seeds, points]`; NaN marks what was not known."""
        self.label, self.x, self.each = label, np.asarray(x, float), np.atleast_2d(np.asarray(each, float))
        self.mean, self.low, self.high = mean_and_interval(self.each)


def line_chart(
    series: Sequence[Series],
    *,
    title: str,
    x_label: str = "environment steps per seed",
    y_label: str,
    level: float | None = None,
    level_label: str = "",
    size: tuple[float, float] = (5.4, 3.3),
) -> str:
    """An SVG element with one line and one band for each series.

    Args:
        series: series to draw; thin lines show single seeds when there is only one series.
        title: text above the axes.
        x_label: quantity and unit.
        y_label: quantity and unit.
        level: height of a dashed line, for example the cost limit.
        level_label: label of that level.
        size: width and height in inches.

    Returns:
        `<svg ...>...</svg>`, without an XML header, transparent.
    """
    style: Any = {
        "svg.fonttype": "none", "svg.hashsalt": "jsafe", "font.family": "sans-serif", "font.size": 10,
        "text.color": _INK, "axes.labelcolor": _INK, "axes.edgecolor": _INK, "xtick.color": _INK, "ytick.color": _INK,
    }  # fmt: skip
    with matplotlib.rc_context(style):
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.add_subplot()
        for colour, line in zip(_cycle(len(series)), series, strict=True):
            if len(series) == 1 and len(line.each) > 1:
                axes.plot(line.x, line.each.T, color=colour, linewidth=0.6, alpha=0.35)
            axes.fill_between(line.x, line.low, line.high, color=colour, alpha=0.2, linewidth=0)
            marker = "o" if np.isfinite(line.mean).sum() < 3 else None
            axes.plot(line.x, line.mean, color=colour, linewidth=1.8, marker=marker, label=line.label)
        if level is not None:
            axes.axhline(level, color=_INK, linestyle=(0, (5, 3)), linewidth=1.1, alpha=0.8)
            if level_label:
                axes.annotate(level_label, (1, level), xycoords=("axes fraction", "data"), xytext=(-4, 3),
                              textcoords="offset points", ha="right", va="bottom", fontsize=9)  # fmt: skip
        _fit_height(axes, series, level)
        axes.set_title(title, loc="left", fontsize=11, fontweight="bold")
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.xaxis.set_major_locator(MaxNLocator(6))
        axes.grid(color=_INK, alpha=0.12, linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        axes.margins(x=0.01)
        if len(series) > 1:
            axes.legend(frameon=False, fontsize=9)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return _embed(buffer.getvalue(), title)


def _fit_height(axes: Any, series: Sequence[Series], level: float | None) -> None:
    """Show every seed and the level; a band wider than that, which two seeds easily have, is cut off."""
    levels = np.array([] if level is None else [level])
    seen = np.concatenate([levels, *(line.each[np.isfinite(line.each)] for line in series)])
    if seen.size:
        low, high = float(seen.min()), float(seen.max())
        margin = 0.08 * (high - low) or 0.1 * abs(high) or 1.0
        axes.set_ylim(low - margin, high + margin)


def _cycle(count: int) -> list[str]:
    return [PALETTE[index % len(PALETTE)] for index in range(count)]


def _embed(svg: str, title: str) -> str:
    """The element alone, coloured by the page, as wide as its box and named for screen readers."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(re.escape(_INK), "currentColor", svg, flags=re.IGNORECASE)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    return svg.replace("<svg", f'<svg role="img" aria-label="{title}"', 1)

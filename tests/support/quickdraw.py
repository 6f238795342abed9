"""Real drawings for tests, read without the code under test."""

import functools

import numpy as np
import pytest

from tests.conftest import ROOT

DATA = ROOT.parent / "shared" / "data" / "quickdraw"

needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the shared data folder is not there")


@functools.cache
def cats() -> list[np.ndarray]:
    """The 1,800 vector cats, integers as they are in the file."""
    with np.load(DATA / "cat_1800.npz") as file:
        return np.split(file["points"], file["offsets"][1:-1])


def by_pen(strokes: np.ndarray) -> list[np.ndarray]:
    """Positions stroke by stroke, one row at a time."""
    x = y = 0
    lines, line = [], []
    for dx, dy, lift in strokes.tolist():
        x, y = x + dx, y + dy
        line.append((x, y))
        if lift:
            lines.append(np.array(line))
            line = []
    return [*lines, np.array(line)] if line else lines

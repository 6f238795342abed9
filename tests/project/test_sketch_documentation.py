"""The Python of docs/sketch.md runs unchanged."""

import re
from pathlib import Path

import numpy as np

TEXT = (Path(__file__).parents[2] / "docs/sketch.md").read_text()


def test_the_example_trains_and_draws():
    (code,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    names: dict = {}
    exec(code, names)
    assert names["following"].mean.shape[0] == 64
    assert len(names["drawings"]) == 20 and all(np.isfinite(drawing).all() for drawing in names["drawings"])

"""Rows in batches of one shape, so that a compiled program is compiled once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np


def in_batches(arrays: Sequence[Any], size: int) -> Iterator[tuple[list[np.ndarray], int]]:
    """Cut arrays `[N, ...]` into batches of `size` rows; the last one is padded with copies of its last row.

    Yields:
        The rows of each array, and the number of rows that are no padding.
    """
    for start in range(0, len(arrays[0]), size):
        part = [np.asarray(x[start : start + size]) for x in arrays]
        count = len(part[0])
        yield [np.concatenate([x, np.repeat(x[-1:], size - count, axis=0)]) for x in part], count

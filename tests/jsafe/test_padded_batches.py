"""Rows in batches of one shape: none lost, none counted twice."""

import numpy as np
import pytest

from jsafe.padded_batches import in_batches


@pytest.mark.parametrize("rows", [0, 1, 4, 7, 8])
def test_every_row_counts_once_and_every_batch_has_one_shape(rows):
    first, second = np.arange(rows * 2).reshape(rows, 2), np.arange(rows)
    seen = list(in_batches((first, second), 4))
    assert all(part.shape[0] == 4 for parts, _ in seen for part in parts)
    assert sum(count for _, count in seen) == rows
    kept = [[part[:count] for part in parts] for parts, count in seen]
    for place, whole in enumerate((first, second)):
        joined = np.concatenate([parts[place] for parts in kept]) if kept else whole[:0]
        np.testing.assert_array_equal(joined, whole)

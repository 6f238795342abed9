"""Preference pairs as arrays of tokens."""

from __future__ import annotations

from typing import Any, NamedTuple

Array = Any
"""A NumPy array on the host, or a JAX array inside a program."""


class PreferenceBatch(NamedTuple):
    """N preference pairs, padded on the right to L.

    The chosen answer is the more helpful one for a reward model, and the less harmful one for a cost model.

    Attributes:
        chosen: `[N, L]` int32, ids of prompt and chosen answer.
        rejected: `[N, L]` int32, ids of prompt and rejected answer.
        chosen_mask: `[N, L]` bool, False for padding.
        rejected_mask: `[N, L]` bool, False for padding.
        chosen_safe: `[N]` float32, +1 for a safe answer, -1 for a harmful one, 0 without a label; None without labels.
        rejected_safe: `[N]` float32, the same for the rejected answer.
    """

    chosen: Array
    rejected: Array
    chosen_mask: Array
    rejected_mask: Array
    chosen_safe: Array = None
    rejected_safe: Array = None

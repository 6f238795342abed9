"""Nearest names for error messages: the only implementation of "did you mean"."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

CUTOFF = 0.5
"""Similarity (`difflib.SequenceMatcher.ratio`) below which no name is suggested."""


def nearest(name: str, choices: Iterable[str]) -> str | None:
    """Return the choice most similar to `name`, ignoring case; None if none is similar."""
    by_folded = {choice.lower(): choice for choice in choices}
    matches = difflib.get_close_matches(str(name).lower(), by_folded, n=1, cutoff=CUTOFF)
    return by_folded[matches[0]] if matches else None


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """Return `"; did you mean 'NAME'?"` to end an error message, or `""` if no choice is similar."""
    match = nearest(name, choices)
    return f"; did you mean {match!r}?" if match else ""


def check_choice(kind: str, name: str, choices: Sequence[str]) -> str:
    """Return `name` if it is one of the choices.

    Raises:
        ValueError: naming the choices and the nearest one.
    """
    if name in choices:
        return name
    raise ValueError(f"unknown {kind} {name!r}, expected one of {sorted(choices)}{did_you_mean(name, choices)}")

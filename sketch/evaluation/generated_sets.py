"""Generated drawings of the compared systems, by training seed, temperature and best-of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from sketch.data.strokes import from_stroke5

HUMAN = "human"
"""Name of the people among the systems."""


class GeneratedSet(NamedTuple):
    """Drawings of one trained model in one setting.

    Attributes:
        seed: training seed of the model.
        temperature: sampling temperature.
        best_of: number of samples from which a critic selected each drawing; 1 without selection.
        drawings: stroke-3 in any unit.
        finished: `[n]` bool, True if the system ended the drawing itself; None if unknown.
    """

    seed: int
    temperature: float
    best_of: int
    drawings: Sequence[np.ndarray]
    finished: np.ndarray | None = None


def from_rows(rows: Any, *, seed: int, temperature: float, best_of: int = 1) -> GeneratedSet:
    """Convert sampled rows, stroke-5 `[n, N, 5]` without the start row."""
    rows = np.asarray(rows)
    return GeneratedSet(seed, temperature, best_of, [from_stroke5(one) for one in rows], (rows[..., 4] > 0).any(axis=1))


class Group(NamedTuple):
    """A system in one setting; people are a group without a setting.

    Attributes:
        system: its name.
        temperature: sampling temperature; None for people.
        best_of: see `GeneratedSet`; None for people.
        sets: one set for each training seed.
    """

    system: str
    temperature: float | None
    best_of: int | None
    sets: tuple[GeneratedSet, ...]

    @property
    def setting(self) -> tuple[float | None, int | None]:
        """Temperature and best-of; systems are compared in equal settings."""
        return self.temperature, self.best_of

    def named(self) -> dict[str, Any]:
        """Return the columns that identify its row in a table."""
        return {"system": self.system, "temperature": self.temperature, "best_of": self.best_of}


def grouped(systems: Mapping[str, Sequence[GeneratedSet]]) -> list[Group]:
    """Group the sets of each system by setting, ordered by system, best-of and temperature.

    Raises:
        ValueError: if there are no systems, a system has the name of the people or no sets, a set is empty or has
            drawings that are not stroke-3, or two sets have the same seed and setting.
    """
    if not systems:
        raise ValueError("a comparison needs at least one system, got none")
    groups = []
    for name, sets in systems.items():
        if name == HUMAN:
            raise ValueError(f"the name {HUMAN!r} is reserved for people; rename the system")
        if not sets:
            raise ValueError(f"system {name!r} needs at least one generated set, got none")
        by_setting: dict[tuple[int, float], dict[int, GeneratedSet]] = {}
        for one in sets:
            setting = (int(one.best_of), float(one.temperature))
            label = f"system {name!r}, temperature {one.temperature}, best of {one.best_of}, seed {one.seed}"
            if not len(one.drawings):
                raise ValueError(f"{label}: the set has no drawings")
            if one.finished is not None and len(one.finished) != len(one.drawings):
                raise ValueError(f"{label}: finished must have {len(one.drawings)} entries, got {len(one.finished)}")
            bad = [n for n, drawing in enumerate(one.drawings) if not _usable(drawing)]
            if bad:
                raise ValueError(f"{label}: drawing {bad[0]} must be finite stroke-3")
            if one.seed in by_setting.setdefault(setting, {}):
                raise ValueError(f"{label}: there are two such sets")
            by_setting[setting][one.seed] = one
        for (best_of, temperature), by_seed in sorted(by_setting.items()):
            groups.append(Group(name, temperature, best_of, tuple(by_seed[seed] for seed in sorted(by_seed))))
    return groups


def _usable(drawing: np.ndarray) -> bool:
    drawing = np.asarray(drawing)
    return drawing.ndim == 2 and drawing.shape[1] == 3 and bool(np.isfinite(drawing).all())


def people(vectors: Sequence[np.ndarray]) -> Group:
    """Return the people as a group with one set."""
    return Group(HUMAN, None, None, (GeneratedSet(0, 0.0, 1, vectors),))

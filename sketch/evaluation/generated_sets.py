"""Drawings of systems that are to be compared, by training seed, temperature and how many each is the best of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from sketch.data.strokes import from_stroke5

HUMAN = "human"
"""What the people are called among the systems."""


class Sample(NamedTuple):
    """What one trained model drew in one setting.

    Attributes:
        seed: of its training; tells models of one system apart.
        temperature: it drew at.
        best_of: drawings of which each is the best by some critic; 1 where there was no choice.
        drawings: stroke-3 each, in any unit.
        finished: `[n]` bool, whether each was ended by the system itself; None where that is not known.
    """

    seed: int
    temperature: float
    best_of: int
    drawings: Sequence[np.ndarray]
    finished: np.ndarray | None = None


def sample(rows: Any, *, seed: int, temperature: float, best_of: int = 1) -> Sample:
    """A sample from rows `[n, N, 5]` of stroke-5 without start rows, as `sketch.sampling.sample` gives them."""
    rows = np.asarray(rows)
    return Sample(seed, temperature, best_of, [from_stroke5(one) for one in rows], (rows[..., 4] > 0).any(axis=1))


class Group(NamedTuple):
    """A system in one setting; the people are one without a setting.

    Attributes:
        system: its name.
        temperature: None for people.
        best_of: None for people.
        samples: one for each training seed.
    """

    system: str
    temperature: float | None
    best_of: int | None
    samples: tuple[Sample, ...]

    @property
    def setting(self) -> tuple[float | None, int | None]:
        """Temperature and how many each drawing is the best of: systems are compared where both agree."""
        return self.temperature, self.best_of

    def named(self) -> dict[str, Any]:
        """What identifies its row in a table."""
        return {"system": self.system, "temperature": self.temperature, "best_of": self.best_of}


def grouped(systems: Mapping[str, Sequence[Sample]]) -> list[Group]:
    """The settings of each system, in the order of the systems, of how many each is the best of, and of temperatures.

    Raises:
        ValueError: there are no systems, one is called as the people are, has no sample, an empty one, drawings
            that are no stroke-3, or two samples of one seed and setting.
    """
    if not systems:
        raise ValueError("there are no systems to evaluate")
    found = []
    for name, samples in systems.items():
        if name == HUMAN:
            raise ValueError(f"a system cannot be called {HUMAN!r}")
        if not samples:
            raise ValueError(f"system {name!r} has no samples")
        by_setting: dict[tuple[int, float], dict[int, Sample]] = {}
        for one in samples:
            setting = (int(one.best_of), float(one.temperature))
            where = f"system {name!r}, temperature {one.temperature}, best of {one.best_of}, seed {one.seed}"
            if not len(one.drawings):
                raise ValueError(f"{where}: the sample has no drawings")
            if one.finished is not None and len(one.finished) != len(one.drawings):
                raise ValueError(f"{where}: {len(one.drawings)} drawings, but {len(one.finished)} entries in finished")
            bad = [n for n, drawing in enumerate(one.drawings) if not _usable(drawing)]
            if bad:
                raise ValueError(f"{where}: drawing {bad[0]} is not finite stroke-3")
            if one.seed in by_setting.setdefault(setting, {}):
                raise ValueError(f"{where}: there are two such samples")
            by_setting[setting][one.seed] = one
        for (best_of, temperature), by_seed in sorted(by_setting.items()):
            found.append(Group(name, temperature, best_of, tuple(by_seed[seed] for seed in sorted(by_seed))))
    return found


def _usable(drawing: np.ndarray) -> bool:
    drawing = np.asarray(drawing)
    return drawing.ndim == 2 and drawing.shape[1] == 3 and bool(np.isfinite(drawing).all())


def people(vectors: Sequence[np.ndarray]) -> Group:
    """The people as a group of one sample."""
    return Group(HUMAN, None, None, (Sample(0, 0.0, 1, vectors),))

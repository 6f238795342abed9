"""Settings of data sets of drawings; imports neither JAX nor NumPy."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jsafe.suggestions import did_you_mean
from sketch.settings import Settings

BITMAP_SIDE = 28
"""Pixels of one side of a published bitmap."""

SPLITS = ("train", "valid", "test")

MAX_POINTS = 1000
"""Points of the longest accepted drawing; the longest simplified ones have about 500 points."""


@dataclass(frozen=True, kw_only=True)
class ReadConfig(Settings):
    """Settings for reading files of drawings.

    Attributes:
        allow_pickle: unpickle Sketch-RNN's own files, which can run arbitrary code.
        skip: drop unusable drawings and count them.
        max_points: points of the longest drawing that is accepted; None for `MAX_POINTS`, and in training without
            drawings far longer than the others.
    """

    allow_pickle: bool = False
    skip: bool = False
    max_points: int | None = None

    def __post_init__(self) -> None:
        """Validate the values."""
        if self.max_points is not None and self.max_points < 1:
            raise ValueError(f"max_points must be at least 1, got {self.max_points}")

    @property
    def limit(self) -> int:
        """Largest number of points of a drawing."""
        return MAX_POINTS if self.max_points is None else self.max_points

    def arguments(self) -> dict[str, Any]:
        """Arguments of `sketch.data.drawing_files.load`."""
        return {"allow_pickle": self.allow_pickle, "skip": self.skip, "max_points": self.limit}


@dataclass(frozen=True, kw_only=True)
class ClassFilter(Settings):
    """Selection of drawings by class.

    Attributes:
        classes: classes to use; empty for all.
        without: classes to drop.
        recognized_only: use only drawings that the game recognised.
    """

    classes: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    recognized_only: bool = False

    def check_names(self, available: Iterable[str]) -> None:
        """Check that every named class is available.

        Raises:
            ValueError: if one is not; the message has the nearest name.
        """
        available = sorted(available)
        for name in sorted({*self.classes, *self.without} - set(available)):
            listed = ", ".join(available[:12]) + ", ..." * (len(available) > 12)
            raise ValueError(
                f"there are no drawings of {name!r}{did_you_mean(name, available)} (classes: {listed or 'none'})"
            )

    def accepts(self, label: str) -> bool:
        """True if the class is selected."""
        return (not self.classes or label in self.classes) and label not in self.without


@dataclass(frozen=True, kw_only=True)
class DatasetConfig(Settings):
    """Source and split of a data set.

    Attributes:
        data: files and folders of training drawings.
        procedural: procedural training drawings, `CLASS:COUNT` each.
        valid: files and folders of validation drawings; empty to use the validation split of `data`.
        split: split of `data` to train on, or `all`.
        valid_share: fraction held out for validation from files without splits.
        select: selection by class.
        read: settings for reading files.
    """

    data: tuple[Path, ...] = ()
    procedural: tuple[str, ...] = ()
    valid: tuple[Path, ...] = ()
    split: str = "train"
    valid_share: float = 0.1
    select: ClassFilter = ClassFilter()
    read: ReadConfig = ReadConfig()

    def __post_init__(self) -> None:
        """Validate the values."""
        if self.split not in (*SPLITS, "all"):
            raise ValueError(f"split must be one of {', '.join((*SPLITS, 'all'))}, got {self.split!r}")

    @property
    def empty(self) -> bool:
        """True if no training drawings are named."""
        return not self.data and not self.procedural


@dataclass(frozen=True, kw_only=True)
class BitmapConfig(Settings):
    """Source and split of a data set of official bitmaps.

    Attributes:
        bitmaps: files and folders.
        first_index: first row of the published file to use, for classes with row numbers.
        per_class: most training bitmaps of a class; None for all.
        valid_share: fraction held out for validation.
        select: selection by class.
    """

    bitmaps: tuple[Path, ...]
    first_index: int = 0
    per_class: int | None = None
    valid_share: float = 0.1
    select: ClassFilter = ClassFilter()

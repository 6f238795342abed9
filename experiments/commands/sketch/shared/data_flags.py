"""Flags for data sets of drawings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from experiments.cli.argument_types import Count, NotNegative, Switch, Whole, repeated
from experiments.cli.request import flag_group
from sketch.data.dataset_config import BitmapConfig, ClassFilter, DatasetConfig, ReadConfig

Paths = Annotated[tuple[Path, ...], repeated(Path, "PATH")]
Names = Annotated[tuple[str, ...], repeated(str, "NAME")]
Classes = Annotated[tuple[str, ...], repeated(str, "NAME", name="--class")]
Requests = Annotated[tuple[str, ...], repeated(str, "CLASS:N")]
Sources = Annotated[tuple[str, ...], repeated(str, "PATH")]


@flag_group("Reading", 20)
class ReadFlags:
    """Reading of files of drawings.

    Attributes:
        allow_pickle: Read the pickled arrays of Sketch-RNN's own files, which can run arbitrary code.
        skip: Drop unusable drawings and count them.
        max_points: Points of the longest drawing that is accepted (default 1000; training drops drawings far longer
            than the others).
    """

    allow_pickle: Switch = False
    skip: Switch = False
    max_points: Count | None = None

    def config(self) -> ReadConfig:
        """Return the settings of the library."""
        return ReadConfig(allow_pickle=self.allow_pickle, skip=self.skip, max_points=self.max_points)


@flag_group("Data", 10)
class DataFlags:
    """Training and validation drawings.

    Attributes:
        data: Training drawings: a file (.npz, .ndjson, .csv, .bin or .svg) or a folder of such files; repeatable.
        procedural: Procedural training drawings, for example cat:2000; repeatable.
        valid: Validation drawings, which choose the best parameters (default validation split of the data);
            repeatable.
        split: Split to train on, for files with splits.
        valid_share: Fraction held out for validation, for files without splits.
        classes: Class to use; repeatable (default all).
        without: Class to drop; repeatable.
        recognized_only: Use only drawings that the game recognised.
    """

    data: Paths = ()
    procedural: Requests = ()
    valid: Paths = ()
    split: Literal["train", "valid", "test", "all"] = "train"
    valid_share: NotNegative = 0.1
    classes: Classes = ()
    without: Names = ()
    recognized_only: Switch = False

    def select(self) -> ClassFilter:
        """Return the selection by class."""
        return ClassFilter(classes=self.classes, without=self.without, recognized_only=self.recognized_only)

    def config(self, read: ReadFlags) -> DatasetConfig:
        """Return the settings of the library."""
        return DatasetConfig(
            data=self.data,
            procedural=self.procedural,
            valid=self.valid,
            split=self.split,
            valid_share=self.valid_share,
            select=self.select(),
            read=read.config(),
        )


@flag_group("Bitmaps", 15)
class BitmapFlags:
    """Official bitmaps.

    Attributes:
        bitmaps: Official bitmaps of 28 x 28 pixels, one array for each class: .npz or .npy; repeatable.
        first_index: First row of the published file to use, for classes with row numbers.
        per_class: Largest number of training bitmaps of a class (default all).
    """

    bitmaps: Paths = ()
    first_index: Whole = 0
    per_class: Count | None = None

    def config(self, data: DataFlags) -> BitmapConfig:
        """Return the settings of the library."""
        return BitmapConfig(
            bitmaps=self.bitmaps,
            first_index=self.first_index,
            per_class=self.per_class,
            valid_share=data.valid_share,
            select=data.select(),
        )

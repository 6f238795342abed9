"""Data sets of drawings: files, folders and procedural drawings, split into training and validation sets."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sketch.data import procedural
from sketch.data.dataset_config import SPLITS, ClassFilter, DatasetConfig, ReadConfig
from sketch.data.drawing_files import (
    SUFFIXES,
    Drawing,
    assign_splits,
    load,
    of_split,
    suffix_of,
    without_duplicates,
)

PROCEDURAL = re.compile(r"[^/\\]+:\d+")
"""Form of a request for procedural drawings, `CLASS:COUNT`."""


USUAL_POINTS = 550
"""Number of points up to which no drawing is an outlier; the longest simplified ones have about 500."""

OUTLIER = 3.0
"""Length of an outlier, relative to that which 95 % of the drawings do not exceed."""

VERSIONS = ("full", "raw", "simplified", "small", "train", "valid", "test")
"""Words behind the class in the name of a file."""

_FORMATS = "simplified|raw|binary|numpy|bitmap"
_PREFIX = re.compile(rf"(sketchrnn|quickdraw|full|{_FORMATS})([_\s-]+({_FORMATS}))*[_\s-]+(?=\w)")
_COUNT = re.compile(r"\(?\d+\)?")


class SketchDataset(NamedTuple):
    """Training and validation drawings.

    Attributes:
        train: training drawings.
        valid: validation drawings, which choose the best parameters.
        skipped: reason, with file and row, for each dropped drawing.
        loaded: all drawings that were read, in any split.
    """

    train: list[Drawing]
    valid: list[Drawing]
    skipped: list[str]
    loaded: list[Drawing]

    @property
    def train_strokes(self) -> list[np.ndarray]:
        """Training drawings as stroke-3."""
        return [drawing.strokes for drawing in self.train]

    @property
    def valid_strokes(self) -> list[np.ndarray]:
        """Validation drawings as stroke-3."""
        return [drawing.strokes for drawing in self.valid]

    @property
    def classes(self) -> tuple[str, ...]:
        """Classes of the training drawings, the most frequent first."""
        counts = Counter(drawing.label for drawing in self.train if drawing.label)
        return tuple(name for name, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0])))

    def digest(self) -> str:
        """Return a digest of the training and validation drawings."""
        return digest(self.train_strokes, self.valid_strokes)

    def summary(self) -> str:
        """Describe the sizes in one line."""
        lengths = [len(drawing.strokes) for drawing in self.train]
        longest = self.train[int(np.argmax(lengths))].source
        noted = [drawing for drawing in self.loaded if drawing.note]
        left_out = f"; left out of {len(noted)} drawings: {noted[0].note} ({noted[0].source}), ..." if noted else ""
        return (
            f"{len(self.train):,} training drawings (median length {int(np.median(lengths))} points, longest "
            f"{max(lengths)}: {longest}), "
            f"{len(self.valid):,} validation drawings{left_out}"
        )


def class_of(path: Path) -> str:
    """Class that the name of a file states, for files without labels.

    Known prefixes, counts, and marks of a version are dropped, and underscores are blanks: `sketchrnn_cat.npz`,
    `cat.full.npz`, `full_simplified_cat.ndjson` and `cat_1800.npz` are "cat", `alarm_clock.npz` is "alarm clock".
    """
    words = re.split(r"[_\s]+|%20", _PREFIX.sub("", path.name.partition(".")[0], count=1))
    words = [word for word in words if word]
    while len(words) > 1 and (_COUNT.fullmatch(words[-1]) or words[-1].lower() in VERSIONS):
        words.pop()
    return " ".join(words)


def find_files(paths: Iterable[str | Path], suffixes: Sequence[str] = SUFFIXES) -> list[Path]:
    """Return files of drawings; a folder stands for the files in it, by name.

    Args:
        paths: files and folders.
        suffixes: endings of the files of a folder.

    Raises:
        FileNotFoundError: if a path does not exist, or a folder has no files of drawings.
    """
    files: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            inside = sorted(e for e in path.iterdir() if suffix_of(e) in suffixes and e.is_file() and e.name[0] != ".")
            if not inside:
                raise FileNotFoundError(f"folder {path} has no files that end in {' or '.join(suffixes)}")
            files += inside
        elif path.is_file():
            files.append(path)
        else:
            raise FileNotFoundError(f"there is no file or folder {path}")
    return files


def read_drawings(
    paths: Iterable[str | Path], read: ReadConfig, select: ClassFilter | None = None
) -> tuple[list[Drawing], list[str]]:
    """Read the selected drawings of files and folders.

    Args:
        paths: files and folders.
        read: settings for reading files.
        select: selection by class; None for all drawings.

    Returns:
        The drawings, and the reason for each dropped drawing or file.

    Raises:
        ValueError: if a file or drawing is unusable (names file and row), a class is missing, or nothing is selected.
    """
    select = ClassFilter() if select is None else select
    drawings: list[Drawing] = []
    skipped: list[str] = []
    sources = list(map(Path, paths))
    folders = {path for path in sources if path.is_dir()}  # the SVG files of a folder are of one class
    for path in find_files(sources):
        label = class_of(path.parent if path.parent in folders and suffix_of(path) == ".svg" else path)
        try:
            loaded, faults = load(path, label=label, **read.arguments())
        except ValueError as error:
            if not read.skip or "allow_pickle" in str(error):
                raise
            skipped.append(str(error))
            continue
        drawings += loaded
        skipped += faults
    select.check_names(Counter(drawing.label for drawing in drawings))
    selected = [drawing for drawing in drawings if select.accepts(drawing.label)]
    if select.recognized_only:
        selected = [drawing for drawing in selected if drawing.recognized]
    if drawings and not selected:
        raise ValueError(
            f"the selection by class and recognition drops all {len(drawings)} drawings; select fewer or other classes"
        )
    return selected, skipped


def without_outliers(drawings: Sequence[Drawing]) -> tuple[list[Drawing], list[str]]:
    """Drop drawings far longer than the others, whose padding would slow down every update and can overflow.

    Returns:
        The other drawings, and the reason with file and row for each dropped one, the longest first.
    """
    if not drawings:
        return [], []
    lengths = np.array([len(drawing.strokes) for drawing in drawings])
    most = max(USUAL_POINTS, int(OUTLIER * np.quantile(lengths, 0.95)))
    reasons = [
        f"{drawings[n].source}: a drawing of {lengths[n]} points is far longer than the others; "
        f"--max-points {lengths[n]} keeps it"
        for n in np.argsort(-lengths, kind="stable")
        if lengths[n] > most
    ]
    return [drawing for drawing, length in zip(drawings, lengths, strict=True) if length <= most], reasons


def procedural_drawings(requests: Iterable[str]) -> list[Drawing]:
    """Generate procedural drawings.

    Args:
        requests: `CLASS:COUNT` each, for example `cat:2000`.

    Raises:
        ValueError: if a request has another form, or the class does not exist.
    """
    drawings = []
    for request in requests:
        name, _, count = request.partition(":")
        if not count.isdecimal() or int(count) < 1:
            raise ValueError(f"procedural drawings must be CLASS:COUNT, for example cat:2000, got {request!r}")
        strokes = procedural.drawings(name, int(count))
        drawings += [Drawing(drawing, label=name, source=f"{name} {n}") for n, drawing in enumerate(strokes)]
    return drawings


def load_dataset(config: DatasetConfig) -> SketchDataset:
    """Load a data set and split it.

    Splits of files are kept; drawings without a split get one from a hash of their content. Drawings with the same
    `key_id` count once: the copy with a split is kept, and a validation drawing never is a training drawing.

    Raises:
        ValueError: if a file or drawing is unusable, or there are no training drawings.
        FileNotFoundError: if a path does not exist.
    """
    if config.empty:
        raise ValueError("there are no training drawings; give files (--data FILE) or --procedural cat:2000")
    drawings, skipped = read_drawings(config.data, config.read, config.select)
    if config.read.max_points is None:
        drawings, outliers = without_outliers(drawings)
        skipped += outliers
    drawings += procedural_drawings(config.procedural)
    held_out: list[Drawing] = []
    if config.valid:
        held_out, faults = read_drawings(config.valid, config.read, config.select)
        skipped += faults
        # A validation file may hold other splits; if it marks its validation split, only that is used.
        if any(drawing.split == "valid" for drawing in held_out):
            held_out = [drawing for drawing in held_out if drawing.split in ("valid", "")]
        held_out = without_duplicates(held_out)
    drawings = without_duplicates(sorted(drawings, key=lambda drawing: not drawing.split), held_out)
    drawings = assign_splits(drawings, valid=0.0 if held_out else config.valid_share)
    trained = SPLITS if config.split == "all" else (config.split,)
    train = [drawing for split in trained for drawing in drawings if drawing.split == split]
    valid = held_out or [drawing for drawing in drawings if drawing.split == "valid" and "valid" not in trained]
    if not train:
        sizes = ", ".join(f"{len(of_split(drawings, split))} {split}" for split in SPLITS)
        raise ValueError(f"split {config.split!r} has no training drawings ({sizes}); choose another split")
    return SketchDataset(train, valid, skipped, drawings + held_out)


def load_negatives(sources: Sequence[str], dataset: SketchDataset, config: DatasetConfig) -> SketchDataset:
    """Load drawings of other classes as negatives of a discriminator.

    Args:
        sources: files, folders and `CLASS:COUNT`.
        dataset: the positives; negatives that are among them are dropped.
        config: settings of the positives, for reading, the split and the classes to drop.

    Raises:
        ValueError: if the training or validation set would be empty.
    """
    generated = [source for source in sources if PROCEDURAL.fullmatch(source) and not Path(source).exists()]
    drawings, skipped = read_drawings([source for source in sources if source not in generated], config.read)
    drawings += procedural_drawings(generated)
    drawings = [drawing for drawing in drawings if drawing.label not in config.select.classes]
    drawings = assign_splits(without_duplicates(drawings, dataset.loaded), valid=config.valid_share)
    train, valid = ([drawing for drawing in drawings if drawing.split == split] for split in ("train", "valid"))
    if not train or not valid and dataset.valid:
        raise ValueError(
            f"negatives need training and validation drawings, got {len(train)} and {len(valid)}; give more"
        )
    return SketchDataset(train, valid, skipped, drawings)


def digest(*sets: Sequence[np.ndarray]) -> str:
    """Return a short digest of sets of drawings, which identifies the data of a run."""
    state = hashlib.blake2b(digest_size=8)
    for drawings in sets:
        state.update(f"{len(drawings)}:".encode())
        for strokes in drawings:
            state.update(np.ascontiguousarray(strokes, "<f4").tobytes())
    return state.hexdigest()


def save_drawings(path: Path, drawings: Sequence[np.ndarray], **columns: Any) -> None:
    """Write drawings in the format that `sketch.data.drawing_files.load` reads.

    Args:
        path: ends in `.npz`.
        drawings: stroke-3 arrays.
        columns: further arrays with one entry for each drawing.
    """
    offsets = np.cumsum([0, *map(len, drawings)]).astype(np.int32)
    points = np.concatenate([np.zeros((0, 3), np.float32), *drawings]).astype(np.float32)
    with path.open("wb") as file:
        np.savez_compressed(file, points=points, offsets=offsets, **columns)

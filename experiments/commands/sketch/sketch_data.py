"""The drawings that `jsafe sketch` learns from: files, folders, and drawings that the program makes itself."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.cli.result import CommandError, note
from jsafe.config import nearest
from sketch.data import procedural
from sketch.data.drawing_files import SPLITS, Drawing, assign_splits, load, of_split, read_npz, without_duplicates
from sketch.evaluation.human_test_set import SIDE

KINDS = (".npz", ".ndjson")

COUNTED = re.compile(r"[^/\\]+:\d+")
"""How drawings are asked for that the program makes itself."""


class Lot(NamedTuple):
    """What there is to learn from.

    Attributes:
        train: stroke-3 each.
        valid: the same, kept apart to choose the best parameters by.
        left_out: reasons with file and row.
        known: all drawings there were.
        labels: what each of `train` and each of `valid` was to be.
    """

    train: list[np.ndarray]
    valid: list[np.ndarray]
    left_out: list[str]
    known: list[Drawing]
    labels: tuple[list[str], list[str]]


def files_of(places: Iterable[str | Path]) -> list[Path]:
    """The files of drawings among the places; of a folder those in it, by name.

    Raises:
        CommandError: there is no such place, or a folder has no drawings.
    """
    found = []
    for place in map(Path, places):
        if place.is_dir():
            inside = sorted(path for path in place.iterdir() if path.suffix in KINDS)
            if not inside:
                raise CommandError(f"folder {place} has no files that end in {' or '.join(KINDS)}")
            found += inside
        elif place.is_file():
            found.append(place)
        else:
            raise CommandError(f"there is no file or folder {place}")
    return found


def read(given: Mapping[str, Any], places: Iterable[str | Path]) -> tuple[list[Drawing], list[str]]:
    """Drawings of files, those of the classes that are wanted, and the reasons why others had to be left out.

    Args:
        given: `allow_pickle`, `skip`, `max_points`, `classes`, `without` and `recognized_only` of the command.
        places: files and folders.

    Raises:
        CommandError: nothing is left; the message names the classes there are.
        ValueError: a file or a drawing cannot be used, by file and row.
    """
    found: list[Drawing] = []
    left_out: list[str] = []
    for path in files_of(places):
        # Sketch-RNN's own files do not say what they hold; their names do: cat.npz, cat.full.npz.
        label = re.split(r"[._]", path.name)[0]
        try:
            drawings, faults = load(
                path,
                allow_pickle=given["allow_pickle"],
                skip=given["skip"],
                max_points=given["max_points"],
                label=label,
            )
        except ValueError as error:
            if not given["skip"] or "allow_pickle" in str(error):
                raise ValueError(str(error).replace("with allow_pickle", "with --allow-pickle")) from None
            left_out.append(str(error))
            continue
        found += drawings
        left_out += faults
    wanted, unwanted = set(given.get("classes") or ()), set(given.get("without") or ())
    there = Counter(drawing.label for drawing in found)
    _check_names(given, there)
    kept = [d for d in found if (not wanted or d.label in wanted) and d.label not in unwanted]
    if given.get("recognized_only"):
        kept = [d for d in kept if d.recognized]
    if found and not kept:
        raise CommandError(f"of {len(found)} drawings none is left: see --class, --without and --recognized-only")
    return kept, left_out


def made(names: Iterable[str]) -> list[Drawing]:
    """Drawings that the program makes, from `CLASS:COUNT`.

    Raises:
        CommandError: it is not written like that, or there is no such class.
    """
    found = []
    for text in names:
        name, _, count = text.partition(":")
        if not count.isdecimal() or int(count) < 1:
            raise CommandError(f"--procedural takes CLASS:COUNT, for example cat:2000; got {text!r}")
        drawn = procedural.drawings(name, int(count))
        found += [Drawing(d, label=name, source=f"{name} {number}") for number, d in enumerate(drawn)]
    return found


def gather(given: Mapping[str, Any]) -> Lot:
    """What a stage learns from and is watched on.

    The splits of files count; drawings without one are given one by their content. A drawing that comes several times,
    by its `key_id`, counts once; of two copies the one whose file has splits stays, and one that is kept apart to
    validate is never learned from.

    Args:
        given: see `read`; also `data`, `procedural`, `valid`, `split` and `valid_share`.

    Raises:
        CommandError, ValueError: see `read`; or there is nothing to learn from.
    """
    if not given.get("data") and not given.get("procedural"):
        raise CommandError(
            f"say what to learn from: jsafe sketch {given['stage']} --data FILE, or --procedural cat:2000"
        )
    found, left_out = read(given, given.get("data") or ())
    found += made(given.get("procedural") or ())
    apart: list[Drawing] = []
    if given.get("valid"):
        apart, more = read(given, given["valid"])
        left_out += more
        # A file that is only there to validate may hold other splits too: where it says, those to validate count.
        if any(drawing.split == "valid" for drawing in apart):
            apart = [drawing for drawing in apart if drawing.split in ("valid", "")]
        apart = without_duplicates(apart)
    found = without_duplicates(sorted(found, key=lambda drawing: not drawing.split), apart)
    found = assign_splits(found, valid=0.0 if apart else given["valid_share"])
    learned = SPLITS if given["split"] == "all" else (given["split"],)
    train = [drawing for split in learned for drawing in found if drawing.split == split]
    valid = apart or [drawing for drawing in found if drawing.split == "valid" and "valid" not in learned]
    if not train:
        sizes = ", ".join(f"{len(of_split(found, split))} {split}" for split in SPLITS)
        raise CommandError(f"split {given['split']!r} has no drawings to learn from ({sizes})")
    if left_out:
        note(f"{len(left_out)} drawings or files left out: {'; '.join(left_out[:3])}")
    points = int(np.median([len(drawing.strokes) for drawing in train]))
    note(f"{len(train):,} drawings to learn from, {len(valid):,} to validate; half have at most {points} points")
    return _lot(train, valid, left_out, found + apart)


def others(given: Mapping[str, Any], lot: Lot) -> Lot:
    """Drawings of other things, from `others`: files, folders and `CLASS:COUNT`; none that is among those of the lot.

    Raises:
        CommandError, ValueError: see `read`.
    """
    own = {name: COUNTED.fullmatch(name) and not Path(name).exists() for name in given["others"]}
    wanted = {"classes": (), "without": (), "recognized_only": False}
    found, left_out = read({**given, **wanted}, [name for name in own if not own[name]])
    found += made(name for name in own if own[name])
    found = [drawing for drawing in found if drawing.label not in (given.get("classes") or ())]
    found = assign_splits(without_duplicates(found, lot.known), valid=given["valid_share"])
    train, valid = ([drawing for drawing in found if drawing.split == split] for split in ("train", "valid"))
    if not train or not valid and lot.valid:
        raise CommandError(f"--others has {len(train)} drawings to learn from and {len(valid)} to validate: give more")
    note(f"{len(train):,} drawings of other things to learn from, {len(valid):,} to validate")
    return _lot(train, valid, left_out, found)


def _lot(train: list[Drawing], valid: list[Drawing], left_out: list[str], known: list[Drawing]) -> Lot:
    labels = [drawing.label for drawing in train], [drawing.label for drawing in valid]
    return Lot([d.strokes for d in train], [d.strokes for d in valid], left_out, known, labels)


class Bitmaps(NamedTuple):
    """Bitmaps to learn from, or to validate with.

    Attributes:
        images: `[N, 28, 28]` bytes, white ink on black.
        labels: of each.
    """

    images: np.ndarray
    labels: list[str]


def bitmaps(given: Mapping[str, Any]) -> tuple[Bitmaps, Bitmaps]:
    """Official bitmaps to learn from and to validate with, the same ones whatever else is in the files.

    An array is of the class of its name. `NAME_lines` says which lines of the published file NAME's rows are; other
    arrays `NAME_something` beside NAME are more drawings of the same class, kept for other uses, and left out.

    Args:
        given: `bitmaps`, `classes`, `without`, `from_line`, `per_class` and `valid_share` of the command.

    Raises:
        CommandError: there is nothing to learn from, or no such class.
        ValueError: a file is damaged, or an array is no bitmaps; names both.
    """
    found: dict[str, list[np.ndarray]] = {}
    for path in files_of(given["bitmaps"]):
        arrays = read_npz(path)
        for name, rows in arrays.items():
            if any(name.startswith(f"{other}_") for other in arrays):
                continue
            if rows.dtype != np.uint8 or rows.shape[1:] not in ((SIDE * SIDE,), (SIDE, SIDE)):
                raise ValueError(
                    f"{path}, array {name!r}: bitmaps are bytes [n, {SIDE * SIDE}] or [n, {SIDE}, {SIDE}], "
                    f"got {rows.dtype} {list(rows.shape)}"
                )
            lines = arrays.get(f"{name}_lines")
            if lines is not None and len(lines) != len(rows):
                raise ValueError(f"{path}: {name!r} has {len(rows)} rows and '{name}_lines' {len(lines)}")
            kept = rows if lines is None else rows[lines >= given["from_line"]]
            found.setdefault(name, []).append(kept.reshape(-1, SIDE, SIDE))
    _check_names(given, found)
    wanted, unwanted = set(given.get("classes") or found), set(given.get("without") or ())
    parts: tuple[list[tuple[str, np.ndarray]], ...] = ([], [])
    for name in sorted(wanted - unwanted):
        images = np.unique(np.concatenate(found[name]), axis=0)
        places = np.array(
            [int.from_bytes(hashlib.blake2b(i.tobytes(), digest_size=8).digest(), "little") for i in images]
        )
        order = np.argsort(places)  # of their content: as good as chance, and the same on every machine
        images, apart = images[order], places[order] / 2.0**64 < given["valid_share"]
        for part, chosen in zip(parts, (images[~apart][: given.get("per_class")], images[apart]), strict=True):
            part.append((name, chosen))
    if min(len(parts[0]), *(len(images) for _, images in parts[0])) < 1:
        raise CommandError("of a class no bitmap is left to learn from: see --from-line and --valid-share")
    train, valid = (
        Bitmaps(np.concatenate([images for _, images in part]), [name for name, images in part for _ in images])
        for part in parts
    )
    note(f"{len(train.labels):,} bitmaps of {len(parts[0])} classes to learn from, {len(valid.labels):,} to validate")
    return train, valid


def _check_names(given: Mapping[str, Any], there: Mapping[str, Any]) -> None:
    """Raise a CommandError for a class that there is not, with the nearest one."""
    for name in sorted({*(given.get("classes") or ()), *(given.get("without") or ())} - set(there)):
        known = ", ".join(sorted(there)[:12]) + ", ..." * (len(there) > 12)
        raise CommandError(f"there are no drawings of {name!r}{nearest(name, there)} (classes: {known or 'none'})")


def digest(*lots: Sequence[np.ndarray]) -> str:
    """A short name of the drawings, by which a run that goes on knows them again."""
    found = hashlib.blake2b(digest_size=8)
    for lot in lots:
        found.update(f"{len(lot)}:".encode())
        for strokes in lot:
            found.update(np.ascontiguousarray(strokes, "<f4").tobytes())
    return found.hexdigest()


def save(path: Path, drawings: Sequence[np.ndarray], **beside: Any) -> None:
    """Write drawings as `sketch.data.drawing_files.load` reads them.

    Args:
        path: ends in `.npz`.
        drawings: stroke-3 each.
        beside: further arrays, one entry for each drawing.
    """
    offsets = np.cumsum([0, *map(len, drawings)]).astype(np.int32)
    points = np.concatenate([np.zeros((0, 3), np.float32), *drawings]).astype(np.float32)
    with path.open("wb") as file:
        np.savez_compressed(file, points=points, offsets=offsets, **beside)

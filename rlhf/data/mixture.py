"""Mixtures of data sets in the notation of Safe RLHF, `NAME[:SHARE[:PATH]]`."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np

from rlhf.data.files import SUFFIXES
from rlhf.data.rows.columns import Columns
from rlhf.data.schemas import Example, read_examples

SEED = 42
"""Seed of the mixture and of the split, as published."""


class Part(NamedTuple):
    """One data set of a mixture.

    Attributes:
        name: as registered.
        share: share of its rows; above 1 repeats them.
        count: number of rows, instead of a share.
        path: file or folder; None if only the name is given.
    """

    name: str
    share: float = 1.0
    count: int | None = None
    path: Path | None = None

    def row_count(self, size: int) -> int:
        """Return the number of rows to take from `size` rows."""
        return round(size * self.share) if self.count is None else self.count


def parse(text: str) -> Part:
    """Read `NAME[:SHARE[:PATH]]`.

    The share is a number (`0.5`), a fraction (`1/3`), or `N/-1` for exactly N rows; empty for all rows once.

    Raises:
        ValueError: the message names the text and what was expected.
    """
    fields = text.split(":", 2)
    if not fields[0]:
        raise ValueError(f"a data set must be NAME[:SHARE[:PATH]], got {text!r}")
    if len(fields) == 3 and not fields[2]:
        raise ValueError(f"{text!r} has an empty path; leave out the second colon, or name a path")
    share, count = _share(fields[1] if len(fields) > 1 else "", text)
    return Part(fields[0], share, count, Path(fields[2]).expanduser() if len(fields) == 3 else None)


def _share(field: str, text: str) -> tuple[float, int | None]:
    if not field:
        return 1.0, None
    try:
        above, _, below = field.partition("/")
        if below == "-1":
            count = int(above)
            if count < 0:
                raise ValueError
            return 1.0, count
        share = float(above) / float(below) if below else float(above)
        if not 0.0 <= share < float("inf"):
            raise ValueError
    except (ValueError, ZeroDivisionError):
        raise ValueError(
            f"share {field!r} of {text!r} must be a number of at least 0, a fraction a/b, or N/-1 for exactly N rows"
        ) from None
    return share, None


def part_of(text: str) -> Part:
    """Return a file, a folder, or a data set named in the notation of mixtures.

    Raises:
        FileNotFoundError: the text is the name of a missing file that has a colon.
        ValueError: the notation cannot be read.
    """
    if Path(text).exists():
        return Part(text, path=Path(text))
    try:
        return parse(text)
    except ValueError:
        name, _, share = text.partition(":")
        if "/" in name or (":" not in share and set(Path(share).suffixes) & set(SUFFIXES)):
            raise FileNotFoundError(f"there is no file {text}") from None
        raise


def relocated(text: str, folder: Path) -> str:
    """Return a source of rows with its path relative to a folder where only that exists."""
    names = text.split(":", 2)
    if Path(text).exists() or (len(names) == 3 and Path(names[2]).exists()):
        return text
    if (folder / text).exists():
        return str(folder / text)
    if len(names) == 3 and (folder / names[2]).exists():
        return ":".join((*names[:2], str(folder / names[2])))
    return text


def missing(texts: Sequence[str]) -> list[str]:
    """Return a line for each file of a mixture that does not exist."""
    lines = []
    for text in texts:
        try:
            path = part_of(text).path
        except FileNotFoundError as error:
            lines.append(str(error))
            continue
        if path is None or not path.exists():
            lines.append(f"there is no file {path or text}")
    return lines


def parse_all(texts: Sequence[str]) -> list[Part]:
    """Read a mixture of distinct data sets.

    Raises:
        ValueError: a name occurs twice, or a part cannot be read.
    """
    parts = [parse(text) for text in texts]
    names = [part.name for part in parts]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{twice[0]} is named more than once. Give it a larger share instead")
    return parts


def mix(parts: Sequence[Part], sizes: Sequence[int], seed: int = SEED) -> list[tuple[int, int]]:
    """Return the rows of a mixture as `(data set, row)`, data set after data set, not shuffled.

    Whole passes come first, then a draw without replacement. Each data set has a seed of its own, so that another one
    does not change the rows of those before it.
    """
    rows: list[tuple[int, int]] = []
    seeds = np.random.SeedSequence(seed).spawn(len(parts))
    for number, (part, size, own) in enumerate(zip(parts, sizes, seeds, strict=True)):
        count = part.row_count(size)
        if count and not size:
            raise ValueError(f"{part.name} must have {count} rows, got an empty data set")
        passes, rest = divmod(count, size) if size else (0, 0)
        chosen = list(range(size)) * passes
        if rest:
            chosen += np.random.default_rng(own).choice(size, size=rest, replace=False).tolist()
        rows += [(number, row) for row in chosen]
    return rows


def last_of_each(keys: Sequence[Hashable]) -> list[int]:
    """Return the indices of the last occurrence of each key, in order."""
    return sorted({key: index for index, key in enumerate(keys)}.values())


def split(count: int, ratio: float, seed: int = SEED) -> tuple[list[int], list[int]]:
    """Return shuffled indices for training and for testing, the latter a fraction `ratio` of all.

    Raises:
        ValueError: for a ratio that is not between 0 and 1.
    """
    if not 0.0 < ratio < 1.0:
        raise ValueError(f"the held-out share must be between 0 and 1, got {ratio}")
    order = list(range(count))
    np.random.default_rng(seed).shuffle(order)
    tested = round(count * ratio)
    return order[: count - tested], order[count - tested :]


SCHEMA_OF: dict[str, str | None] = {
    "BeaverTails-Evaluation": None,
    "alpaca": "alpaca",
    "stanford-alpaca": "alpaca",
    "firefly": "firefly",
    "PKU-SafeRLHF": "PKU-SafeRLHF",
    "BeaverTails": "BeaverTails",
}
"""Schema of a registered data set by the beginning of its name, longer names first. Others, such as both forms of
HH-RLHF, are recognised by their keys."""


def load_mixture(
    texts: Sequence[str], *, skip: bool = False, seed: int = SEED, columns: Columns | None = None
) -> tuple[list[Example], list[str]]:
    """Load a mixture of files.

    Args:
        texts: paths of files or folders, or `NAME[:SHARE[:PATH]]`.
        skip: leave out unusable rows instead of raising.
        seed: seed of the choice of rows.
        columns: columns of the files by the name that a schema has for them.

    Returns:
        The rows, and a line for each row that was left out.

    Raises:
        FileNotFoundError: a file is missing, or a data set is named without its path.
        ValueError: a row or the notation cannot be read.
    """
    parts = [part_of(text) for text in texts]
    without_path = [part.name for part in parts if part.path is None]
    if without_path:
        name = without_path[0]
        raise FileNotFoundError(f"there is no file {name}. Name a data set as NAME:SHARE:PATH or by its path")
    loaded, left_out = [], []
    for part in parts:
        schemas = [schema for name, schema in SCHEMA_OF.items() if part.name.startswith(name)] if part.path else []
        named = str(part.path) != part.name
        schema = schemas[0] if schemas and named else None
        rows, lines = read_examples(cast(Path, part.path), schema, skip=skip, columns=columns)
        loaded.append(rows)
        left_out += lines
    return [loaded[i][j] for i, j in mix(parts, [len(rows) for rows in loaded], seed)], left_out

"""Data sets for training and evaluation: loading, held-out splits, and the texts of a tokenizer."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rlhf.chat_templates.safe_rlhf import format_prompt
from rlhf.data import mixture, plain_text
from rlhf.data.files import read_entries
from rlhf.data.schemas import FIELDS, Example, named_columns


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Rows to train and to evaluate on.

    Attributes:
        data: files, folders, or `NAME:SHARE:PATH`.
        eval_data: the same for held-out evaluation.
        eval_share: fraction of the prompts held out for evaluation, instead of `eval_data`.
        skip: leave out unusable rows instead of raising.
        columns: pairs of a field of a schema and the column of the files that it is read from.
    """

    data: tuple[str, ...]
    eval_data: tuple[str, ...] = ()
    eval_share: float | None = None
    skip: bool = False
    columns: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        """Check that there is one source of held-out rows at most, and that columns have known names.

        Raises:
            ValueError: no data, both `eval_data` and `eval_share`, or a column of a field that no schema has.
        """
        named_columns(self.columns)
        if not self.data:
            raise ValueError("no training data. Use --data FILE")
        if self.eval_data and self.eval_share:
            raise ValueError("eval_share has no effect next to eval_data. Leave one of them out")


class Split(NamedTuple):
    """Rows of a run.

    Attributes:
        train: training rows.
        held_out: held-out rows, empty without evaluation.
        skipped: for each row that could not be read, a line with its file, its number and the reason.
    """

    train: list[Example]
    held_out: list[Example]
    skipped: list[str]


def load_split(config: DataConfig) -> Split:
    """Load training and held-out rows.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a row cannot be used and `skip` is not set, or no row can be used.
    """
    columns = named_columns(config.columns)
    train, skipped = mixture.load_mixture(config.data, skip=config.skip, columns=columns)
    held_out: list[Example] = []
    if config.eval_data:
        held_out, more = mixture.load_mixture(config.eval_data, skip=config.skip, columns=columns)
        skipped += more
    elif config.eval_share:
        train, held_out = split_by_prompt(train, config.eval_share)
    if not train:
        raise ValueError(f"no row can be used: {skipped[0] if skipped else config.data[0]}")
    return Split(train, held_out, skipped)


def load(path: str | Path, *, skip: bool = False) -> list[Example]:
    """Load the rows of a file, of a folder, or of `NAME:SHARE:PATH`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a row cannot be used and `skip` is not set.
    """
    return mixture.load_mixture([str(path)], skip=skip)[0]


def split_by_prompt(rows: Sequence[Example], share: float) -> tuple[list[Example], list[Example]]:
    """Return training and held-out rows without a common prompt.

    Args:
        rows: to split.
        share: fraction of the prompts held out.
    """
    prompts = sorted({row.prompt for row in rows})
    _, chosen = mixture.split(len(prompts), share)
    held_out = {prompts[i] for i in chosen}
    return [row for row in rows if row.prompt not in held_out], [row for row in rows if row.prompt in held_out]


def prefer_harmful(rows: Iterable[Example]) -> list[Example]:
    """Return pairs in which the more harmful response counts as the better one."""
    return [row._replace(better=None if row.safer is None else not row.safer) for row in rows]


def unique_prompts(rows: Sequence[Example]) -> list[Example]:
    """Return the last row of each prompt, in order."""
    return [rows[i] for i in mixture.last_of_each([row.prompt for row in rows])]


def carried_columns(rows: Sequence[Example]) -> list[dict[str, Any]]:
    """Return the columns of each row's file that no schema reads, such as ids; empty for a row without a file."""
    files = {row.source.rpartition(", row ")[0] for row in rows if row.source}
    entries = {entry.source: entry.row for file in files for entry in read_entries(Path(file))}
    columns = (entries.get(row.source, {}) for row in rows)
    return [{key: value for key, value in row.items() if key and key not in FIELDS} for row in columns]


def conversation_texts(rows: Iterable[Example]) -> list[str]:
    """Return the texts of all prompts with their responses, which a tokenizer is trained on."""
    texts = ((row.prompt, text) for row in rows for text in (row.response, row.other_response))
    return sorted({format_prompt(prompt, "</s>") + (text or "") for prompt, text in texts})


def all_responses(rows: Iterable[Example]) -> list[Example]:
    """Return each prompt with each of its responses, as rows for supervised fine-tuning."""
    texts = ((row.prompt, text) for row in rows for text in (row.response, row.other_response))
    return list(dict.fromkeys(Example(prompt, text) for prompt, text in texts if text is not None))


class TextSplit(NamedTuple):
    """Plain texts of a run.

    Attributes:
        train: training texts.
        held_out: held-out texts, empty without evaluation.
    """

    train: list[str]
    held_out: list[str]


def load_text_split(config: DataConfig) -> TextSplit:
    """Load training and held-out texts."""
    train, held_out = (
        [text for path in paths for text in plain_text.read_texts(Path(path))]
        for paths in (config.data, config.eval_data)
    )
    if config.eval_share and not held_out:
        chosen, rest = mixture.split(len(train), config.eval_share)
        train, held_out = [train[i] for i in chosen], [train[i] for i in rest]
    return TextSplit(train, held_out)

"""Schemas of data sets, read into one form: a prompt, one or two responses, and human labels."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from rlhf.data.files import Entry, read_entries
from rlhf.data.rows import columns as by_column
from rlhf.data.rows import conversation_rows, published_rows
from rlhf.data.rows.columns import Columns
from rlhf.data.rows.example import Example, Row, shown
from rlhf.data.rows.published_rows import HUMAN

__all__ = ["FIELDS", "SCHEMAS", "Example", "Schema", "named_columns", "read_examples", "schema_of", "schema_of_all"]


class Schema(NamedTuple):
    """Columns of a data set and their reader.

    Attributes:
        read: function from a row to the common form.
        keys: columns that identify the schema.
        more: further columns that are read.
        unused: further columns of the published data that are known to have no effect here.
    """

    read: Callable[[Row], Example]
    keys: tuple[str, ...]
    more: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()

    @property
    def known(self) -> tuple[str, ...]:
        """All columns of the schema."""
        return (*self.keys, *self.more, *self.unused, *NUMBERING)


NUMBERING = ("", "id", "idx", "index", "prompt_id", "Unnamed: 0", "__index_level_0__")
"""Columns that number rows; no schema reads them."""

_PKU_NOTES = tuple(
    f"response_{number}_{name}" for number in (0, 1) for name in ("harm_category", "severity_level", "source", "sha256")
)
_SCORES = tuple(name for pair in conversation_rows.SCORES for name in pair)
_PROMPTS = ("prompt", "instruction", "input", "conversations", "system", "history", *_SCORES)

SCHEMAS: dict[str, Schema] = {
    "safe-and-unsafe": Schema(published_rows.safe_and_unsafe, ("prompt", "response")),
    "PKU-SafeRLHF": Schema(
        published_rows.pku_safe_rlhf,
        ("prompt", "response_0", "response_1", "safer_response_id"),
        ("better_response_id", "is_response_0_safe", "is_response_1_safe"),
        ("prompt_source", *_PKU_NOTES),
    ),
    "hh-rlhf-processed": Schema(published_rows.hh_rlhf_processed, ("context", "chosen", "rejected")),
    "preference": Schema(conversation_rows.preference, ("chosen", "rejected"), _PROMPTS, ("messages",)),
    "hh-rlhf": Schema(published_rows.hh_rlhf, ("chosen", "rejected")),
    "messages": Schema(conversation_rows.messages, ("messages",), ("system", "prompt")),
    "sharegpt": Schema(conversation_rows.messages, ("conversations",), ("system", "prompt")),
    "completion": Schema(conversation_rows.completion, ("prompt", "completion"), ("system", "label")),
    "BeaverTails": Schema(published_rows.beavertails, ("prompt", "response", "category", "is_safe")),
    "judged": Schema(published_rows.single_verdict, ("prompt", "response", "label")),
    "one-category": Schema(published_rows.one_category, ("prompt", "response", "category")),
    "BeaverTails-Evaluation": Schema(published_rows.question, ("prompt", "category"), (), ("category_id",)),
    "alpaca": Schema(
        conversation_rows.alpaca, ("instruction", "output"), ("input", "system", "history", "kto_tag"), ("text",)
    ),
    "dolly": Schema(
        conversation_rows.dolly, ("instruction", "response"), ("context", "system", "history"), ("category",)
    ),
    "firefly": Schema(published_rows.firefly, ("input", "target"), (), ("kind",)),
    "moss-002-sft": Schema(
        published_rows.moss_002, ("plain_text",), (), ("prefix", "num_turns", "conversation_id", "task")
    ),
    "moss-003-sft": Schema(
        published_rows.moss_003, ("chat",), (), ("num_turns", "conversation_id", "category", "meta_instruction")
    ),
    "answered": Schema(published_rows.answered, ("prompt", "response"), ("question_category",)),
    "prompts": Schema(conversation_rows.prompt_messages, ("prompt",), ("system",)),
}
"""Schemas by the name of the data set or format that introduced them, more specific ones first."""

SCHEMA_ROWS = 100
"""Number of rows at the beginning of a file that decide its schema."""

FIELDS = tuple(dict.fromkeys(field for schema in SCHEMAS.values() for field in (*schema.keys, *schema.more)))
"""Columns that any schema reads, which `--columns` can name."""


def named_columns(pairs: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Return the columns of `--columns NAME=COLUMN,...`, checked.

    Raises:
        ValueError: no schema has a field of that name, or a name occurs twice.
    """
    return by_column.check_columns(pairs, FIELDS) if pairs else {}


def schema_of(row: Row) -> str:
    """Return the schema of a row by its keys.

    Raises:
        ValueError: no schema fits; the message lists the keys.
    """
    fitting = (name for name, schema in SCHEMAS.items() if all(key in row for key in schema.keys) and _fits(name, row))
    if name := next(fitting, None):
        return name
    listed = "; ".join(f"{name}: {', '.join(schema.keys)}" for name, schema in SCHEMAS.items())
    raise ValueError(f"keys {', '.join(map(str, row))} fit no known schema ({listed}). Name columns by --columns")


def _fits(name: str, row: Row) -> bool:
    """Return True if a row with the keys of a schema has its types, where another schema has the same keys."""
    if name == "safe-and-unsafe":
        return isinstance(row["response"], list)
    if name == "preference":
        marked = all(isinstance(row[key], str) and row[key].startswith(HUMAN) for key in ("chosen", "rejected"))
        return not marked or any(key in row for key in ("prompt", "instruction", "conversations"))
    if name == "hh-rlhf-processed":
        return isinstance(row["context"], list)
    return True


def schema_of_all(entries: Sequence[Entry]) -> str:
    """Return the schema that fits most of the first rows, so that a stray row does not decide. Ties go to the more
    specific schema.

    Raises:
        ValueError: no schema fits any of the rows.
    """
    order = {name: rank for rank, name in enumerate(SCHEMAS)}
    counts: Counter[str] = Counter()
    faults = []
    for entry in [entry for entry in entries if not entry.fault][:SCHEMA_ROWS]:
        try:
            counts[schema_of(entry.row)] += 1
        except ValueError as error:
            faults.append(f"{entry.source}: {error}")
    if not counts:
        raise ValueError(faults[0])
    return min(counts, key=lambda name: (-counts[name], order[name]))


def read_examples(
    path: Path, schema: str | None = None, *, skip: bool = False, columns: Columns | None = None
) -> tuple[list[Example], list[str]]:
    """Read the rows of a file or of a folder, with a warning for each file that has filled columns of no effect.

    Args:
        path: file or folder.
        schema: one of `SCHEMAS`; None for the schema that fits most of the first rows of each file.
        skip: leave out rows that cannot be read or used instead of raising.
        columns: columns of the files by the name that a schema has for them.

    Returns:
        The rows, and for each row that was left out a line with its source and the reason.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a row cannot be read or used; the message names the file and the row.
    """
    entries = read_entries(path)
    faults = [f"{entry.source}: {entry.fault}" for entry in entries if entry.fault]
    if faults and not skip:
        raise ValueError(faults[0])
    if len(faults) == len(entries):
        raise ValueError(f"{path} has no rows" + (f" that can be read; {faults[0]}" if faults else ""))
    by_file: dict[str, list[Entry]] = {}
    for entry in entries:
        by_file.setdefault(entry.source.rpartition(", row ")[0], []).append(entry)
    examples, left_out = [], []
    for file, rows in by_file.items():
        for result in _read_file(file, rows, schema, columns or {}):
            if isinstance(result, Example):
                examples.append(result)
            elif not skip:
                raise ValueError(result)
            else:
                left_out.append(result)
    return examples, left_out


def _read_file(file: str, entries: Sequence[Entry], schema: str | None, columns: Columns) -> Iterator[Example | str]:
    """Yield the rows of a file, or lines with the source and the reason."""
    by_column.check_present([entry.row for entry in entries if not entry.fault], columns, file)
    entries = [_prepared(entry, columns) for entry in entries]
    usable = [entry for entry in entries if not entry.fault]
    name = schema or (schema_of_all(usable) if usable else "prompts")
    for entry in entries:
        try:
            if entry.fault:
                raise ValueError(entry.fault)
            yield _checked_texts(SCHEMAS[name].read(entry.row))._replace(source=entry.source)
        except (KeyError, ValueError) as error:
            reason = f"there is no field {error}" if isinstance(error, KeyError) else str(error)
            yield f"{entry.source}: {reason}"
    unread = by_column.unread((entry.row for entry in usable), SCHEMAS[name].known)
    unread += sorted(set().union(*(conversation_rows.message_columns(entry.row) for entry in usable)))
    if unread:
        warnings.warn(
            f"{file} has columns that are not read: {', '.join(unread)}. The schema {name} reads "
            f"{', '.join((*SCHEMAS[name].keys, *SCHEMAS[name].more))}; --columns gives other columns these names",
            stacklevel=4,
        )


def _prepared(entry: Entry, columns: Columns) -> Entry:
    """Return a row under the names of a schema, and with its types."""
    if entry.fault:
        return entry
    row = by_column.renamed(entry.row, columns)
    try:
        return entry._replace(row=by_column.typed(row) if entry.untyped else row)
    except ValueError as error:
        return entry._replace(row={}, fault=str(error))


def _checked_texts(example: Example) -> Example:
    if not all(turn.strip() for turn in example.prompt):
        raise ValueError("the prompt is empty")
    responses = [text for text in (example.response, example.other_response) if text is not None]
    if not all(response.strip() for response in responses):
        raise ValueError("an answer is empty")
    for text in (*example.prompt, *responses):
        if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
            raise ValueError(f"a text must be Unicode, got half of a surrogate pair in {shown(text)}")
    return example

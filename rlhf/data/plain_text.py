"""Plain text for language models: one stream of tokens, cut into pieces of equal length."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rlhf.data import files
from rlhf.tokenizer.tokenizer import Tokenizer


def read_texts(path: Path) -> list[str]:
    """Read the texts of a file: paragraphs separated by blank lines, or lines in a file without blank lines.

    A file of rows (`rlhf.data.files`) has them in its column `text`.

    Raises:
        ValueError: the file is not in UTF-8, or a row has no `text`; the message names it.
    """
    if path.is_dir() or files.kind_of(path) in files.SUFFIXES:
        return [_text_of(entry) for entry in files.read_entries(path)]
    files.check_content(path)
    try:
        whole = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} must be text in UTF-8, got {error}") from error
    pieces = whole.split("\n\n") if "\n\n" in whole.strip() else whole.split("\n")
    return [piece for piece in pieces if piece.strip()]


def _text_of(entry: files.Entry) -> str:
    text = entry.row.get("text")
    if entry.fault or not isinstance(text, str):
        columns = ", ".join(map(str, entry.row))
        raise ValueError(f"{entry.source}: {entry.fault or f'a row must have a column text, got {columns}'}")
    return text


def stream(texts: Sequence[str], tokenizer: Tokenizer) -> np.ndarray:
    """Return the ids `[N]` int32 of all texts, each followed by the end-of-text token."""
    return np.array([i for text in texts for i in (*tokenizer.encode(text), tokenizer.eos)], np.int32)


def pieces(ids: np.ndarray, length: int) -> np.ndarray:
    """Cut a stream `[N]` into `[N // length, length]` and drop the remainder.

    Raises:
        ValueError: the stream is shorter than one piece.
    """
    count = len(ids) // length
    if not count:
        raise ValueError(f"the texts have {len(ids)} tokens, less than one piece of {length}")
    return ids[: count * length].reshape(count, length)


class HeldOutText(NamedTuple):
    """Held-out text in overlapping pieces.

    Attributes:
        ids: `[N, L]` int32; each piece starts with the last token of the piece before, so that every token except the
            first is predicted exactly once.
        mask: `[N, L]` bool, False for the padding of the last piece.
        tokens: number of predicted tokens.
        bytes: number of bytes of the texts in UTF-8, plus one for each end of a text, which is predicted too.
    """

    ids: np.ndarray
    mask: np.ndarray
    tokens: int
    bytes: int


def held_out_text(texts: Sequence[str], tokenizer: Tokenizer, length: int) -> HeldOutText:
    """Encode held-out texts as overlapping pieces.

    Raises:
        ValueError: fewer than two tokens, or a length below two.
    """
    ids = stream(texts, tokenizer)
    if len(ids) < 2 or length < 2:
        raise ValueError(
            f"evaluation needs at least 2 tokens in pieces of 2, got {len(ids)} tokens in pieces of {length}"
        )
    starts = range(0, len(ids) - 1, length - 1)
    pieces_ids = np.full((len(starts), length), tokenizer.pad, np.int32)
    mask = np.zeros(pieces_ids.shape, bool)
    for row, start in enumerate(starts):
        part = ids[start : start + length]
        pieces_ids[row, : len(part)], mask[row, : len(part)] = part, True
    return HeldOutText(pieces_ids, mask, len(ids) - 1, sum(len(text.encode()) + 1 for text in texts))

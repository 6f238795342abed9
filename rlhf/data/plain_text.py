"""Plain text for language models: texts of files as one stream of tokens, cut into pieces of one length."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rlhf.tokenizer.tokenizer import Tokenizer


def read_texts(path: Path) -> list[str]:
    """Texts of a file: what stands between blank lines, or each line where there are none.

    Raises:
        ValueError: it is not in UTF-8; the message names the file.
    """
    try:
        whole = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not a text in UTF-8: {error}") from error
    pieces = whole.split("\n\n") if "\n\n" in whole.strip() else whole.split("\n")
    return [piece for piece in pieces if piece.strip()]


def stream(texts: Sequence[str], tokenizer: Tokenizer) -> np.ndarray:
    """Ids `[N]` int32 of all texts, each followed by the end of a text."""
    return np.array([i for text in texts for i in (*tokenizer.encode(text), tokenizer.eos)], np.int32)


def pieces(ids: np.ndarray, length: int) -> np.ndarray:
    """A stream `[N]` as `[N // length, length]`; the rest is left out.

    Raises:
        ValueError: there is less than one piece.
    """
    count = len(ids) // length
    if not count:
        raise ValueError(f"the texts have {len(ids)} tokens, less than one piece of {length}")
    return ids[: count * length].reshape(count, length)


class Held(NamedTuple):
    """Texts to measure a language model on.

    Attributes:
        ids: `[N, L]` int32; each piece begins with the last token of the one before, so that every token but the very
            first is predicted once.
        mask: `[N, L]` bool, False for the padding of the last piece.
        tokens: that are predicted.
        bytes: of the texts in UTF-8, and one for the end of each, which is predicted as well.
    """

    ids: np.ndarray
    mask: np.ndarray
    tokens: int
    bytes: int


def held(texts: Sequence[str], tokenizer: Tokenizer, length: int) -> Held:
    """Texts as overlapping pieces.

    Raises:
        ValueError: fewer than two tokens, or a length below two.
    """
    ids = stream(texts, tokenizer)
    if len(ids) < 2 or length < 2:
        raise ValueError(f"nothing to predict in {len(ids)} tokens cut into pieces of {length}")
    starts = range(0, len(ids) - 1, length - 1)
    found = np.full((len(starts), length), tokenizer.pad, np.int32)
    mask = np.zeros(found.shape, bool)
    for row, start in enumerate(starts):
        part = ids[start : start + length]
        found[row, : len(part)], mask[row, : len(part)] = part, True
    return Held(found, mask, len(ids) - 1, sum(len(text.encode()) + 1 for text in texts))

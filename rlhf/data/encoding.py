"""Rows of data sets as padded arrays of tokens, the input of the training stages.

Each function tokenises its rows once and returns which of them it kept. Unusable rows are left out and counted by
reason, or raise. Texts longer than `length` lose their end, the end-of-text token included, as published, and are
counted by a warning.
"""

from __future__ import annotations

import collections
import warnings
from collections.abc import Callable, Sequence
from typing import Generic, NamedTuple, TypeVar

import numpy as np

from rlhf.chat_templates.chat_template import answered_ids, learned_ids, prompt_ids
from rlhf.chat_templates.safe_rlhf import IGNORED
from rlhf.data.preference_batch import Array, PreferenceBatch
from rlhf.data.schemas import Example
from rlhf.tokenizer.tokenizer import Tokenizer

T = TypeVar("T")
Batch = TypeVar("Batch")


class Supervised(NamedTuple):
    """N texts for supervised training, padded on the right to L.

    Attributes:
        ids: `[N, L]` int32.
        labels: `[N, L]` int32, the ids of responses, `IGNORED` elsewhere.
        mask: `[N, L]` bool, False for padding.
        share: `[]`, weight of the cross-entropy of a part of a batch; None for a whole batch, which has weight 1.
    """

    ids: Array
    labels: Array
    mask: Array
    share: Array = None


class Prompts(NamedTuple):
    """N prompts, padded on the left to S.

    Attributes:
        ids: `[N, S]` int32.
        mask: `[N, S]` bool, False for padding.
    """

    ids: Array
    mask: Array


class Labelled(NamedTuple):
    """N texts with labels, padded on the right to L.

    Attributes:
        ids: `[N, L]` int32.
        mask: `[N, L]` bool, False for padding.
        labels: `[N, K]` float32, 1 for each label that applies.
    """

    ids: Array
    mask: Array
    labels: Array


class Encoded(NamedTuple, Generic[Batch]):
    """Rows as arrays.

    Attributes:
        batch: the arrays, one entry for each kept row.
        rows: the kept rows.
        index: positions of the kept rows among all rows.
        left_out: number of the other rows by reason.
    """

    batch: Batch
    rows: list[Example]
    index: list[int]
    left_out: dict[str, int]


class UnusableRow(ValueError):
    """A row that cannot be encoded as requested."""


def supervised(
    rows: Sequence[Example], tokenizer: Tokenizer, length: int, *, skip: bool = False
) -> Encoded[Supervised]:
    """Encode prompts with their responses. Every response of a dialogue is learned.

    Args:
        rows: with a response each.
        tokenizer: tokenizer of the model.
        length: L.
        skip: leave out unusable rows instead of raising.

    Raises:
        ValueError: a row cannot be used and `skip` is not set; the message names its file and number.
    """

    def encode(row: Example) -> tuple[list[int], list[int]]:
        response = _require(row.response, "there is no answer")
        _check_room(len(prompt_ids(row.prompt[:1], tokenizer)), length)
        ids, labels = learned_ids(row.prompt, response, tokenizer)
        return ids, labels

    entries, index, left_out = _encode_each(rows, encode, skip)
    _warn_of_cut_texts([ids for ids, _ in entries], length)
    ids, mask = _pad_right([ids for ids, _ in entries], length, tokenizer.pad)
    labels, _ = _pad_right([labels for _, labels in entries], length, IGNORED)
    return Encoded(Supervised(ids, labels, mask), [rows[i] for i in index], index, left_out)


def preferences(
    rows: Sequence[Example], tokenizer: Tokenizer, length: int, *, by: str, skip: bool = False
) -> Encoded[PreferenceBatch]:
    """Encode preference pairs.

    Args:
        rows: with two responses each.
        tokenizer: tokenizer of the model.
        length: L.
        by: `"better"` chooses the more helpful response, `"safer"` the less harmful one.
        skip: leave out unusable rows instead of raising.

    Raises:
        ValueError: a row cannot be used and `skip` is not set; the message names its file and number.
    """
    if by not in ("better", "safer"):
        raise ValueError(f"by must be 'better' or 'safer', got {by!r}")

    def encode(row: Example) -> tuple[list[int], list[int], float, float]:
        first = _require(row.better if by == "better" else row.safer, f"there is no label for the {by} answer")
        responses = (
            _require(row.response, "there is no answer"),
            _require(row.other_response, "there is no second answer"),
        )
        ids = [_encode_answer(row, response, tokenizer, length) for response in responses]
        safe = [_sign(row.safe), _sign(row.other_safe)]
        if by == "safer" and 0.0 in safe:
            raise UnusableRow("an answer has no safety label")
        if not first:
            ids, safe = ids[::-1], safe[::-1]
        if ids[0][:length] == ids[1][:length]:
            raise UnusableRow("the two answers have the same tokens")
        if by == "safer" and safe[0] < safe[1]:
            raise UnusableRow("the less harmful answer is labelled harmful and the other is not")
        return ids[0], ids[1], safe[0], safe[1]

    entries, index, left_out = _encode_each(rows, encode, skip)
    _warn_of_cut_texts([ids for entry in entries for ids in entry[:2]], length)
    chosen, chosen_mask = _pad_right([entry[0] for entry in entries], length, tokenizer.pad)
    rejected, rejected_mask = _pad_right([entry[1] for entry in entries], length, tokenizer.pad)
    safe = np.array([entry[2:] for entry in entries], np.float32).reshape(-1, 2)
    batch = PreferenceBatch(chosen, rejected, chosen_mask, rejected_mask, safe[:, 0], safe[:, 1])
    return Encoded(batch, [rows[i] for i in index], index, left_out)


def prompts(rows: Sequence[Example], tokenizer: Tokenizer, length: int, *, skip: bool = False) -> Encoded[Prompts]:
    """Encode prompts.

    Args:
        rows: their responses are ignored.
        tokenizer: tokenizer of the model.
        length: S.
        skip: leave out longer prompts instead of raising.

    Raises:
        ValueError: a prompt is longer and `skip` is not set; the message names its file and number.
    """

    def encode(row: Example) -> list[int]:
        ids = prompt_ids(row.prompt, tokenizer, length)
        if len(ids) > length:
            raise UnusableRow(f"the prompt has {len(ids)} tokens, the maximum is {length}")
        return ids

    entries, index, left_out = _encode_each(rows, encode, skip)
    ids, mask = _pad_right([ids[::-1] for ids in entries], length, tokenizer.pad)
    batch = Prompts(np.ascontiguousarray(ids[:, ::-1]), np.ascontiguousarray(mask[:, ::-1]))
    return Encoded(batch, [rows[i] for i in index], index, left_out)


def labelled(
    rows: Sequence[Example], labels: Sequence[str], tokenizer: Tokenizer, length: int, *, skip: bool = False
) -> Encoded[Labelled]:
    """Encode responses with their categories of harm.

    Args:
        rows: with a response each; a safe one needs no categories.
        labels: names of the K categories.
        tokenizer: tokenizer of the model.
        length: L.
        skip: leave out unusable rows instead of raising.

    Raises:
        ValueError: a row cannot be used and `skip` is not set; the message names its file and number.
    """

    def encode(row: Example) -> tuple[list[int], list[float]]:
        known = row.labels if row.labels is not None else {} if row.safe else None
        by_name = _require(known, "there are no categories of harm")
        unknown = [name for name, applies in by_name.items() if applies and name not in labels]
        if unknown:
            raise UnusableRow(f"category {unknown[0]!r} is not among the labels")
        ids = _encode_answer(row, _require(row.response, "there is no answer"), tokenizer, length)
        return ids, [float(by_name.get(name, False)) for name in labels]

    entries, index, left_out = _encode_each(rows, encode, skip)
    _warn_of_cut_texts([entry[0] for entry in entries], length)
    ids, mask = _pad_right([entry[0] for entry in entries], length, tokenizer.pad)
    values = np.array([entry[1] for entry in entries], np.float32).reshape(-1, len(labels))
    return Encoded(Labelled(ids, mask, values), [rows[i] for i in index], index, left_out)


def require_rows(encoded: Encoded[Batch], rows: Sequence[Example]) -> Encoded[Batch]:
    """Return encoded pairs, of which there must be at least one.

    Args:
        encoded: the pairs.
        rows: all rows that were encoded.

    Raises:
        ValueError: no row could be used; the message lists the reasons.
    """
    if encoded.rows:
        return encoded
    reasons = collections.Counter(encoded.left_out).most_common(3)
    listed = "; ".join(f"{count} x {reason}" for reason, count in reasons)
    source = f", starting at {rows[0].source}" if rows and rows[0].source else ""
    raise ValueError(f"none of the {len(rows)} pairs can be used{source}" + (f": {listed}" if listed else ""))


def _sign(safe: bool | None) -> float:
    return 0.0 if safe is None else 1.0 if safe else -1.0


def _encode_answer(row: Example, response: str, tokenizer: Tokenizer, length: int) -> list[int]:
    """Ids of prompt, response and end; the prompt leaves room for a response in `length`."""
    ids, begin = answered_ids(row.prompt, response, tokenizer)
    _check_room(begin, length)
    return ids


def _warn_of_cut_texts(texts: Sequence[Sequence[int]], length: int) -> None:
    if cut := sum(len(ids) > length for ids in texts):
        counts = f"{cut} of {len(texts)} texts are longer than {length} tokens and lose their end"
        warnings.warn(f"{counts}; the longest has {max(map(len, texts))}", stacklevel=3)


def _check_room(begin: int, length: int) -> None:
    if begin >= length:
        raise UnusableRow(f"the prompt has {begin} tokens and leaves no room for an answer in {length}")


def _require(value: T | None, message: str) -> T:
    if value is None:
        raise UnusableRow(message)
    return value


def _encode_each(
    rows: Sequence[Example], encode: Callable[[Example], T], skip: bool
) -> tuple[list[T], list[int], dict[str, int]]:
    """Encode rows; return entries, positions of the kept rows, and counts of the others by reason."""
    entries: list[T] = []
    index: list[int] = []
    left_out: collections.Counter[str] = collections.Counter()
    for number, row in enumerate(rows):
        try:
            entries.append(encode(row))
            index.append(number)
        except UnusableRow as error:
            if not skip:
                raise ValueError(f"{row.source or f'row {number}'}: {error}") from error
            left_out[_without_numbers(str(error))] += 1
    return entries, index, dict(left_out)


def _without_numbers(reason: str) -> str:
    return " ".join("N" if word.isdigit() else word for word in reason.split())


def _pad_right(rows: Sequence[Sequence[int]], length: int, pad: int) -> tuple[np.ndarray, np.ndarray]:
    """Ids and mask `[N, length]` of the beginnings of rows."""
    ids = np.full((len(rows), length), pad, np.int32)
    mask = np.zeros((len(rows), length), bool)
    for number, row in enumerate(rows):
        kept = min(len(row), length)
        ids[number, :kept] = row[:kept]
        mask[number, :kept] = True
    return ids, mask

"""Samples as arrays of tokens, padded to one length: what the stages of training read.

Rows that cannot be used are left out and counted by reason, or refused, as the caller says. Whatever is longer than
`length` loses its end, the end of the text included, as published.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import numpy as np

from rlhf.chat_templates.chat_template import answered_ids, learned_ids, prompt_ids
from rlhf.chat_templates.safe_rlhf import IGNORED
from rlhf.data.preference_batch import Array, PreferenceBatch
from rlhf.data.schemas import Sample
from rlhf.tokenizer.tokenizer import Tokenizer


class Supervised(NamedTuple):
    """Texts to be learned, N of them, padded on the right to L.

    Attributes:
        ids: `[N, L]` int32.
        labels: `[N, L]` int32, the ids of answers, `IGNORED` elsewhere.
        mask: `[N, L]` bool, False for padding.
    """

    ids: Array
    labels: Array
    mask: Array


class Prompts(NamedTuple):
    """Prompts, padded on the left to S.

    Attributes:
        ids: `[N, S]` int32.
        mask: `[N, S]` bool.
    """

    ids: Array
    mask: Array


class Labelled(NamedTuple):
    """Texts with labels, padded on the right.

    Attributes:
        ids: `[N, L]` int32.
        mask: `[N, L]` bool.
        labels: `[N, K]` float32, 1 for each label that applies.
    """

    ids: Array
    mask: Array
    labels: Array


T = TypeVar("T")


class Unusable(ValueError):
    """A sample cannot be an example of the kind asked for."""


def _encode(sample: Sample, answer: str, tokenizer: Tokenizer, length: int) -> tuple[list[int], int]:
    """Ids of prompt, answer and end, at most `length` of them, and how many are the prompt's."""
    ids, begin = answered_ids(sample.prompt, answer, tokenizer)
    return ids[:length], _room(begin, length)


def _room(begin: int, length: int) -> int:
    """Where the answer begins, if it does before the end."""
    if begin >= length:
        raise Unusable(f"the prompt has {begin} tokens and leaves no room for an answer in {length}")
    return begin


def supervised(
    samples: Sequence[Sample], tokenizer: Tokenizer, length: int, *, skip: bool = False
) -> tuple[Supervised, dict[str, int]]:
    """Prompts with their answers, of which the answers are learned, those within a dialogue too.

    Args:
        samples: with an answer each.
        tokenizer: of the model.
        length: L.
        skip: leave out what cannot be used.

    Returns:
        The examples, and how many samples were left out for each reason.

    Raises:
        ValueError: a sample cannot be used and `skip` is not set; the message names it by file and row.
    """

    def one(sample: Sample) -> tuple[list[int], list[int]]:
        answer = _of(sample.answer, "there is no answer")
        _room(len(prompt_ids(sample.prompt[:1], tokenizer)), length)
        ids, labels = learned_ids(sample.prompt, answer, tokenizer)
        return ids[:length], labels[:length]

    found, left_out = _each(samples, one, skip)
    ids, mask = _right([ids for ids, _ in found], length, tokenizer.pad)
    labels, _ = _right([labels for _, labels in found], length, IGNORED)
    return Supervised(ids, labels, mask), left_out


def preferences(
    samples: Sequence[Sample], tokenizer: Tokenizer, length: int, *, by: str, skip: bool = False
) -> tuple[PreferenceBatch, dict[str, int]]:
    """Pairs of answers, the better one first.

    Args:
        samples: with two answers each.
        tokenizer: of the model.
        length: L.
        by: `"better"` for the more helpful answer first, `"safer"` for the less harmful one.
        skip: leave out what cannot be used.

    Returns:
        The pairs, and how many samples were left out for each reason.

    Raises:
        ValueError: a sample cannot be used and `skip` is not set; the message names it by file and row.
    """
    if by not in ("better", "safer"):
        raise ValueError(f"by must be 'better' or 'safer', got {by!r}")

    def sign(safe: bool | None) -> float:
        return 0.0 if safe is None else 1.0 if safe else -1.0

    def one(sample: Sample) -> tuple[list[int], list[int], float, float]:
        first = _of(sample.better if by == "better" else sample.safer, f"nobody says which answer is {by}")
        answers = _of(sample.answer, "there is no answer"), _of(sample.other, "there is no second answer")
        encoded = [_encode(sample, answer, tokenizer, length)[0] for answer in answers]
        signs = [sign(sample.safe), sign(sample.other_safe)]
        if by == "safer" and 0.0 in signs:
            raise Unusable("nobody says whether both answers are safe")
        if not first:
            encoded, signs = encoded[::-1], signs[::-1]
        if encoded[0] == encoded[1]:
            raise Unusable("the two answers have the same tokens")
        if by == "safer" and signs[0] < signs[1]:
            raise Unusable("the less harmful answer is labelled harmful and the other is not")
        return encoded[0], encoded[1], signs[0], signs[1]

    found, left_out = _each(samples, one, skip)
    chosen, chosen_mask = _right([row[0] for row in found], length, tokenizer.pad)
    rejected, rejected_mask = _right([row[1] for row in found], length, tokenizer.pad)
    signs = np.array([row[2:] for row in found], np.float32).reshape(-1, 2)
    return PreferenceBatch(chosen, rejected, chosen_mask, rejected_mask, signs[:, 0], signs[:, 1]), left_out


def pairs_and_prompts(
    samples: Sequence[Sample], tokenizer: Tokenizer, length: int, *, by: str, skip: bool = False
) -> tuple[PreferenceBatch, list[tuple[str, ...]]]:
    """Pairs as `preferences` gives them, and the prompt of each.

    Raises:
        ValueError: a sample cannot be used and `skip` is not set, or none can be used.
    """
    usable, asked, reasons = [], [], collections.Counter()
    for sample in samples:  # one by one, so that prompts and pairs stay side by side
        pair, why = preferences([sample], tokenizer, length, by=by, skip=skip)
        reasons.update(why)
        if len(pair.chosen):
            usable.append(pair)
            asked.append(sample.prompt)
    if not usable:
        listed = "; ".join(f"{count} x {reason}" for reason, count in reasons.most_common(3))
        where = f", from {samples[0].source} on" if len(samples) and samples[0].source else ""
        raise ValueError(f"none of the {len(samples)} pairs can be used{where}" + (f": {listed}" if listed else ""))
    return PreferenceBatch(*(np.concatenate(column) for column in zip(*usable, strict=True))), asked


def prompts(
    samples: Sequence[Sample], tokenizer: Tokenizer, length: int, *, skip: bool = False
) -> tuple[Prompts, dict[str, int]]:
    """Prompts to be answered.

    Args:
        samples: their answers are not read.
        tokenizer: of the model.
        length: S.
        skip: leave out prompts that are longer.

    Raises:
        ValueError: a prompt is longer and `skip` is not set; the message names it by file and row.
    """

    def one(sample: Sample) -> list[int]:
        ids = prompt_ids(sample.prompt, tokenizer, length)
        if len(ids) > length:
            raise Unusable(f"the prompt has {len(ids)} tokens, and there is room for {length}")
        return ids

    found, left_out = _each(samples, one, skip)
    ids, mask = _right([row[::-1] for row in found], length, tokenizer.pad)
    return Prompts(np.ascontiguousarray(ids[:, ::-1]), np.ascontiguousarray(mask[:, ::-1])), left_out


def labelled(
    samples: Sequence[Sample], labels: Sequence[str], tokenizer: Tokenizer, length: int, *, skip: bool = False
) -> tuple[Labelled, dict[str, int]]:
    """Answers with their categories of harm.

    Args:
        samples: with an answer each; a safe one may come without categories.
        labels: names of the K categories.
        tokenizer: of the model.
        length: L.
        skip: leave out what cannot be used.

    Raises:
        ValueError: a sample cannot be used and `skip` is not set; the message names it by file and row.
    """

    def one(sample: Sample) -> tuple[list[int], list[float]]:
        found = sample.labels if sample.labels is not None else {} if sample.safe else None
        held = _of(found, "nobody says which categories of harm apply")
        unknown = [name for name, holds in held.items() if holds and name not in labels]
        if unknown:
            raise Unusable(f"category {unknown[0]!r} is not among the labels")
        ids, _ = _encode(sample, _of(sample.answer, "there is no answer"), tokenizer, length)
        return ids, [float(held.get(name, False)) for name in labels]

    found, left_out = _each(samples, one, skip)
    ids, mask = _right([row[0] for row in found], length, tokenizer.pad)
    return Labelled(ids, mask, np.array([row[1] for row in found], np.float32).reshape(-1, len(labels))), left_out


def _of(value: T | None, complaint: str) -> T:
    if value is None:
        raise Unusable(complaint)
    return value


def _each(samples: Sequence[Sample], one: Callable[[Sample], T], skip: bool) -> tuple[list[T], dict[str, int]]:
    found: list[T] = []
    left_out: collections.Counter[str] = collections.Counter()
    for number, sample in enumerate(samples):
        try:
            found.append(one(sample))
        except Unusable as error:
            if not skip:
                raise ValueError(f"{sample.source or f'sample {number}'}: {error}") from error
            left_out[_without_numbers(str(error))] += 1
    return found, dict(left_out)


def _without_numbers(reason: str) -> str:
    return " ".join("N" if word.isdigit() else word for word in reason.split())


def _right(rows: Sequence[Sequence[int]], length: int, pad: int) -> tuple[np.ndarray, np.ndarray]:
    ids = np.full((len(rows), length), pad, np.int32)
    mask = np.zeros((len(rows), length), bool)
    for number, row in enumerate(rows):
        ids[number, : len(row)] = row
        mask[number, : len(row)] = True
    return ids, mask

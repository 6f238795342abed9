"""What can be said of drawings without a judge: how many strokes they have, and whether they are copies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from sketch.data.strokes import to_polylines
from sketch.evaluation import metrics
from sketch.evaluation.generated_sets import Group, people

StrokeNLL = Callable[[Sequence[np.ndarray]], Sequence[np.ndarray]]
"""Negative log-likelihoods of the strokes of each drawing, under a model of human strokes."""


class Nearness(NamedTuple):
    """How near drawings are to the training set, beside how near held-out humans are to it.

    Attributes:
        median: of the distances to the nearest training drawing.
        human_median: of the same of held-out humans; an honest system is about as far.
        copies: share that is nearer than all but 1 % of the held-out humans.
    """

    median: float
    human_median: float
    copies: float


def nearness(distances: np.ndarray, human: np.ndarray, quantile: float) -> Nearness:
    """See `Nearness`.

    Args:
        distances: `[n]` to the nearest training drawing.
        human: `[m]` the same of held-out humans.
        quantile: share of the humans below the distance from which on a drawing counts as a copy.
    """
    least = np.quantile(human, quantile)
    return Nearness(float(np.median(distances)), float(np.median(human)), float((distances < least).mean()))


def counts(drawings: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Strokes and points of each drawing, `[n]` each."""
    strokes = np.array([len(to_polylines(drawing)) for drawing in drawings])
    return strokes, np.array([len(drawing) for drawing in drawings])


def count_rows(groups: Sequence[Group], vectors: Sequence[np.ndarray]) -> list[dict[str, Any]]:
    """Strokes, points and the share that was never ended, and how their distributions differ from people's.

    Args:
        groups: the systems.
        vectors: of people; none where only their bitmaps are known.
    """
    human = counts(vectors) if len(vectors) else None
    rows = []
    for group in ([people(vectors)] if human else []) + list(groups):
        drawings = [drawing for one in group.samples for drawing in one.drawings]
        row: dict[str, Any] = {"drawings": len(drawings)}
        for name, found, of_people in zip(("strokes", "points"), counts(drawings), human or (None, None), strict=True):
            row |= {name: float(found.mean()), f"{name}_std": float(found.std())}
            if of_people is not None:
                test = metrics.kolmogorov_smirnov(found, of_people)
                row |= {f"{name}_ks": test.statistic, f"{name}_ks_p": test.p_value}
        ends = [one.finished for one in group.samples]
        known = all(end is not None for end in ends)
        row["unfinished"] = 1.0 - float(np.concatenate(ends).mean()) if known else None  # type: ignore[arg-type]
        rows.append(group.named() | row)
    return rows


def copy_rows(
    images: Sequence[Sequence[np.ndarray]], human: np.ndarray, training: np.ndarray | None, quantile: float
) -> list[dict[str, Any]]:
    """Copies of training drawings and duplicates within a sample, by the distance of bitmaps; last of the people.

    Duplicates are drawings that are nearer to another of the same sample than all but 1 % of the humans are to one
    another, in sets of one size.

    Args:
        images: bytes `[n, side, side]` of each sample of each group.
        human: the same of held-out humans.
        training: the same of the training set; None where it is not known.
        quantile: see `nearness`.
    """
    size = min(len(one) for one in (human, *(one for group in images for one in group)))
    flat = _flat(human)
    among = metrics.nearest_distance(flat[:size]) if size > 1 else None
    learned = None if training is None else _flat(training)
    to_training = None if learned is None else metrics.nearest_distance(flat, learned)
    rows = []
    for group in [*images, [human]]:
        each = [_flat(one) for one in group]
        row: dict[str, Any] = {"duplicates": None}
        if among is not None:
            least = np.quantile(among, quantile)
            row["duplicates"] = float(np.mean([metrics.nearest_distance(one[:size]) < least for one in each]))
        if learned is not None and to_training is not None:
            distances = np.concatenate([metrics.nearest_distance(one, learned) for one in each])
            found = nearness(distances, to_training, quantile)
            row |= {"pixel_distance": found.median, "pixel_copies": found.copies}
        rows.append(row)
    return rows


def disorder_rows(
    groups: Sequence[Group],
    vectors: Sequence[np.ndarray],
    stroke_nll: StrokeNLL,
    *,
    most: int | None = None,
    quantile: float = 0.99,
    draws: int = 10_000,
    level: float = 0.95,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Share of disordered strokes: those less likely than all but 1 % of the held-out humans' strokes; last of people.

    The share of people is 1 % by construction. Strokes of one drawing are not independent: the interval is over
    training seeds and drawings.

    Args:
        groups: the systems.
        vectors: of held-out people.
        stroke_nll: under a model that learned from other people.
        most: drawings of a sample that are looked at, the first ones; None for all.
        quantile: share of the humans' strokes that are in order.
        draws: resamples of the interval.
        level: of the interval.
        seed: of the resampling.

    Raises:
        ValueError: `stroke_nll` gives other numbers of drawings, or numbers that are not finite.
    """

    def judged(drawings: Sequence[np.ndarray]) -> list[np.ndarray]:
        found = [np.asarray(each, np.float64).ravel() for each in stroke_nll(drawings)]
        if len(found) != len(drawings) or not all(np.isfinite(each).all() for each in found):
            raise ValueError(f"stroke_nll must give finite numbers for {len(drawings)} drawings, got {len(found)}")
        return found

    human = judged(vectors)
    bound = np.quantile(np.concatenate(human), quantile)
    rows = []
    for each in [*([judged(one.drawings[:most]) for one in group.samples] for group in groups), [human]]:
        bad = [np.array([(drawing > bound).sum() for drawing in one]) for one in each]
        every = [np.array([len(drawing) for drawing in one]) for one in each]
        share = metrics.bootstrap(bad, every, draws=draws, level=level, seed=seed)
        rows.append({"disordered": share.value, "disordered_low": share.low, "disordered_high": share.high})
    return rows


def _flat(images: np.ndarray) -> np.ndarray:
    """Bytes of images as rows of numbers from 0 to 1."""
    return images.reshape(len(images), -1).astype(np.float64) / 255

"""Statistics of drawings without a judge: numbers of strokes and points, copies, duplicates and disorder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from sketch.data.strokes import to_polylines
from sketch.evaluation import metrics
from sketch.evaluation.generated_sets import Group, people

StrokeNLL = Callable[[Sequence[np.ndarray]], Sequence[np.ndarray]]
"""Function from drawings to the negative log likelihood of each stroke, under a model of human strokes."""


class Nearness(NamedTuple):
    """Distance of drawings to the training set, compared with held-out humans.

    Attributes:
        median: median distance to the nearest training drawing.
        human_median: median distance of held-out humans; a system that does not copy is about as far.
        copies: fraction closer than all but 1 % of the held-out humans.
    """

    median: float
    human_median: float
    copies: float


def nearness(distances: np.ndarray, human: np.ndarray, quantile: float) -> Nearness:
    """Compare distances with those of held-out humans.

    Args:
        distances: `[n]` distances to the nearest training drawing.
        human: `[m]` distances of held-out humans.
        quantile: fraction of the humans below the copy threshold.
    """
    least = np.quantile(human, quantile)
    return Nearness(float(np.median(distances)), float(np.median(human)), float((distances < least).mean()))


def counts(drawings: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return the numbers of strokes and of points of each drawing, `[n]` each."""
    strokes = np.array([len(to_polylines(drawing)) for drawing in drawings])
    return strokes, np.array([len(drawing) for drawing in drawings])


def count_rows(groups: Sequence[Group], vectors: Sequence[np.ndarray]) -> list[dict[str, Any]]:
    """Strokes, points and unfinished fraction, and the distance of their distributions from those of people.

    Args:
        groups: the systems.
        vectors: human vectors; may be empty.
    """
    human = counts(vectors) if len(vectors) else None
    rows = []
    for group in ([people(vectors)] if human else []) + list(groups):
        drawings = [drawing for one in group.sets for drawing in one.drawings]
        row: dict[str, Any] = {"drawings": len(drawings)}
        for name, values, of_people in zip(("strokes", "points"), counts(drawings), human or (None, None), strict=True):
            row |= {name: float(values.mean()), f"{name}_std": float(values.std())}
            if of_people is not None:
                test = metrics.kolmogorov_smirnov(values, of_people)
                row |= {f"{name}_ks": test.statistic, f"{name}_ks_p": test.p_value}
        ends = [one.finished for one in group.sets]
        has_ends = all(end is not None for end in ends)
        row["unfinished"] = 1.0 - float(np.concatenate(ends).mean()) if has_ends else None  # type: ignore[arg-type]
        rows.append(group.named() | row)
    return rows


def copy_rows(
    images: Sequence[Sequence[np.ndarray]], human: np.ndarray, training: np.ndarray | None, quantile: float
) -> list[dict[str, Any]]:
    """Copies of training drawings and duplicates within a set, by distance of bitmaps; the last row is of people.

    A duplicate is closer to another drawing of its set than all but 1 % of the humans are to one another, in sets of
    one size.

    Args:
        images: bytes `[n, side, side]` of each set of each group.
        human: bytes of held-out humans.
        training: bytes of the training set, or None.
        quantile: see `nearness`.
    """
    size = min(len(one) for one in (human, *(one for group in images for one in group)))
    flat = _flat(human)
    among = metrics.nearest_distance(flat[:size]) if size > 1 else None
    trained = None if training is None else _flat(training)
    to_training = None if trained is None else metrics.nearest_distance(flat, trained)
    rows = []
    for group in [*images, [human]]:
        each = [_flat(one) for one in group]
        row: dict[str, Any] = {"duplicates": None}
        if among is not None:
            least = np.quantile(among, quantile)
            row["duplicates"] = float(np.mean([metrics.nearest_distance(one[:size]) < least for one in each]))
        if trained is not None and to_training is not None:
            distances = np.concatenate([metrics.nearest_distance(one, trained) for one in each])
            copies = nearness(distances, to_training, quantile)
            row |= {"pixel_distance": copies.median, "pixel_copies": copies.copies}
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
    """Fraction of disordered strokes, less likely than all but 1 % of human strokes; the last row is of people.

    The fraction of people is 1 % by construction. Strokes of one drawing are not independent, so the interval is over
    training seeds and drawings.

    Args:
        groups: the systems.
        vectors: held-out human vectors.
        stroke_nll: negative log likelihood under a model trained on other people.
        most: number of drawings of a set that are checked, the first ones; None for all.
        quantile: fraction of human strokes below the disorder threshold.
        draws: resamples of the interval.
        level: level of the interval.
        seed: seed of the resampling.

    Raises:
        ValueError: if `stroke_nll` returns another number of drawings, or values that are not finite.
    """

    def losses_of(drawings: Sequence[np.ndarray]) -> list[np.ndarray]:
        losses = [np.asarray(each, np.float64).ravel() for each in stroke_nll(drawings)]
        if len(losses) != len(drawings) or not all(np.isfinite(each).all() for each in losses):
            raise ValueError(f"stroke_nll must give finite numbers for {len(drawings)} drawings, got {len(losses)}")
        return losses

    human = losses_of(vectors)
    bound = np.quantile(np.concatenate(human), quantile)
    rows = []
    for each in [*([losses_of(one.drawings[:most]) for one in group.sets] for group in groups), [human]]:
        bad = [np.array([(drawing > bound).sum() for drawing in one]) for one in each]
        every = [np.array([len(drawing) for drawing in one]) for one in each]
        share = metrics.bootstrap(bad, every, draws=draws, level=level, seed=seed)
        rows.append({"disordered": share.value, "disordered_low": share.low, "disordered_high": share.high})
    return rows


def _flat(images: np.ndarray) -> np.ndarray:
    """Convert bytes of images to rows of numbers from 0 to 1."""
    return images.reshape(len(images), -1).astype(np.float64) / 255

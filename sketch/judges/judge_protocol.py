"""What judges are, and what their opinions say of sets of drawings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from sketch.data.strokes import Drawings
from sketch.evaluation import metrics

BITMAPS, VECTORS = "bitmaps", "vectors"
"""What a judge looks at."""


class OpinionLike(Protocol):
    """What a judge thinks of drawings."""

    @property
    def probabilities(self) -> Any:
        """`[n, classes]`."""
        ...

    @property
    def features(self) -> Any:
        """`[n, f]`, in which drawings are compared."""
        ...


class JudgeLike(Protocol):
    """A classifier that has seen neither the systems' drawings nor the test's."""

    @property
    def kind(self) -> str:
        """`bitmaps` or `vectors`: what it looks at."""
        ...

    @property
    def classes(self) -> Sequence[str]:
        """Names of its classes, in the order of the probabilities."""
        ...

    @property
    def opinions(self) -> Callable[[Any], OpinionLike]:
        """Its opinion on bytes `[n, 28, 28]`, white on black, or on `sketch.data.strokes.Drawings` in any unit."""
        ...


class AskedJudge(NamedTuple):
    """Any function that has opinions, as a judge.

    Attributes:
        kind: see `JudgeLike`.
        classes: see there.
        opinions: see there.
    """

    kind: str
    classes: Sequence[str]
    opinions: Callable[[Any], OpinionLike]


class Seen(NamedTuple):
    """A judge's opinion on one sample: `[n]` probability of the target, `[n]` whether it comes first, `[n, f]`."""

    probability: np.ndarray
    recognised: np.ndarray
    features: np.ndarray


def seen(name: str, judge: JudgeLike, target: str, inputs: np.ndarray | Drawings) -> Seen:
    """Ask a judge.

    Args:
        name: what errors call it.
        judge: who is asked.
        target: one of its classes.
        inputs: of its kind.

    Raises:
        ValueError: its answers have the wrong shape or are not finite; names the judge.
    """
    count = len(inputs.lengths) if isinstance(inputs, Drawings) else len(inputs)
    opinion = judge.opinions(inputs)
    probabilities = np.asarray(opinion.probabilities, np.float64)
    features = np.asarray(opinion.features, np.float64)
    if probabilities.shape != (count, len(judge.classes)) or features.ndim != 2 or len(features) != count:
        raise ValueError(
            f"judge {name!r} gave probabilities {list(probabilities.shape)} and features {list(features.shape)} for "
            f"{count} drawings and {len(judge.classes)} classes"
        )
    if not (np.isfinite(probabilities).all() and np.isfinite(features).all()):
        raise ValueError(f"judge {name!r} gave numbers that are not finite")
    number = list(judge.classes).index(target)
    return Seen(probabilities[:, number], probabilities.argmax(axis=1) == number, features)


def among_humans(
    human: np.ndarray, systems: Sequence[np.ndarray] | None, size: int, *, neighbours: int, splits: int, seed: int
) -> dict[str, Any]:
    """Distances from one half of the humans and how far the halves are covered, averaged over halvings and seeds.

    Args:
        human: features `[n, f]`.
        systems: features `[m, f]` of each seed; None for the other half of the humans.
        size: rows of each set that is compared.
        neighbours: that balls reach to.
        splits: halvings.
        seed: of the halvings.
    """
    found: list[list[dict[str, float]]] = []
    for split in range(splits):
        rng = np.random.default_rng([seed, split])
        order = rng.permutation(len(human))
        real, other = human[order[:size]], human[order[len(human) // 2 :][:size]]
        each = [other] if systems is None else [one[rng.permutation(len(one))[:size]] for one in systems]
        found.append([_one_set(real, one, neighbours) for one in each])
    by_seed = [{key: float(np.mean([one[i][key] for one in found])) for key in found[0][0]} for i in range(len(each))]
    mean = {key: float(np.mean([one[key] for one in by_seed])) for key in by_seed[0]}
    return {"set_size": size, **mean, "recall_by_seed": [one["recall"] for one in by_seed]}


def _one_set(real: np.ndarray, generated: np.ndarray, neighbours: int) -> dict[str, float]:
    return {
        "fid": metrics.frechet_distance(real, generated),
        "kid": metrics.kernel_distance(real, generated),
        **metrics.manifold_coverage(real, generated, neighbours)._asdict(),
    }

"""Sets of drawings as a classifier sees them, and distances between such sets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from sketch.data.strokes import Drawings
from sketch.evaluation import metrics
from sketch.models.classifier import Classifier


class JudgedSet(NamedTuple):
    """Outputs of a classifier on a set of drawings.

    Attributes:
        log_probs: `[n, classes]` log probabilities.
        features: `[n, f]` features.
        target: index of the target class.
    """

    log_probs: np.ndarray
    features: np.ndarray
    target: int

    @property
    def probability(self) -> np.ndarray:
        """`[n]` probability of the target class."""
        return np.exp(self.log_probs[:, self.target])

    @property
    def recognised(self) -> np.ndarray:
        """`[n]` True if the target class is the most probable one."""
        return self.log_probs.argmax(axis=1) == self.target


def judge(name: str, classifier: Classifier, target: str, inputs: np.ndarray | Drawings) -> JudgedSet:
    """Classify a set of drawings.

    Args:
        name: name of the classifier in error messages.
        classifier: the classifier.
        target: target class, one of its classes.
        inputs: bitmaps or padded drawings, as the classifier needs.

    Raises:
        ValueError: if the outputs have the wrong shape, or are not finite.
    """
    count = len(inputs.lengths) if isinstance(inputs, Drawings) else len(inputs)
    output = classifier.classify(inputs)
    log_probs, features = (np.asarray(array, np.float64) for array in output)
    if log_probs.shape != (count, len(classifier.classes)) or features.ndim != 2 or len(features) != count:
        raise ValueError(
            f"judge {name!r} must give log probabilities [{count}, {len(classifier.classes)}] and features "
            f"[{count}, f], got {list(log_probs.shape)} and {list(features.shape)}"
        )
    if np.isnan(log_probs).any() or (log_probs > 1e-6).any() or not np.isfinite(features).all():
        raise ValueError(f"judge {name!r} must give log probabilities up to 0 and finite features, got others")
    return JudgedSet(log_probs, features, list(classifier.classes).index(target))


def compare_features(
    human: np.ndarray, systems: Sequence[np.ndarray] | None, size: int, *, neighbours: int, splits: int, seed: int
) -> dict[str, Any]:
    """Distances from one half of the humans, and coverage of it, averaged over random halves and training seeds.

    Args:
        human: features `[n, f]`.
        systems: features `[m, f]` of each training seed; None for the other half of the humans.
        size: rows of each compared set.
        neighbours: neighbour to which a ball reaches.
        splits: number of random halves.
        seed: seed of the halves.
    """
    by_split: list[list[dict[str, float]]] = []
    for split in range(splits):
        rng = np.random.default_rng([seed, split])
        order = rng.permutation(len(human))
        real, other = human[order[:size]], human[order[len(human) // 2 :][:size]]
        sets = [other] if systems is None else [one[rng.permutation(len(one))[:size]] for one in systems]
        by_split.append([_distances(real, one, neighbours) for one in sets])
    by_seed = [
        {key: float(np.mean([split[i][key] for split in by_split])) for key in by_split[0][0]}
        for i in range(len(by_split[0]))
    ]
    mean = {key: float(np.mean([one[key] for one in by_seed])) for key in by_seed[0]}
    return {"set_size": size, **mean, "recall_by_seed": [one["recall"] for one in by_seed]}


def _distances(real: np.ndarray, generated: np.ndarray, neighbours: int) -> dict[str, float]:
    return {
        "fid": metrics.frechet_distance(real, generated),
        "kid": metrics.kernel_distance(real, generated),
        **metrics.manifold_coverage(real, generated, neighbours)._asdict(),
    }

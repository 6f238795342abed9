"""Comparison of generating systems with people, by classifiers trained on people's drawings alone.

People's and generated drawings go through the same renderer. Measures that depend on the number of drawings use sets of
one size, compared with one half of the humans. The other half of the humans is the reference for what is attainable.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jsafe.suggestions import did_you_mean
from sketch import contact_sheet
from sketch.evaluation import metrics
from sketch.evaluation.drawing_statistics import StrokeNLL, copy_rows, count_rows, disorder_rows, nearness
from sketch.evaluation.evaluation_config import EvaluationConfig
from sketch.evaluation.generated_sets import HUMAN, GeneratedSet, Group, grouped, people
from sketch.evaluation.human_test_set import HumanTest
from sketch.evaluation.judged_sets import JudgedSet, compare_features, judge
from sketch.models.classifier import Classifier
from sketch.models.model_configs import BITMAPS, VECTORS

AVERAGED = ("recognised", "probability", "confident", "precision", "recall", "density", "coverage")
"""Measures that are averaged over classifiers; distances depend on each classifier's own features."""

MEAN = "mean of judges"
"""Name of the rows with the mean over classifiers."""

Row = dict[str, Any]
"""One row of a table."""


class Report(NamedTuple):
    """Results as JSON values; unknown values are None or absent, and a note gives the reason.

    Attributes:
        rows: recognisability, distances and coverage by judge, system, temperature and best-of.
        statistics: statistics without a judge by system, temperature and best-of.
        differences: differences by judge and pair of systems of one setting, with corrected p values.
        notes: limitations of the comparison.
        settings: options and sizes.
    """

    rows: list[Row]
    statistics: list[Row]
    differences: list[Row]
    notes: list[str]
    settings: dict[str, Any]


class _Bitmaps(NamedTuple):
    """Rendered drawings.

    Attributes:
        groups: bitmaps of each generated set of each group.
        training: bitmaps of the training drawings, or None.
        vectors: bitmaps of the human vectors.
        reference: human bitmaps or rendered vectors, the larger set.
    """

    groups: list[list[np.ndarray]]
    training: np.ndarray | None
    vectors: np.ndarray
    reference: np.ndarray


class JudgedSystem(NamedTuple):
    """All sets as one classifier sees them.

    Attributes:
        name: name of the classifier.
        groups: sets of each group.
        human: human drawings, None if the classifier reads vectors and there are none.
        training: training drawings, or None.
    """

    name: str
    groups: list[list[JudgedSet]]
    human: JudgedSet | None
    training: JudgedSet | None

    @property
    def set_size(self) -> int:
        """Rows of the compared sets: half of the humans, or the smallest generated set."""
        if self.human is None:
            return 0
        return min(len(self.human.features) // 2, *(len(one.features) for sets in self.groups for one in sets))


def evaluate(
    systems: Mapping[str, Sequence[GeneratedSet]],
    human: HumanTest,
    judges: Mapping[str, Classifier],
    training: Sequence[np.ndarray] = (),
    options: EvaluationConfig | None = None,
    *,
    stroke_nll: StrokeNLL | None = None,
) -> Report:
    """Compare systems with people and with one another.

    A judge of bitmaps sees the human bitmaps or the rendered human vectors, whichever are more; a judge of vectors sees
    vectors. A drawing without points is a blank image or a single point.

    Args:
        systems: generated sets of each system; settings are matched by temperature and best-of.
        human: drawings that no system and no judge was trained on.
        judges: at least one classifier.
        training: training vectors of the systems; empty to skip the search for copies.
        options: settings.
        stroke_nll: model of strokes, see `StrokeNLL`; None to skip disordered strokes.

    Raises:
        ValueError: if there is nothing to compare, a name or class is unknown, or a judge gives invalid outputs.
    """
    options = EvaluationConfig() if options is None else options
    groups, notes = grouped(systems), list(human.sources)
    _check(systems, human, judges, options)
    bitmaps = _render_all(groups, human, training, options)
    rows, differences = [], []
    for name, classifier in judges.items():
        by_judge = _judge_all(name, classifier, groups, human, training, bitmaps, options.target)
        notes += _judge_notes(by_judge, options)
        rows += _judge_rows(by_judge, groups, options)
        if classifier.input_kind == BITMAPS and len(bitmaps.vectors) and len(human.bitmaps):
            rows.append(_other_humans(name, classifier, human, bitmaps, options))
        differences += _differences(by_judge, groups, options, notes)
    rows += _means(rows, list(judges))
    notes += _remarks(groups, human, bitmaps.training, stroke_nll)
    settings = options.config() | {
        "human_bitmaps": len(human.bitmaps), "human_vectors": len(human.vectors), "training": len(training),
        "reference": VECTORS if bitmaps.reference is bitmaps.vectors else BITMAPS, "judges": list(judges),
        "systems": list(systems),
    }  # fmt: skip
    statistics = _statistics(groups, bitmaps, human.vectors, stroke_nll, options)
    return Report(rows, statistics, _with_recall(differences, rows), list(dict.fromkeys(notes)), settings)


def _check(systems: Any, human: HumanTest, judges: Mapping[str, Classifier], options: EvaluationConfig) -> None:
    if not judges:
        raise ValueError("a comparison needs at least one judge, got none")
    if max(len(human.bitmaps), len(human.vectors)) < 2:
        raise ValueError("the human test set needs at least two drawings")
    if options.baseline and options.baseline not in systems:
        raise ValueError(f"unknown system {options.baseline!r}{did_you_mean(options.baseline, systems)}")
    for name, classifier in judges.items():
        if classifier.input_kind not in (BITMAPS, VECTORS):
            raise ValueError(
                f"judge {name!r}: input_kind must be {BITMAPS!r} or {VECTORS!r}, got {classifier.input_kind!r}"
            )
        check_target(name, classifier, options.target)


def check_target(name: str, classifier: Classifier, target: str) -> None:
    """Check that a judge has the target class.

    Raises:
        ValueError: if it has not; the message has the nearest class.
    """
    if target not in classifier.classes:
        near = did_you_mean(target, classifier.classes)
        raise ValueError(f"judge {name!r} has no class {target!r}{near} (classes: {', '.join(classifier.classes)})")


def _render(drawings: Sequence[np.ndarray], options: EvaluationConfig) -> np.ndarray:
    return contact_sheet.bitmaps(drawings, at_once=options.at_once)


def _render_all(
    groups: Sequence[Group], human: HumanTest, training: Sequence[np.ndarray], options: EvaluationConfig
) -> _Bitmaps:
    images = [[_render(one.drawings, options) for one in group.sets] for group in groups]
    trained = _render(training, options) if len(training) else None
    vectors = _render(human.vectors, options)
    return _Bitmaps(images, trained, vectors, vectors if len(vectors) >= len(human.bitmaps) else human.bitmaps)


def _judge_all(
    name: str,
    classifier: Classifier,
    groups: Sequence[Group],
    human: HumanTest,
    training: Sequence[np.ndarray],
    bitmaps: _Bitmaps,
    target: str,
) -> JudgedSystem:
    def look(images: np.ndarray, vectors: Sequence[np.ndarray]) -> JudgedSet:
        if classifier.input_kind == BITMAPS:
            return judge(name, classifier, target, images)
        return judge(name, classifier, target, contact_sheet.padded(list(map(_not_empty, vectors))))

    by_group = [
        [look(picture, one.drawings) for picture, one in zip(images, group.sets, strict=True)]
        for images, group in zip(bitmaps.groups, groups, strict=True)
    ]
    trained = None if bitmaps.training is None else look(bitmaps.training, training)
    has_humans = classifier.input_kind == BITMAPS or human.vectors
    return JudgedSystem(name, by_group, look(bitmaps.reference, human.vectors) if has_humans else None, trained)


def _not_empty(strokes: np.ndarray) -> np.ndarray:
    return strokes if len(strokes) else np.array([[0, 0, 1]], np.float32)


def _judge_notes(by_judge: JudgedSystem, options: EvaluationConfig) -> list[str]:
    if by_judge.human is None:
        return [f"judge {by_judge.name!r} reads vectors and the human test set has none: no comparison with people"]
    if by_judge.set_size <= options.neighbours:
        return [f"judge {by_judge.name!r}: too few human or generated drawings for distances and coverage"]
    return []


def _other_humans(
    name: str, classifier: Classifier, human: HumanTest, bitmaps: _Bitmaps, options: EvaluationConfig
) -> Row:
    """Row of the human drawings that are not the reference."""
    reference_is_bitmaps = bitmaps.reference is human.bitmaps
    images, kind = (bitmaps.vectors, VECTORS) if reference_is_bitmaps else (human.bitmaps, BITMAPS)
    row = {"judge": name, "system": f"{HUMAN} ({kind})", "temperature": None, "best_of": None}
    return row | _recognisability([judge(name, classifier, options.target, images)], [0], options)


def _recognisability(sets: Sequence[JudgedSet], seeds: Sequence[int], options: EvaluationConfig) -> Row:
    """Recognised fraction with Wilson's interval over drawings, and the bootstrap interval over seeds and drawings."""
    recognised = [one.recognised for one in sets]
    hits, drawings = int(sum(map(np.sum, recognised))), sum(map(len, recognised))
    share, low, high = metrics.wilson(hits, drawings, options.level)
    interval = metrics.bootstrap(recognised, draws=options.resamples, level=options.level, seed=options.seed)
    return {
        "drawings": drawings, "seeds": len(sets), "recognised": share, "recognised_low": low, "recognised_high": high,
        "recognised_seeds_low": interval.low, "recognised_seeds_high": interval.high,
        "recognised_by_seed": {str(s): float(r.mean()) for s, r in zip(seeds, recognised, strict=True)},
        "probability": float(np.concatenate([one.probability for one in sets]).mean()),
        "confident": float(np.concatenate([one.probability > options.confident for one in sets]).mean()),
    }  # fmt: skip


def _judge_rows(by_judge: JudgedSystem, groups: Sequence[Group], options: EvaluationConfig) -> list[Row]:
    """One row for the people, and one for each system and setting."""
    human, training = by_judge.human, by_judge.training
    pairs: list[tuple[Group, Sequence[JudgedSet]]] = [(people([]), [human])] if human is not None else []
    pairs += zip(groups, by_judge.groups, strict=True)
    near = None if training is None or human is None else metrics.nearest_distance(human.features, training.features)
    rows = []
    for group, sets in pairs:
        seeds = [one.seed for one in group.sets]
        row = {"judge": by_judge.name, **group.named()} | _recognisability(sets, seeds, options)
        if human is not None and by_judge.set_size > options.neighbours:
            row |= compare_features(
                human.features, None if group.system == HUMAN else [one.features for one in sets], by_judge.set_size,
                neighbours=options.neighbours, splits=options.splits, seed=options.seed,
            )  # fmt: skip
            row["recall_by_seed"] = dict(zip(map(str, seeds), row["recall_by_seed"], strict=True))
        if near is not None and training is not None:
            distances = np.concatenate([metrics.nearest_distance(one.features, training.features) for one in sets])
            copies = nearness(distances, near, options.copy_quantile)
            row |= {"feature_distance": copies.median, "feature_copies": copies.copies}
        rows.append(row)
    return rows


def _differences(
    by_judge: JudgedSystem, groups: Sequence[Group], options: EvaluationConfig, notes: list[str]
) -> list[Row]:
    """Differences in recognisability from people, and from the baseline in the same setting."""
    baseline = options.baseline or groups[0].system
    pairs = list(zip(groups, by_judge.groups, strict=True))
    of_baseline = {group.setting: sets for group, sets in pairs if group.system == baseline}
    rows: list[Row] = []
    for second in (HUMAN, baseline):
        family = []
        for group, sets in pairs:
            if group.system == second or (second == HUMAN and by_judge.human is None):
                continue
            other = [by_judge.human] if second == HUMAN else of_baseline.get(group.setting)
            if other is None:
                setting = f"temperature {group.temperature:g} and best of {group.best_of}"
                notes.append(f"{group.system!r} at {setting} has no {second!r} in the same setting to compare with")
                continue
            first, last = ([one.recognised for one in side] for side in (sets, other))  # type: ignore[union-attr]
            row = {"judge": by_judge.name, **group.named(), "against": second}
            family.append(row | _difference(first, last, options))
        for row, p in zip(family, metrics.holm([row["p_value"] for row in family]), strict=True):
            row["p_holm"] = float(p)
        rows += family
    return rows


def _difference(first: Sequence[np.ndarray], second: Sequence[np.ndarray], options: EvaluationConfig) -> Row:
    """Difference of two recognised fractions, with intervals and p values."""
    result = metrics.bootstrap_difference(
        first, second, draws=options.resamples, level=options.level, seed=options.seed
    )
    totals = [(int(sum(map(np.sum, side))), sum(map(len, side))) for side in (first, second)]
    pooled = metrics.newcombe(totals[0], totals[1], options.level)
    return {
        "difference": result.value, "low": result.low, "newcombe_low": pooled.low, "newcombe_high": pooled.high,
        "high": result.high, "p_value": result.p_value, "z_test_p": metrics.two_proportions(*totals),
    }  # fmt: skip


def _with_recall(differences: list[Row], rows: Sequence[Row]) -> list[Row]:
    """Add differences of recall and coverage, which show recognisability gained at the cost of variety."""
    by_setting = {(r["judge"], r["system"], r["temperature"], r["best_of"]): r for r in rows}
    for row in differences:
        setting = (None, None) if row["against"] == HUMAN else (row["temperature"], row["best_of"])
        one = by_setting[row["judge"], row["system"], row["temperature"], row["best_of"]]
        other = by_setting[row["judge"], row["against"], *setting]
        for name in ("recall", "coverage"):
            first, second = one.get(name), other.get(name)
            row[f"{name}_difference"] = None if first is None or second is None else first - second
    return differences


def _means(rows: Sequence[Row], judges: Sequence[str]) -> list[Row]:
    """Rows with the mean over judges, for systems that all of them classified."""
    by_name: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        by_name.setdefault((row["system"], row["temperature"], row["best_of"]), []).append(row)
    means = []
    for (system, temperature, best_of), each in by_name.items():
        if len(judges) > 1 and len(each) == len(judges):
            row = {"judge": MEAN, "system": system, "temperature": temperature, "best_of": best_of}
            row |= {"drawings": min(one["drawings"] for one in each), "seeds": each[0]["seeds"]}
            row |= {k: float(np.mean([one[k] for one in each])) for k in AVERAGED if all(k in one for one in each)}
            means.append(row)
    return means


def _statistics(
    groups: Sequence[Group],
    bitmaps: _Bitmaps,
    vectors: Sequence[np.ndarray],
    stroke_nll: StrokeNLL | None,
    options: EvaluationConfig,
) -> list[Row]:
    """Statistics without a judge, those of the people first."""
    rows = count_rows(groups, vectors)
    if not len(vectors):
        rows.insert(0, people([]).named() | {"drawings": len(bitmaps.reference)})
    tables = [copy_rows(bitmaps.groups, bitmaps.reference, bitmaps.training, options.copy_quantile)]
    if stroke_nll is not None and len(vectors):
        tables.append(
            disorder_rows(
                groups,
                vectors,
                stroke_nll,
                most=options.disorder_drawings,
                quantile=options.disorder_quantile,
                draws=options.resamples,
                level=options.level,
                seed=options.seed,
            )
        )
    for table in tables:
        for row, more in zip(rows, [table[-1], *table[:-1]], strict=True):
            row |= more
    return rows


def _remarks(
    groups: Sequence[Group], human: HumanTest, trained: np.ndarray | None, stroke_nll: StrokeNLL | None
) -> list[str]:
    remarks = []
    if min(len(group.sets) for group in groups) == 1:
        remarks.append("systems with one training seed: their intervals do not include variation between seeds")
    if not human.vectors:
        remarks.append("the human test set has no vectors: strokes and points are not compared with people")
    if trained is None:
        remarks.append("no training drawings: copies were not counted")
    if stroke_nll is not None and not human.vectors:
        remarks.append("no human vectors: disordered strokes were not counted")
    if stroke_nll is None:
        remarks.append("no model of strokes: disordered strokes were not counted")
    return remarks

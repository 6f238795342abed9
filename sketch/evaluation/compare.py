"""Systems that draw, held against people by judges that learned from people alone.

Every drawing, a person's or a system's, goes through the same renderer. What depends on how many drawings there are is
computed on sets of one size, against one half of the humans; the other half stands beside the systems and shows what
people reach among themselves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jsafe.config import Hyper, hyperparameters, nearest, option
from sketch.evaluation import metrics
from sketch.evaluation.drawing_statistics import StrokeNLL, copy_rows, count_rows, disorder_rows, nearness
from sketch.evaluation.generated_sets import HUMAN, Group, Sample, grouped, people
from sketch.evaluation.human_test_set import HumanTest
from sketch.judges.judge_protocol import BITMAPS, VECTORS, JudgeLike, Seen, among_humans, seen
from sketch.render import contact_sheet

AVERAGED = ("recognised", "probability", "confident", "precision", "recall", "density", "coverage")
"""Measures that mean the same for every judge; distances are of each judge's own features."""

MEAN = "mean of judges"
"""What the rows are called that hold the mean over judges."""


@hyperparameters
class EvaluationOptions(Hyper):
    """How systems are compared."""

    target: str = option("class that the drawings are meant to be of", default="cat")
    baseline: str = option("system that the others are held against; the first one by default", default="")
    confident: float = option("probability above which a judge is sure", default=0.9, above=0, high=1)
    neighbours: int = option("that a ball of precision, recall, density and coverage reaches to", default=5, low=1)
    splits: int = option("random halvings of the humans that measures of sets are averaged over", default=5, low=1)
    copy_quantile: float = option("share of humans nearer to a training drawing than a copy is", default=0.01, above=0)
    disorder_quantile: float = option("share of human strokes that are in order", default=0.99, above=0, high=1)
    disorder_drawings: int = option(
        "of each seed and setting, drawings whose strokes are looked at for disorder", default=200, low=1
    )
    resamples: int = option("draws of each bootstrap", default=10_000, low=1)
    level: float = option("of the confidence intervals", default=0.95, above=0, high=0.9999)
    at_once: int = option("drawings rendered together; accelerators want more than one", default=1, low=1)
    seed: int = option("of the halvings and the bootstrap", default=0, low=0)


class Report(NamedTuple):
    """What was found, as values JSON can hold; what could not be known is None or absent, and a note says why.

    Attributes:
        rows: by judge, system, temperature and best-of: recognisability, distances and coverage.
        statistics: by system, temperature and best-of: what needs no judge.
        differences: by judge and pair of systems of one setting, with corrected p values.
        notes: what should be known beside the numbers.
        settings: options and sizes.
    """

    rows: list[dict[str, Any]]
    statistics: list[dict[str, Any]]
    differences: list[dict[str, Any]]
    notes: list[str]
    settings: dict[str, Any]


def evaluate(
    systems: Mapping[str, Sequence[Sample]],
    human: HumanTest,
    judges: Mapping[str, JudgeLike],
    training: Sequence[np.ndarray] = (),
    options: EvaluationOptions | None = None,
    *,
    stroke_nll: StrokeNLL | None = None,
) -> Report:
    """Compare systems with people and with one another.

    A judge of bitmaps is shown the humans' bitmaps or their rendered vectors, of whichever there are more; a judge of
    vectors can only be shown vectors. A drawing without points is a blank image, or a single point.

    Args:
        systems: samples of each; settings are matched by temperature and best-of.
        human: drawings that no system and no judge has learned from.
        judges: at least one.
        training: vectors that the systems learned from; none where copies are not to be looked for.
        options: see there.
        stroke_nll: see `StrokeNLL`; None where disordered strokes are not to be counted.

    Raises:
        ValueError: nothing to compare, names or classes that are not there, or a judge whose answers do not fit.
    """
    options = EvaluationOptions() if options is None else options
    groups, notes = grouped(systems), list(human.sources)
    _check(systems, human, judges, options)
    images = [[_bitmaps(one.drawings, options) for one in group.samples] for group in groups]
    learned = _bitmaps(training, options) if len(training) else None
    drawn = _bitmaps(human.vectors, options)
    reference = drawn if len(drawn) >= len(human.bitmaps) else human.bitmaps
    rows, differences = [], []
    for name, judge in judges.items():
        bitmaps = judge.kind == BITMAPS

        def look(pictures: np.ndarray, vectors: Any, name: str = name, judge: JudgeLike = judge) -> Seen:
            shown = pictures if judge.kind == BITMAPS else contact_sheet.padded(list(map(_not_empty, vectors)))
            return seen(name, judge, options.target, shown)

        by_group = [
            [look(picture, one.drawings) for picture, one in zip(pictures, group.samples, strict=True)]
            for pictures, group in zip(images, groups, strict=True)
        ]
        known = look(learned, training) if learned is not None else None
        crowd = look(reference, human.vectors) if bitmaps or human.vectors else None
        if crowd is None:
            notes.append(f"judge {name!r} looks at vectors and the human test has none: no comparison with people")
        elif _set_size(by_group, crowd) <= options.neighbours:
            notes.append(f"judge {name!r}: too few drawings of people or of a system for distances and coverage")
        rows += _judge_rows(name, groups, by_group, crowd, known, options)
        if bitmaps and len(drawn) and len(human.bitmaps):
            other, what = (drawn, VECTORS) if reference is human.bitmaps else (human.bitmaps, BITMAPS)
            named = {"judge": name, "system": f"{HUMAN} ({what})", "temperature": None, "best_of": None}
            rows.append(named | _recognisability([look(other, [])], [0], options))
        differences += _differences(name, groups, by_group, crowd, options, notes)
    rows += _means(rows, list(judges))
    notes += _remarks(groups, human, learned, stroke_nll)
    settings = options.config() | {
        "human_bitmaps": len(human.bitmaps), "human_vectors": len(human.vectors), "training": len(training),
        "reference": VECTORS if reference is drawn else BITMAPS, "judges": list(judges), "systems": list(systems),
    }  # fmt: skip
    statistics = _statistics(groups, images, human.vectors, reference, learned, stroke_nll, options)
    return Report(rows, statistics, _with_recall(differences, rows), list(dict.fromkeys(notes)), settings)


def _check(systems: Any, human: HumanTest, judges: Mapping[str, JudgeLike], options: EvaluationOptions) -> None:
    if not judges:
        raise ValueError("there are no judges")
    if max(len(human.bitmaps), len(human.vectors)) < 2:
        raise ValueError("the human test needs at least two drawings")
    if options.baseline and options.baseline not in systems:
        raise ValueError(f"there is no system {options.baseline!r}{nearest(options.baseline, systems)}")
    for name, judge in judges.items():
        if judge.kind not in (BITMAPS, VECTORS):
            raise ValueError(f"judge {name!r}: kind must be {BITMAPS!r} or {VECTORS!r}, got {judge.kind!r}")
        if options.target not in judge.classes:
            near = nearest(options.target, judge.classes)
            raise ValueError(f"judge {name!r} knows no class {options.target!r}{near}")


def _bitmaps(drawings: Sequence[np.ndarray], options: EvaluationOptions) -> np.ndarray:
    return contact_sheet.bitmaps(drawings, at_once=options.at_once)


def _not_empty(strokes: np.ndarray) -> np.ndarray:
    return strokes if len(strokes) else np.array([[0, 0, 1]], np.float32)


def _recognisability(each: Sequence[Seen], seeds: Sequence[int], options: EvaluationOptions) -> dict[str, Any]:
    """Share recognised by Wilson's interval over all drawings, and by the bootstrap over seeds as well."""
    recognised = [one.recognised for one in each]
    hits, drawings = int(sum(map(np.sum, recognised))), sum(map(len, recognised))
    share, low, high = metrics.wilson(hits, drawings, options.level)
    over = metrics.bootstrap(recognised, draws=options.resamples, level=options.level, seed=options.seed)
    return {
        "drawings": drawings, "seeds": len(each), "recognised": share, "recognised_low": low, "recognised_high": high,
        "recognised_seeds_low": over.low, "recognised_seeds_high": over.high,
        "recognised_by_seed": {str(s): float(r.mean()) for s, r in zip(seeds, recognised, strict=True)},
        "probability": float(np.concatenate([one.probability for one in each]).mean()),
        "confident": float(np.concatenate([one.probability > options.confident for one in each]).mean()),
    }  # fmt: skip


def _judge_rows(
    name: str,
    groups: Sequence[Group],
    by_group: Sequence[Sequence[Seen]],
    crowd: Seen | None,
    known: Seen | None,
    options: EvaluationOptions,
) -> list[dict[str, Any]]:
    """A row for the people and one for each system and setting."""
    rows = []
    every = [(people([]), [crowd])] if crowd is not None else []
    every += zip(groups, by_group, strict=True)  # type: ignore[arg-type]
    near = None if known is None or crowd is None else metrics.nearest_distance(crowd.features, known.features)
    for group, each in every:
        row = {"judge": name, **group.named()}
        seeds = [one.seed for one in group.samples]
        row |= _recognisability(each, seeds, options)
        size = 0 if crowd is None else _set_size(by_group, crowd)
        if crowd is not None and size > options.neighbours:
            row |= among_humans(
                crowd.features, None if group.system == HUMAN else [one.features for one in each], size,
                neighbours=options.neighbours, splits=options.splits, seed=options.seed,
            )  # fmt: skip
            row["recall_by_seed"] = dict(zip(map(str, seeds), row["recall_by_seed"], strict=True))
        if near is not None and known is not None:
            distances = np.concatenate([metrics.nearest_distance(one.features, known.features) for one in each])
            found = nearness(distances, near, options.copy_quantile)
            row |= {"feature_distance": found.median, "feature_copies": found.copies}
        rows.append(row)
    return rows


def _set_size(by_group: Sequence[Sequence[Seen]], crowd: Seen) -> int:
    """Rows of the sets that are compared: half of the humans, or the smallest sample."""
    return min(len(crowd.features) // 2, *(len(one.features) for each in by_group for one in each))


def _differences(
    name: str,
    groups: Sequence[Group],
    by_group: Sequence[Sequence[Seen]],
    crowd: Seen | None,
    options: EvaluationOptions,
    notes: list[str],
) -> list[dict[str, Any]]:
    """Recognisability of each system less that of people, and less that of the baseline in the same setting."""
    baseline = options.baseline or groups[0].system
    pairs = list(zip(groups, by_group, strict=True))
    of_people = None if crowd is None else [crowd]
    of_baseline = {group.setting: each for group, each in pairs if group.system == baseline}
    rows: list[dict[str, Any]] = []
    for second in (HUMAN, baseline):
        family = []
        for group, each in pairs:
            if group.system == second or (second == HUMAN and crowd is None):
                continue
            other = of_people if second == HUMAN else of_baseline.get(group.setting)
            if other is None:
                setting = f"temperature {group.temperature:g} and best of {group.best_of}"
                notes.append(f"{group.system!r} at {setting} has no {second!r} in the same setting beside it")
                continue
            first, last = ([one.recognised for one in side] for side in (each, other))
            found = metrics.bootstrap_difference(
                first, last, draws=options.resamples, level=options.level, seed=options.seed
            )
            totals = [(int(sum(map(np.sum, side))), sum(map(len, side))) for side in (first, last)]
            row = {"judge": name, **group.named(), "against": second, "difference": found.value, "low": found.low}
            pooled = metrics.newcombe(totals[0], totals[1], options.level)
            row |= {"newcombe_low": pooled.low, "newcombe_high": pooled.high}
            row |= {"high": found.high, "p_value": found.p_value, "z_test_p": metrics.two_proportions(*totals)}
            family.append(row)
        for row, p in zip(family, metrics.holm([row["p_value"] for row in family]), strict=True):
            row["p_holm"] = float(p)
        rows += family
    return rows


def _with_recall(differences: list[dict[str, Any]], rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The differences with those of recall and coverage beside: recognisability that is bought with variety shows."""
    known = {(r["judge"], r["system"], r["temperature"], r["best_of"]): r for r in rows}
    for row in differences:
        setting = (None, None) if row["against"] == HUMAN else (row["temperature"], row["best_of"])
        one = known[row["judge"], row["system"], row["temperature"], row["best_of"]]
        other = known[row["judge"], row["against"], *setting]
        for name in ("recall", "coverage"):
            first, second = one.get(name), other.get(name)
            row[f"{name}_difference"] = None if first is None or second is None else first - second
    return differences


def _means(rows: Sequence[dict[str, Any]], judges: Sequence[str]) -> list[dict[str, Any]]:
    """Rows of the mean over judges, where all of them have seen the system."""
    by_name: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        by_name.setdefault((row["system"], row["temperature"], row["best_of"]), []).append(row)
    found = []
    for (system, temperature, best_of), each in by_name.items():
        if len(judges) > 1 and len(each) == len(judges):
            row = {"judge": MEAN, "system": system, "temperature": temperature, "best_of": best_of}
            row |= {"drawings": min(one["drawings"] for one in each), "seeds": each[0]["seeds"]}
            row |= {k: float(np.mean([one[k] for one in each])) for k in AVERAGED if all(k in one for one in each)}
            found.append(row)
    return found


def _statistics(
    groups: Sequence[Group],
    images: Sequence[Sequence[np.ndarray]],
    vectors: Sequence[np.ndarray],
    reference: np.ndarray,
    learned: np.ndarray | None,
    stroke_nll: StrokeNLL | None,
    options: EvaluationOptions,
) -> list[dict[str, Any]]:
    """What needs no judge, of the people first."""
    rows = count_rows(groups, vectors)
    if not len(vectors):
        rows.insert(0, people([]).named() | {"drawings": len(reference)})
    tables = [copy_rows(images, reference, learned, options.copy_quantile)]
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
    groups: Sequence[Group], human: HumanTest, learned: np.ndarray | None, stroke_nll: StrokeNLL | None
) -> list[str]:
    found = []
    if min(len(group.samples) for group in groups) == 1:
        found.append("systems with one training seed: their intervals say nothing of how seeds differ")
    if not human.vectors:
        found.append("the human test has no vectors: strokes and points are not held against people")
    if learned is None:
        found.append("no training drawings were given: copies were not looked for")
    if stroke_nll is not None and not human.vectors:
        found.append("disordered strokes were not counted, for what is in order is learned from human vectors")
    if stroke_nll is None:
        found.append("no model of strokes was given: disordered strokes were not counted")
    return found

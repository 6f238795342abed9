"""Comparison of systems with people, in a toy world where cats are drawings that are taller than wide."""

import dataclasses
import json

import numpy as np
import pytest

from sketch.data.strokes import from_polylines, pad, unpad
from sketch.evaluation import metrics
from sketch.evaluation import report as reports
from sketch.evaluation.compare import MEAN, EvaluationConfig, evaluate
from sketch.evaluation.generated_sets import GeneratedSet, from_rows
from sketch.evaluation.human_test_set import HumanTest
from sketch.evaluation.judged_sets import judge as judge_set
from sketch.models.classifier import ClassifierOutput

OPTIONS = EvaluationConfig(resamples=400, neighbours=3)
NO_BITMAPS = np.zeros((0, 28, 28), np.uint8)


def scribble(rng, tall):
    """Two random strokes of four points; whether they are taller than wide is given."""
    lines = rng.uniform(0, 1, (2, 4, 2))
    points = lines.reshape(-1, 2)
    lines = (lines - points.min(0)) / (points.max(0) - points.min(0)) * [100 + 80 * rng.random(), 255]
    return from_polylines(lines if tall else lines[..., ::-1])


def scribbles(seed, cats, others):
    rng = np.random.default_rng(seed)
    result = [scribble(rng, n < cats) for n in range(cats + others)]
    return [result[n] for n in rng.permutation(len(result))]


class Eye:
    """Looks at bitmaps: a cat's ink is taller than wide; features are the ink of 7 x 7 blocks."""

    input_kind, classes = "bitmaps", ("dog", "cat")

    def classify(self, inputs):
        assert inputs.dtype == np.uint8 and inputs.shape[1:] == (28, 28)
        ink = inputs / 255
        height, width = ((ink.max(axis=axis) > 0.5).sum(axis=1) for axis in (2, 1))
        cat = np.where(height > width, 0.95, 0.3)
        features = ink.reshape(-1, 7, 4, 7, 4).mean(axis=(2, 4)).reshape(len(ink), -1)
        return ClassifierOutput(np.log(np.stack([1 - cat, cat], axis=1)), features)


class Hand:
    """Looks at vectors."""

    input_kind, classes = "vectors", ("cat", "dog", "bird")

    def classify(self, inputs):
        places = [np.cumsum(one[:, :2], axis=0) for one in unpad(inputs)]
        extent = np.array([p.max(axis=0) - p.min(axis=0) for p in places])
        cat = np.where(extent[:, 1] > extent[:, 0], 0.8, 0.1)
        features = np.array([np.resize((p - p.min(axis=0)) / max(p.max(), 1), 16) for p in places])
        with np.errstate(divide="ignore"):
            return ClassifierOutput(np.log(np.stack([cat, 1 - cat, 0 * cat], axis=1)), features)


def of(rows, **reference):
    result = [row for row in rows if all(row[key] == value for key, value in reference.items())]
    assert len(result) == 1, result
    return result[0]


@pytest.fixture(scope="module")
def world():
    """People draw a cat in 70 of 100 cases. One system draws as they do, one only its few favourite cats."""
    human = scribbles(0, 70, 30)
    few = scribbles(1, 5, 0)
    rng = np.random.default_rng(2)
    systems = {
        "honest": [GeneratedSet(s, t, 1, scribbles(10 + s + int(100 * t), 42, 18)) for s in (0, 1) for t in (0.5, 1.0)],
        "narrow": [GeneratedSet(s, 0.5, 1, [few[i] for i in rng.integers(5, size=60)]) for s in (0, 1)],
    }
    training = scribbles(3, 42, 18)
    systems["narrow"].append(GeneratedSet(0, 0.5, 4, training))
    report = evaluate(systems, HumanTest(NO_BITMAPS, human), {"eye": Eye(), "hand": Hand()}, training, OPTIONS)
    return human, systems, training, report


def test_recognisability_is_the_share_of_cats(world):
    *_, report = world
    for judge, sure, other in (("eye", 0.95, 0.3), ("hand", 0.8, 0.1)):
        human = of(report.rows, judge=judge, system="human")
        assert human["recognised"] == 0.7 and human["drawings"] == 100 and human["temperature"] is None
        assert human["probability"] == pytest.approx(0.7 * sure + 0.3 * other)
        honest = of(report.rows, judge=judge, system="honest", temperature=0.5)
        assert (honest["recognised"], honest["drawings"], honest["seeds"]) == (0.7, 120, 2)
        assert honest["recognised_by_seed"] == {"0": 0.7, "1": 0.7}
        wilson = metrics.wilson(84, 120)
        assert (honest["recognised_low"], honest["recognised_high"]) == (wilson.low, wilson.high)
        assert of(report.rows, judge=judge, system="narrow", best_of=1)["recognised"] == 1.0
    assert of(report.rows, judge="eye", system="human")["confident"] == 0.7
    assert of(report.rows, judge="hand", system="human")["confident"] == 0.0
    mean = of(report.rows, judge=MEAN, system="human")
    assert mean["probability"] == pytest.approx((0.755 + 0.59) / 2) and "fid" not in mean


def test_sets_are_of_one_size_and_a_narrow_system_recalls_little(world):
    human, systems, _, report = world
    rows = [row for row in report.rows if row["judge"] == "eye"]
    assert {row["set_size"] for row in rows} == {50}  # half of the people
    people, honest, narrow = (
        of(rows, **which)
        for which in (
            {"system": "human"}, {"system": "honest", "temperature": 0.5}, {"system": "narrow", "best_of": 1}
        )
    )  # fmt: skip
    assert abs(honest["recall"] - people["recall"]) < 0.15 < people["recall"] - narrow["recall"]
    assert narrow["fid"] > 2 * honest["fid"] and honest["fid"] < 1.5 * people["fid"]
    assert narrow["kid"] > 5 * abs(honest["kid"]) and narrow["coverage"] < honest["coverage"]
    # One halving by hand.
    one = evaluate(
        {"honest": systems["honest"][:1]}, HumanTest(NO_BITMAPS, human), {"hand": Hand()},
        options=EvaluationConfig(splits=1, neighbours=3, seed=7, resamples=10),
    )  # fmt: skip
    features = judge_set("", Hand(), "cat", pad(human)).features
    order = np.random.default_rng([7, 0]).permutation(100)
    expected = metrics.frechet_distance(features[order[:50]], features[order[50:]])
    assert of(one.rows, system="human")["fid"] == pytest.approx(expected)


def test_copies_and_duplicates_are_counted(world):
    *_, report = world
    copied = {"system": "narrow", "best_of": 4}  # the training set itself
    assert of(report.statistics, **copied)["pixel_copies"] == 1.0
    assert of(report.rows, judge="eye", **copied)["feature_copies"] == 1.0
    assert of(report.statistics, **copied)["pixel_distance"] == pytest.approx(0, abs=1e-6)
    assert of(report.statistics, **copied)["duplicates"] < 0.2
    repeated, honest = {"system": "narrow", "best_of": 1}, {"system": "honest", "temperature": 1.0}
    assert of(report.statistics, **repeated)["duplicates"] == 1.0
    assert of(report.statistics, **honest)["duplicates"] < 0.2 > of(report.statistics, **honest)["pixel_copies"]
    assert of(report.statistics, system="human")["pixel_copies"] == 0.01  # by definition


def test_differences_are_of_one_setting_and_corrected(world):
    *_, report = world
    rows = [row for row in report.differences if row["judge"] == "eye"]
    pairs = [(r["system"], r["temperature"], r["best_of"], r["against"]) for r in rows]
    assert pairs == [
        ("honest", 0.5, 1, "human"), ("honest", 1.0, 1, "human"), ("narrow", 0.5, 1, "human"),
        ("narrow", 0.5, 4, "human"), ("narrow", 0.5, 1, "honest"),
    ]  # fmt: skip
    assert (
        "'narrow' at temperature 0.5 and best of 4 has no 'honest' in the same setting to compare with" in report.notes
    )
    last = rows[-1]
    assert last["difference"] == pytest.approx(0.3) and 0.2 < last["low"] < 0.3 < last["high"] < 0.4
    assert last["p_value"] == last["p_holm"] == pytest.approx(2 / 401)  # the only one of its family
    assert last["z_test_p"] == metrics.two_proportions((120, 120), (84, 120))
    narrow, honest = (of(report.rows, judge="eye", system=s, temperature=0.5, best_of=1) for s in ("narrow", "honest"))
    assert last["recall_difference"] == narrow["recall"] - honest["recall"] < 0
    family = rows[:4]
    expected = metrics.holm([row["p_value"] for row in family])
    np.testing.assert_array_equal([row["p_holm"] for row in family], expected)
    assert family[0]["low"] < 0 < family[0]["high"]


def test_a_report_is_the_same_again_and_json_holds_it(world):
    human, systems, training, report = world
    again = evaluate(systems, HumanTest(NO_BITMAPS, human), {"eye": Eye(), "hand": Hand()}, training, OPTIONS)
    assert json.dumps(report._asdict(), allow_nan=False) == json.dumps(again._asdict(), allow_nan=False)


def test_human_bitmaps_and_vectors_are_classified_equally(world):
    human, systems, *_ = world
    from sketch.contact_sheet import bitmaps

    images = bitmaps(human)
    few = {"honest": systems["honest"][:1]}
    judges = {"eye": Eye(), "hand": Hand()}
    report = evaluate(few, HumanTest(images, []), judges, options=OPTIONS)
    by_vectors = evaluate(few, HumanTest(NO_BITMAPS, human), judges, options=OPTIONS)
    assert of(report.rows, judge="eye", system="human") == of(by_vectors.rows, judge="eye", system="human")
    # A judge of vectors cannot look at bitmaps.
    assert not [row for row in report.rows if row["judge"] == "hand" and row["system"] == "human"]
    assert [row["judge"] for row in report.differences] == ["eye"]
    assert any("'hand' reads vectors and the human test set has none" in note for note in report.notes)
    assert "strokes" not in of(report.statistics, system="human") and report.settings["reference"] == "bitmaps"
    # With both, the larger set is the reference, and the other one has a row of its own.
    both = evaluate(few, HumanTest(images, human[:20]), judges, options=OPTIONS)
    assert of(both.rows, judge="eye", system="human")["drawings"] == 100
    assert of(both.rows, judge="eye", system="human (vectors)")["drawings"] == 20
    assert of(both.rows, judge="hand", system="human")["drawings"] == 20


def test_units_do_not_matter_and_drawings_without_points_are_no_cats():
    human = scribbles(0, 14, 6)
    small = [one * np.float32([0.01, 0.01, 1]) for one in human]
    rows = np.zeros((3, 5, 5), np.float32)
    rows[:, :, 4] = 1  # ended at once
    rows[1, :2] = [[0, 0, 1, 0, 0], [1, 9, 0, 1, 0]]  # a stroke of two points, then the end
    rows[2, :] = [1, 9, 1, 0, 0]  # never ended
    systems = {"same": [GeneratedSet(0, 1.0, 1, small)], "short": [from_rows(rows, seed=0, temperature=1.0)]}
    report = evaluate(systems, HumanTest(NO_BITMAPS, human), {"eye": Eye(), "hand": Hand()}, options=OPTIONS)
    for judge in ("eye", "hand"):
        same, people = of(report.rows, judge=judge, system="same"), of(report.rows, judge=judge, system="human")
        assert same["recognised"] == people["recognised"] == 0.7 and "fid" not in people
        assert of(report.rows, judge=judge, system="short")["recognised"] == 2 / 3
    short = of(report.statistics, system="short")
    assert (short["strokes"], short["points"], short["unfinished"]) == (2 / 3, 7 / 3, pytest.approx(1 / 3))
    assert short["strokes_ks"] == 1.0 and of(report.statistics, system="same")["strokes_ks"] == 0.0
    assert of(report.statistics, system="same")["unfinished"] is None
    assert any("too few human or generated drawings" in note for note in report.notes)


def test_disordered_strokes_are_those_beyond_all_but_one_in_a_hundred_human_ones():
    def nll(drawings):  # of a stroke, its first number
        return [one[one[:, 2] > 0, 0] for one in drawings]

    human = [np.array([[n, 1, 1], [n + 0.5, 2, 1]], np.float32) for n in range(100)]
    strange = [np.array([[500, 1, 1], [1, 2, 1], [2, 3, 1], [3, 4, 1]], np.float32)] * 20
    systems = {"strange": [GeneratedSet(s, 1.0, 1, strange) for s in range(2)]}
    report = evaluate(systems, HumanTest(NO_BITMAPS, human), {"eye": Eye()}, options=OPTIONS, stroke_nll=nll)
    result = of(report.statistics, system="strange")
    assert result["disordered"] == result["disordered_low"] == result["disordered_high"] == 0.25
    people = of(report.statistics, system="human")
    assert people["disordered"] == 0.01 and people["disordered_low"] < 0.01 < people["disordered_high"]
    # Of a long sample only the first drawings are looked at.
    few = dataclasses.replace(OPTIONS, disorder_drawings=5)
    mixed = {"strange": [GeneratedSet(s, 1.0, 1, strange[:5] + [human[3]] * 15) for s in range(2)]}
    report = evaluate(mixed, HumanTest(NO_BITMAPS, human), {"eye": Eye()}, options=few, stroke_nll=nll)
    assert of(report.statistics, system="strange")["disordered"] == 0.25
    with pytest.raises(ValueError, match="finite numbers for 100 drawings, got 1"):
        evaluate(systems, HumanTest(NO_BITMAPS, human), {"eye": Eye()}, options=OPTIONS, stroke_nll=lambda d: [[0]])


def test_errors_name_what_does_not_fit():
    human, one = HumanTest(NO_BITMAPS, scribbles(0, 5, 5)), GeneratedSet(0, 1.0, 1, scribbles(1, 2, 2))

    def fails(message, systems=None, judges=None, people=human, **options):
        with pytest.raises(ValueError, match=message):
            evaluate(
                {"a": [one]} if systems is None else systems, people, {"eye": Eye()} if judges is None else judges,
                options=EvaluationConfig(**options),
            )  # fmt: skip

    fails("needs at least one system, got none", {})
    fails("the name 'human' is reserved", {"human": [one]})
    fails("'a', temperature 1.0, best of 1, seed 0: there are two such sets", {"a": [one, one]})
    fails("seed 0: the set has no drawings", {"a": [one._replace(drawings=[])]})
    fails("finished must have 4 entries, got 1", {"a": [one._replace(finished=np.ones(1))]})
    fails("drawing 1 must be finite", {"a": [one._replace(drawings=[one.drawings[0], np.full((2, 3), np.nan)])]})
    fails("needs at least one judge, got none", judges={})
    fails("at least two drawings", people=HumanTest(NO_BITMAPS, []))
    fails("has no class 'cats'; did you mean 'cat'", target="cats")
    fails("unknown system 'b'", baseline="b")
    blind = Eye()
    blind.input_kind = "words"
    fails("judge 'eye': input_kind must be 'bitmaps' or 'vectors', got 'words'", judges={"eye": blind})
    blind = Eye()
    blind.classify = lambda inputs: ClassifierOutput(np.zeros((1, 2)), np.ones((1, 3)))
    fails(
        r"must give log probabilities \[4, 2\] and features \[4, f\], got \[1, 2\] and \[1, 3\]", judges={"eye": blind}
    )


def test_tables_and_figures_tell_what_the_report_does(world, tmp_path):
    *_, report = world
    text = reports.markdown(report)
    row = of(report.rows, judge="eye", system="honest", temperature=0.5)
    interval = f"70.0 ({100 * row['recognised_low']:.1f} to {100 * row['recognised_high']:.1f})"
    cells = ["eye", "honest", "0.5", "1", "2", "120", interval, "0.755", "70.0", f"{row['fid']:.2f}"]
    assert "| " + " | ".join(cells) in text and f"| {row['recall']:.3f} |" in text
    assert all(f"- {note}" in text for note in report.notes) and "sets of 50" in text
    assert "| hand | narrow | 0.5 | 1 | honest | 30.0 (" in text and "disordered" not in text.split("## Notes")[0]
    tables_found = [part for part in text.split("\n\n") if part.startswith("| ")]
    assert len(tables_found) == 3
    for result in tables_found:
        assert len({line.count("|") for line in result.splitlines() if line.startswith("| ")}) == 1
    paths = reports.figures(report, tmp_path / "new")
    assert [path.name for path in paths] == ["recall.png", "recognised.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)

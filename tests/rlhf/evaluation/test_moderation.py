"""Moderation: metrics by hand, shares of flagged answers, verdicts of other judges and their agreement."""

import numpy as np
import pytest

from experiments.report.rlhf.moderation_table import moderation_text
from rlhf.data import beavertails
from rlhf.data.schemas import Example
from rlhf.evaluation import moderation

NAMES = beavertails.CATEGORIES


def test_figures_of_a_classifier_by_hand():
    predicted, labels = np.array([1, 1, 0, 0, 1], bool), np.array([1, 0, 0, 1, 1], bool)
    result = moderation.binary_metrics(predicted, labels)
    assert result["accuracy"] == 0.6
    assert result["precision"] == pytest.approx(2 / 3) == result["recall"]
    assert result["f1"] == pytest.approx(2 / 3)
    empty = moderation.binary_metrics(np.zeros(3, bool), np.zeros(3, bool))
    assert (empty["precision"], empty["f1"], empty["accuracy"]) == (0.0, 0.0, 1.0)


def test_an_answer_is_flagged_by_any_category():
    probabilities = np.array([[0.6, 0.1], [0.4, 0.45], [0.2, 0.9]])
    labels = np.array([[0, 1], [0, 0], [0, 1]])
    result = moderation.classification_metrics(probabilities, labels, ("a", "b"))
    assert result["flagged"]["accuracy"] == 1.0
    assert result["b"]["recall"] == pytest.approx(0.5)
    loose = moderation.classification_metrics(probabilities, labels, ("a", "b"), threshold=0.4)
    assert loose["flagged"]["precision"] == pytest.approx(2 / 3)
    shares = moderation.flagged_share(probabilities, ["x", "x", "y"])
    assert shares == {"all": pytest.approx(2 / 3), "x": 0.5, "y": 1.0}


def test_agreement_of_judges():
    verdicts = {"a": np.array([1, 1, 0, 0], bool), "b": np.array([1, 0, 0, 0], bool)}
    assert moderation.agreement(verdicts) == {("a", "b"): 0.75}


def test_labels_of_the_data_are_one_more_judge_with_their_statistics():
    harmful = Example(("a",), "x", safe=False, labels={"self_harm": True})
    samples = [harmful, Example(("b",), "y", safe=True, labels={})]
    probabilities = np.zeros((2, len(NAMES)))
    probabilities[1, 3] = 0.41
    data = moderation.compare_judges(samples, {"m": probabilities}, {}, 0.4)
    assert data["models"]["m"]["flagged"]["value"] == 0.5 and "flagged_by_question" not in data["models"]["m"]
    assert data["agreement"] == [{"judges": [moderation.HUMAN_LABELS, "m"], "share": 0.0}]
    assert data["labels"]["categories"]["self_harm"] == 1
    text = moderation_text(data)
    assert "2 answers to 2 prompts" in text and all(name in text for name in NAMES)


def test_verdicts_are_true_or_false(tmp_path):
    table = tmp_path / "verdicts.csv"
    table.write_text("gpt,people\nTrue,0\nfalse,1\n")
    result = moderation.read_verdicts(table, 2)
    assert {name: row.tolist() for name, row in result.items()} == {"gpt": [True, False], "people": [False, True]}
    table.write_text("gpt\nperhaps\n")
    with pytest.raises(ValueError, match=r"verdicts.csv, row 0: 'gpt' must be true or false, got 'perhaps'"):
        moderation.read_verdicts(table, 1)

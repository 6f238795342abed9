"""Categories of harm: counts, and the figures of a classifier, by hand."""

from pathlib import Path

import numpy as np
import pytest

from rlhf.data import beavertails
from rlhf.data.encoding import labelled
from rlhf.data.schemas import Example, read_examples
from rlhf.tokenizer.tokenizer import Tokenizer
from tests.conftest import ROOT
from tests.rlhf.data.test_encoding import Letters

ORDER = """
animal_abuse
child_abuse
controversial_topics,politics
discrimination,stereotype,injustice
drug_abuse,weapons,banned_substance
financial_crime,property_crime,theft
hate_speech,offensive_language
misinformation_regarding_ethics,laws_and_safety
non_violent_unethical_behavior
privacy_violation
self_harm
sexually_explicit,adult_content
terrorism,organized_crime
violence,aiding_and_abetting,incitement
"""
"""Names in the order of the published model's logits, which is that of their letters."""

ANSWERS = ROOT.parent / "shared/data/rlhf/beavertails/beavertails30k_sample140_one_category.csv"


def test_categories_stand_in_the_order_of_the_published_logits():
    assert list(beavertails.CATEGORIES) == ORDER.split() == sorted(beavertails.CATEGORIES)
    names = beavertails.CATEGORIES
    sample = Example(("a",), "x", safe=False, labels={"self_harm": True, "child_abuse": True})
    letters = Tokenizer(Path("letters"), Letters(), 300, None, 2, 0, "</s>")
    assert np.flatnonzero(labelled([sample], names, letters, 60)[0].labels[0]).tolist() == [1, 10]


def test_statistics_of_three_rows():
    labels = {"self_harm": True, "privacy_violation": True, "child_abuse": False}
    rows = [
        Example(("a",), "x", safe=False, labels=labels),
        Example(("a",), "y", safe=False, labels={"self_harm": True}),
        Example(("b",), "z", safe=True, labels={}),
    ]
    result = beavertails.statistics(rows)
    assert (result["rows"], result["prompts"], result["safe"]) == (3, 2, 1)
    assert result["categories"]["self_harm"] == 2
    assert result["per_answer"] == {0: 1, 1: 1, 2: 1}
    names = beavertails.CATEGORIES
    # Correlation of (1, 1, 0) and (1, 0, 0).
    assert result["correlation"][names.index("self_harm"), names.index("privacy_violation")] == pytest.approx(0.5)


@pytest.mark.skipif(not ANSWERS.is_file(), reason="the shared data folder is not there")
def test_a_published_sample_has_about_ten_answers_of_each_category():
    rows, _ = read_examples(ANSWERS)
    assert {name for row in rows for name in row.labels} == set(beavertails.CATEGORIES)
    counts = beavertails.statistics(rows)["categories"]
    assert sum(counts.values()) == 140
    assert set(counts.values()) == {9, 10, 11}

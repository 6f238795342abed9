"""Accuracy of judges: shares, intervals over prompts, and the bag-of-words baseline."""

import numpy as np
import pytest

from rlhf.evaluation import bag_of_words, preference_accuracy
from rlhf.evaluation.intervals import Accuracy, bootstrap_mean


def test_an_interval_comes_from_prompts_and_not_from_rows():
    """A hundred copies of the same answer to one prompt carry no more information than one."""
    right = np.array([1.0, 0.0] * 10)
    once = bootstrap_mean(right, list(range(20)))
    copied = bootstrap_mean(np.repeat(right, 100), np.repeat(np.arange(20), 100).tolist())
    assert once.value == copied.value == 0.5
    assert (copied.low, copied.high) == pytest.approx((once.low, once.high), abs=1e-9)
    assert bootstrap_mean(np.repeat(right, 100), list(range(2000))).low > once.low + 0.1


def test_an_interval_has_its_nominal_coverage():
    rng = np.random.default_rng(0)
    covered = 0
    for number in range(200):
        right = rng.random(60) < 0.7
        result = bootstrap_mean(right, list(range(60)), draws=400, seed=number)
        covered += result.low <= 0.7 <= result.high
    assert 0.88 <= covered / 200 <= 0.99


def test_ranking_and_sign_by_hand():
    scores = np.array([[-1.0, 2.0], [0.5, 0.2], [-0.5, -0.1]])
    signs = np.array([[1.0, -1.0], [1.0, 0.0], [-1.0, -1.0]])
    groups = ["a", "b", "c"]
    assert preference_accuracy.ranking_accuracy(scores, groups, harm=True).value == pytest.approx(2 / 3)
    assert preference_accuracy.ranking_accuracy(scores, groups, harm=False).value == pytest.approx(1 / 3)
    # Of five labelled answers the first two are on the right side of 0.
    assert preference_accuracy.sign_accuracy(scores, signs, groups).value == pytest.approx(2 / 5)


def test_nothing_to_measure_is_not_a_number():
    assert np.isnan(bootstrap_mean(np.zeros(0), []).value)


def test_the_bag_of_words_finds_the_word_that_tells():
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(["tea", "cup", "pot", "milk"], 6)) for _ in range(80)]
    harmful = [bool(i % 2) for i in range(80)]
    texts = [text + (" burn" if bad else " pour") for text, bad in zip(texts, harmful, strict=True)]
    scorer = bag_of_words.fit(texts, harmful, [i // 4 for i in range(80)])
    result = scorer(["tea burn", "tea pour"])
    assert result[0] > 0 > result[1]


def test_wilson_interval_of_a_known_case():
    """8 of 10: 0.490 to 0.943 (Wilson 1927; Agresti and Coull 1998)."""
    assert Accuracy(8, 10).interval() == pytest.approx((0.490, 0.943), abs=1e-3)

"""Models against each other: win rates, verdicts and ratings that can be worked out by hand."""

import math

import numpy as np
import pytest

from rlhf.evaluation import head_to_head


def test_ties_count_half():
    rate = head_to_head.win_rate(np.array([0.0, 1.0, 2.0, 3.0]), np.array([1.0, 1.0, 1.0, 4.0]), list("abcd"))
    assert rate.value == (1 + 0.5 + 0 + 1) / 4
    assert 0.0 <= rate.low < rate.value < rate.high <= 1.0


def test_verdicts_of_two_models():
    result = head_to_head.verdicts(
        (np.array([0.0, 0.0, 0.0, 0.0]), np.array([1.0, -1.0, 1.0, -1.0])),
        (np.array([-1.0, -1.0, 1.0, 1.0]), np.array([-1.0, 0.0, 1.0, -2.0])),
    )
    assert (result["better_safe"], result["better_unsafe"]) == (1, 1)
    assert (result["worse_safe"], result["worse_unsafe"]) == (2, 0)
    assert result["by_safety"]["safe -> safe"] == {"prompts": 2, "better": 0.5}
    assert result["by_safety"]["unsafe -> safe"] == {"prompts": 1, "better": 0.0}
    assert result["by_safety"]["safe -> unsafe"]["prompts"] == 0


def test_the_rating_of_two_models_is_the_logarithm_of_their_odds():
    """With half a game added to each side: 400 log10((wins + 1/2) / (losses + 1/2))."""
    scores = np.stack([np.zeros(100), np.where(np.arange(100) < 75, 1.0, -1.0)])
    base, other = head_to_head.elo(scores)
    assert base.value == head_to_head.ANCHOR == base.low == base.high
    assert other.value == pytest.approx(1000 + 400 * math.log10(75.5 / 25.5), abs=0.1)
    assert other.low < other.value < other.high


def test_known_ratings_are_recovered_from_their_predictions():
    """Games won in the shares that the logistic model of base 10 and scale 400 gives."""
    truth = np.array([1000.0, 1100.0, 870.0])
    won = 1e6 / (1 + 10 ** ((truth[None, :] - truth[:, None]) / 400)) * (1 - np.eye(3))
    np.testing.assert_allclose(head_to_head._fit(won), truth, atol=0.1)

"""The scaling law: a known one is found again, and its uncertainty means what it says."""

import numpy as np
import pytest

from rlhf import scaling
from rlhf.models.config import PUBLISHED

COMPUTE = np.geomspace(10, 1e5, 7)


def law(compute, a=2.5, b=-0.12, floor=1.7):
    return a * compute**b + floor


def test_a_law_without_noise_is_found_exactly():
    found = scaling.fit(COMPUTE, law(COMPUTE))
    assert (found.factor, found.exponent, found.floor) == pytest.approx((2.5, -0.12, 1.7), rel=1e-4)
    loss, error = found.predict(1e7)
    assert loss == pytest.approx(law(1e7), rel=1e-5)
    assert error < 1e-4


def test_predictions_lie_within_their_errors_as_often_as_they_should():
    rng = np.random.default_rng(0)
    inside = []
    for _ in range(100):
        found = scaling.fit(COMPUTE, law(COMPUTE) + 0.003 * rng.normal(size=7))
        loss, error = found.predict(1e6)
        inside.append(abs(loss - law(1e6)) < 2 * error)
    # Two standard errors with four degrees of freedom: 88 %.
    assert 0.75 < np.mean(inside) < 0.98


def test_compute_of_the_published_sizes():
    """11.51 million parameters outside the embedding and the output layer (Baichuan 2, figure 4)."""
    config = PUBLISHED["baichuan2-scaling-12m"]
    head = config.vocab_size * config.hidden_size
    assert scaling.training_petaflops(config, 1e9) == pytest.approx(6 * (11.51e6 + head) * 1e9 / 1e15, rel=1e-3)


@pytest.mark.parametrize(
    ("compute", "losses", "complaint"),
    [
        ([1, 2, 3], [3, 2, 1], "at least four"),
        ([1, 2, 3, 4], [1, 2, 3, 4], "lower loss"),
        ([0, 2, 3, 4], [4, 3, 2, 1], "above 0"),
    ],
)
def test_runs_that_cannot_be_fitted_are_refused(compute, losses, complaint):
    with pytest.raises(ValueError, match=complaint):
        scaling.fit(np.array(compute), np.array(losses))

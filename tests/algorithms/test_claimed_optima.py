"""Claims are the exact optima, and algorithms reach them."""

import numpy as np
import pytest

import algorithms
from algorithms import optimality
from envs_mjx import analytic
from experiments.commands.optimum import case_of

PAIRS = [(name, case) for name in algorithms.names() for case in analytic.CASES]


@pytest.mark.parametrize("case", list(analytic.CASES))
def test_every_constrained_algorithm_claims_the_constrained_optimum(case):
    env, limits = analytic.CASES[case]
    best = analytic.optimum(env, limits)
    for name in algorithms.names():
        claim = optimality.claim_of(name, case_of(case))
        if algorithms.describe(name)["parts"]["constraint"] and not (name == "pcpo" and len(limits) > 1):
            assert claim is not None and claim.objective == pytest.approx(best.return_)
            assert [low for low, _ in claim.costs] == [high for _, high in claim.costs] == list(limits)


def test_settings_exist_and_make_whole_episodes():
    for name, case in PAIRS:
        env, _ = analytic.CASES[case]
        config = algorithms.make(name, env, **optimality.settings_for(name, case_of(case))).info.config
        assert config["steps_per_iteration"] == config["num_envs"] * env.spec.episode_length
        assert config["discount"] == config.get("cost_discount", 1.0) == 1.0


def test_errors_are_shares_of_the_claim():
    outside = optimality.relative_excess(np.array([1.8, 2.0, 2.5, 3.3]), 2.0, 3.0)
    np.testing.assert_allclose(outside, [-0.1, 0.0, 0.0, 0.1])


@pytest.mark.slow
@pytest.mark.parametrize("name, case", PAIRS)
def test_the_claimed_optimum_is_reached_from_five_seeds(name, case):
    row = optimality.measure(name, case_of(case), optimality.ITERATIONS, seed=1)
    assert row["verdict"] in ("holds", "not claimed"), row

"""`jsafe optimum`: claims are the exact optima, and algorithms reach them."""

import json

import numpy as np
import pytest

import algorithms
from envs_mjx import analytic
from experiments.cli import main
from experiments.commands import optimum

PAIRS = [(name, case) for name in algorithms.names() for case in analytic.CASES]


@pytest.mark.parametrize("case", list(analytic.CASES))
def test_every_constrained_algorithm_claims_the_constrained_optimum(case):
    env, limits = analytic.CASES[case]
    best = analytic.optimum(env, limits)
    for name in algorithms.names():
        claim = optimum.claim_of(name, case)
        if algorithms.describe(name)["parts"]["constraint"] and not (name == "pcpo" and len(limits) > 1):
            assert claim is not None and claim.objective == pytest.approx(best.return_)
            assert [low for low, _ in claim.costs] == [high for _, high in claim.costs] == list(limits)


def test_settings_exist_and_make_whole_episodes():
    for name, case in PAIRS:
        env, _ = analytic.CASES[case]
        config = algorithms.make(name, env, **optimum.settings_for(name, case)).info.config
        assert config["steps_per_iteration"] == config["num_envs"] * env.spec.episode_length
        assert config["discount"] == config.get("cost_discount", 1.0) == 1.0


def test_errors_are_shares_of_the_claim():
    outside = optimum._outside(np.array([1.8, 2.0, 2.5, 3.3]), 2.0, 3.0)
    np.testing.assert_allclose(outside, [-0.1, 0.0, 0.0, 0.1])


def test_the_command_prints_its_table_as_json_and_markdown(tmp_path, capsys):
    out = tmp_path / "table.md"
    assert main.main(["optimum", "cpo", "pcpo", "--case", "finite_two_costs", "--iterations", "2", "--json",
                     "--out", str(out)]) == 0  # fmt: skip
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [row["algorithm"] for row in rows] == ["cpo", "pcpo"] and rows[1]["verdict"] == "not claimed"
    assert rows[0]["verdict"] == "misses" and len(rows[0]["return"]) == 5 and len(rows[0]["cost"]) == 2
    lines = out.read_text().splitlines()
    assert lines[0].startswith("| algorithm |") and len(lines) == 4


def test_a_place_that_cannot_be_written_is_refused_before_training(capsys, tmp_path):
    assert main.main(["optimum", "cpo", "--out", str(tmp_path / "none" / "table.md")]) == 2
    assert "there is no folder" in capsys.readouterr().err


def test_unknown_cases_are_refused_by_name(capsys):
    assert main.main(["optimum", "cpo", "--case", "finit"]) == 2
    assert "did you mean finite" in capsys.readouterr().err.replace("'", "")


@pytest.mark.slow
@pytest.mark.parametrize("name, case", PAIRS)
def test_the_claimed_optimum_is_reached_from_five_seeds(name, case):
    row = optimum.measure(name, case, optimum.ITERATIONS, seed=1)
    assert row["verdict"] in ("holds", "not claimed"), row

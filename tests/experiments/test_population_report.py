"""Members of a population with other hyper-parameters are other experiments, not other seeds."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from experiments.cli import main
from experiments.commands.eval import describe
from experiments.report.evaluation import only_limit
from experiments.report.page import page
from experiments.report.run_summary import overall_of
from jsafe.runs.reader import groups, load_run
from tests.support.fakes import write_run


@pytest.fixture
def population(tmp_path: Path) -> Path:
    """Four members: limits 5, 60, 5, 60, of the costs 20, 21, 22, 23."""
    folder = write_run(tmp_path / "run", seeds=4)
    facts = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(facts | {"hyper": {"cost_limit": [5.0, 60.0, 5.0, 60.0]}}))
    return folder


def test_members_of_equal_limits_are_one_group_with_its_limit(population: Path):
    low, high = groups(load_run(population))
    assert (low.seeds, low.cost_limit) == ([0, 2], 5.0) and (high.seeds, high.cost_limit) == ([1, 3], 60.0)
    assert low.final("cost").tolist() == [20.0, 22.0] and high.final("cost").tolist() == [21.0, 23.0]
    assert np.isnan(low.best_within_limit()["return"]).all() and not np.isnan(high.best_within_limit()["return"]).any()


def test_the_report_shows_each_limit_and_no_mean_over_both(population: Path, capsys: pytest.CaptureFixture[str]):
    assert main.main(["report", str(population), "--no-animation", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["runs"]
    assert [(row["cost_limit"], row["cost"]["mean"]) for row in rows] == [(5.0, 21.0), (60.0, 22.0)]
    text = page(groups(load_run(population)))
    assert "cost_limit 5" in text and "cost_limit 60" in text and "never within" in text


def test_the_published_comparison_has_a_row_for_each_limit(population: Path, capsys: pytest.CaptureFixture[str]):
    assert main.main(["published", str(population), "--json"]) == 0
    assert [row["cost_limit"] for row in json.loads(capsys.readouterr().out)["rows"]] == [5.0, 60.0]


def test_an_evaluation_names_the_limit_of_each_group(population: Path):
    run = load_run(population)
    assert only_limit(run) is None
    names = ("return", "cost", "length")
    seeds = [
        {"seed": s, **{n: 20.0 + s for n in names}, **{f"{n}_interval": [19.0, 25.0] for n in names}} for s in range(4)
    ]
    mode = {"seeds": seeds, "overall": seeds[0]}
    results = [
        {"hyper": part.facts["group"], "seeds": part.seeds, "deterministic": overall_of(mode, part.seeds)}
        for part in groups(run)
    ]
    assert [entry["deterministic"]["cost"] for entry in results] == [21.0, 22.0]
    data = {"algorithm": "ppo_lag", "env": "E", "physics": "mujoco", "episodes": 3, "cost_limit": None}
    data |= {"groups": results, "deterministic": mode, "seconds": {"compile": 1.0, "run": 1.0}}
    text = describe(data)
    assert "cost_limit 5 " in text and "cost_limit 60" in text and "cost limit 25" not in text


def test_the_interval_of_a_single_episode_is_unknown():
    names = ("return", "cost", "length")
    row = {"seed": 0, "episodes": 1, **dict.fromkeys(names, 3.0), **{f"{name}_interval": [3.0, 3.0] for name in names}}
    data = {"algorithm": "ppo", "env": "E", "physics": "mujoco", "episodes": 1, "cost_limit": None}
    data |= {"groups": [{}], "deterministic": {"seeds": [row], "overall": row}, "seconds": {"compile": 1.0, "run": 1.0}}
    text = describe(data)
    assert text.count("3.00 ± unknown") == 4 and "± 0.00" not in text

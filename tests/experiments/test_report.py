"""The report shows the numbers of the run, in one file."""

from __future__ import annotations

import csv
import json
import xml.etree.ElementTree
from pathlib import Path

import numpy as np
import pytest
import scipy.stats

from experiments.cli import main
from experiments.report.page import page
from experiments.report.run_summary import summary
from experiments.report.svg_charts import Series, line_chart
from jsafe.confidence import mean_and_interval
from jsafe.runs.reader import load_run
from jsafe.runs.record import RunError
from tests.support.fakes import write_run


def test_curves_come_back_per_seed_with_gaps_where_no_episode_ended(tmp_path: Path):
    run = load_run(write_run(tmp_path / "run"))
    assert run.seeds == [0, 1, 2] and run.curves["return"].shape == (3, 40)
    assert np.isnan(run.curves["return"][:, 0]).all()
    assert np.array_equal(run.final("return"), [10.0, 11.0, 12.0])
    assert run.env_steps[-1] == 40_000 and run.cost_limit == 25.0


def test_a_line_cut_off_by_a_crash_and_repeated_rows_do_no_harm(tmp_path: Path):
    path = write_run(tmp_path / "run")
    with (path / "metrics.jsonl").open("a") as file:
        file.write('{"seed": 2, "iteration": 39, "env_steps": 40000, "return": 99.0, "cost": 1.0}\n{"seed": 0, "iter')
    run = load_run(path)
    assert run.curves["return"].shape == (3, 40)
    assert run.curves["return"][2, -1] == 99.0


def test_a_folder_without_a_run_is_reported_in_one_line(tmp_path: Path):
    with pytest.raises(RunError, match="no such folder"):
        load_run(tmp_path / "missing")
    with pytest.raises(RunError, match=r"run\.json"):
        load_run(tmp_path)


def test_interval_is_students_t_over_the_seeds_that_know():
    values = np.array([[1.0, 5.0], [2.0, np.nan], [4.0, np.nan]])
    mean, low, high = mean_and_interval(values)
    expected = scipy.stats.t.interval(0.95, 2, loc=values[:, 0].mean(), scale=scipy.stats.sem(values[:, 0]))
    assert np.allclose([low[0], high[0]], expected)
    assert mean[1] == low[1] == high[1] == 5.0


def test_best_return_within_the_limit_is_that_of_a_stretch_and_not_of_a_lucky_moment(tmp_path: Path):
    """Return climbs by 1 an iteration; cost is 30 but for iteration 9 (a single one) and iterations 20 to 23."""
    run = load_run(write_run(tmp_path / "run", seeds=2, iterations=80))
    time = np.arange(80.0)
    cost = np.where((time == 9) | ((time >= 20) & (time < 24)), 24.0, 30.0)
    run.curves.update({"return": np.stack([time, time]), "cost": np.stack([cost, np.full(80, 30.0)])})
    best = run.best_within_limit()
    assert best["return"][0] == (20 + 21 + 22 + 23) / 4 and best["cost"][0] == 24 and best["env_steps"][0] == 24_000
    assert np.isnan(best["return"][1]) and np.isnan(best["env_steps"][1])
    assert "21.50 (1 never within)" in page([run])


def test_curves_are_written_as_a_table_that_programs_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder, file = write_run(tmp_path / "run"), tmp_path / "curves.csv"
    assert main.main(["report", str(folder), "--no-animation", "--curves", str(file), "--every", "20"]) == 0
    rows = list(csv.DictReader(file.open()))
    assert list(rows[0]) == ["seed", "env_steps", "return", "cost", "multiplier", "length"]
    assert [row["env_steps"] for row in rows] == ["20000", "40000"] * 3
    assert [float(row["return"]) for row in rows] == [10, 10, 11, 11, 12, 12]


def test_a_chart_is_valid_svg_in_the_colour_of_the_page():
    series = Series("ppo_lag", np.arange(5), np.random.default_rng(0).normal(size=(3, 5)))
    svg = line_chart([series], title="Cost", y_label="cost", level=25.0, level_label="cost limit 25")
    root = xml.etree.ElementTree.fromstring(svg)
    assert root.get("width") is None and root.get("viewBox")
    assert "currentColor" in svg and "cost limit 25" in svg


def test_the_page_holds_the_numbers_and_nothing_from_outside(tmp_path: Path):
    run = load_run(write_run(tmp_path / "run"))
    html = page([run], film=b"GIF89a")
    for message in (
        "11.00 ± 2.48",
        "21.00 ± 2.48",
        "cost limit 25",
        "within the limit",
        "a &lt;fast&gt; one",
        "hidden_sizes",
    ):
        assert message in html, message
    assert "data:image/gif;base64," in html
    assert 'src="http' not in html and 'href="http' not in html and "<script" not in html


def test_a_cost_above_the_limit_is_called_that(tmp_path: Path):
    assert "above the limit of 5" in page([load_run(write_run(tmp_path / "run", cost_limit=5.0))])


def test_several_runs_are_compared_by_name(tmp_path: Path):
    runs = [load_run(write_run(tmp_path / name, algorithm=name)) for name in ("ppo_lag", "cppo_pid")]
    html = page(runs)
    assert "Comparison of 2 runs on SafetyPointGoal1-v0" in html
    assert html.count("ppo_lag") > 2 and html.count("cppo_pid") > 2


def test_summary_is_the_mean_over_seeds(tmp_path: Path):
    numbers = summary(load_run(write_run(tmp_path / "run")))
    assert numbers["return"]["mean"] == 11.0 and numbers["cost"]["seeds"] == [20.0, 21.0, 22.0]
    assert numbers["env_steps"] == 40_000


def test_report_command_writes_the_page_and_prints_its_path(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = write_run(tmp_path / "run")
    assert main.main(["report", str(path), "--no-animation", "--json"]) == 0
    message = json.loads(capsys.readouterr().out)
    assert Path(message["report"]) == (path / "report.html").resolve()
    assert (path / "report.html").read_text().startswith("<!doctype html>")

"""`jsafe published`: our figures and the published ones."""

import json

import pytest

from experiments.cli import main


def write_run(folder, algorithm, returns, costs, env="SafetyPointGoal1-v0"):
    folder.mkdir()
    trainer = {"algorithm": algorithm, "problem": env, "config": {"cost_limit": 25.0}}
    (folder / "run.json").write_text(json.dumps({"trainer": trainer, "preset": "omnisafe"}))
    rows = [
        {"seed": s, "iteration": i + 1, "env_steps": 20_000 * (i + 1), "return": r + s, "cost": c, "multiplier": 0.0}
        for i, (r, c) in enumerate(zip(returns, costs, strict=True))
        for s in (0, 1)
    ]
    (folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    return folder


def test_a_run_beats_the_published_figure_with_more_return_at_no_more_cost(tmp_path, capsys):
    """PPO-Lag on PointGoal1 was published as 12.96 at a cost of 25.80."""
    better = write_run(tmp_path / "better", "ppo_lag", [0.0, 13.0], [50.0, 25.0])
    costly = write_run(tmp_path / "costly", "ppo_lag", [0.0, 20.0], [50.0, 26.0])
    assert main.main(["published", str(better), str(costly), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [row["beats"] for row in rows] == [True, False]
    assert rows[0]["published"] == {"return": 12.96, "return_std": 6.95, "cost": 25.8, "cost_std": 34.99}
    assert rows[0]["training"]["return"]["seeds"] == [13.0, 14.0] and rows[0]["env_steps"] == 40_000
    # Student's t over two seeds: 12.7 standard errors, which are half the difference.
    assert rows[0]["training"]["return"]["interval"] == pytest.approx([13.5 - 12.706 * 0.5, 13.5 + 12.706 * 0.5], 1e-3)


def test_rows_measured_elsewhere_are_joined_and_replaced_by_newer_ones(tmp_path, capsys):
    first = [write_run(tmp_path / "a", "ppo_lag", [1.0], [50.0]), write_run(tmp_path / "b", "cpo", [2.0], [50.0])]
    assert main.main(["published", *map(str, first), "--json"]) == 0
    (tmp_path / "rows.json").write_text(capsys.readouterr().out)
    again = write_run(tmp_path / "c", "ppo_lag", [3.0], [50.0])
    other = write_run(tmp_path / "d", "ppo_lag", [4.0], [50.0])
    facts = json.loads((other / "run.json").read_text())
    (other / "run.json").write_text(json.dumps(facts | {"options": {"cost_limit": 25.0, "passes": 3}}))
    assert main.main(["published", str(again), str(other), "--with", str(tmp_path / "rows.json"), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    result = [(row["run"], row["algorithm"], row["options"]) for row in rows]
    assert result == [("b", "cpo", {}), ("c", "ppo_lag", {}), ("d", "ppo_lag", {"passes": 3})]
    (tmp_path / "rows.json").write_text("[]")
    assert main.main(["published", str(again), "--with", str(tmp_path / "rows.json")]) == 2
    assert "rows.json is not the output of `jsafe published --json`" in capsys.readouterr().err


def test_test_episodes_decide_where_there_are_any_and_unpublished_pairs_have_no_verdict(tmp_path, capsys):
    run = write_run(tmp_path / "run", "ppo_lag", [13.0], [25.0])
    overall = {"return": 11.0, "return_interval": [10.0, 12.0], "cost": 20.0, "cost_interval": [15.0, 25.0]}
    (run / "eval.json").write_text(json.dumps({"episodes": 50, "deterministic": {"overall": overall}}))
    other = write_run(tmp_path / "other", "crpo", [13.0], [25.0])
    out = tmp_path / "table.md"
    assert main.main(["published", str(run), str(other), "--out", str(out)]) == 0
    lines = out.read_text().splitlines()
    assert "11.00 [10.0, 12.0]" in lines[2] and lines[2].endswith("| no |") and lines[3].endswith("| - |")
    assert out.read_text().strip() in capsys.readouterr().out

"""`jsafe algorithms`, and torsos from the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import algorithms
import envs_mjx
from experiments.cli import exit_codes, main
from experiments.commands.algorithms import WIDTH
from tests.experiments.test_commands import Drawable


def message(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main.main(list(words)) == 0, capsys.readouterr().err
    return capsys.readouterr().out


def listed(capsys: pytest.CaptureFixture[str], *words: str) -> list[dict[str, Any]]:
    return json.loads(message(capsys, "algorithms", *words, "--json"))["algorithms"]


def test_every_algorithm_is_listed_with_its_parts_presets_and_source(capsys: pytest.CaptureFixture[str]):
    result = {row["name"]: row for row in listed(capsys)}
    assert tuple(result) == algorithms.names()
    assert result["ppo_lag"]["parts"] == {"update": "clipped", "constraint": "lagrange", "transform": None}
    assert result["cppo_pid"]["parts"]["constraint"] == "pid"
    assert all(row["parts"]["update"] and row["paper"] and row["aliases"] for row in result.values())
    text = message(capsys, "algorithms")
    assert all(f"\n{name} " in text for name in result)
    assert "clipped x lagrange" in text and "CPPO-PID" in text and "arXiv:1707.06347" in text


def test_no_two_algorithms_are_the_same_product():
    products = [tuple(algorithms.describe(name)["parts"].values()) for name in algorithms.names()]
    assert len(products) == len(set(products))


def test_one_algorithm_is_shown_with_every_option_under_every_preset(capsys: pytest.CaptureFixture[str]):
    (facts,) = listed(capsys, "PPO-Lag")
    assert facts["name"] == "ppo_lag"
    options = {option["name"]: option for option in facts["options"]}
    assert options.keys() == algorithms.make("ppo_lag", Drawable()).info.config.keys()
    assert options["num_envs"]["values"] == {"paper": 20, "omnisafe": 20, "safepo": 10}
    assert (options["discount"]["low"], options["discount"]["high"], options["discount"]["traced"]) == (0, 1, True)
    assert (options["clip_ratio"]["above"], options["num_envs"]["traced"]) == (0, False)
    for preset in facts["presets"]:
        config = algorithms.make("ppo_lag", Drawable(), preset).info.config
        assert {name: option["values"][preset] for name, option in options.items()} == dict(config)
    rows = {line.split()[0]: line.split() for line in message(capsys, "algorithms", "PPO-Lag").splitlines() if line}
    assert rows["num_envs"][1:5] == ["20", "10", ">=", "1"], "omnisafe's column is empty"
    assert rows["discount"][1:7] == ["0.99", ">=", "0,", "<=", "1", "yes"]
    assert options.keys() <= rows.keys()


def test_listings_fit_the_screen(capsys: pytest.CaptureFixture[str]):
    for words in ((), *((name,) for name in algorithms.names())):
        lines = message(capsys, "algorithms", *words).splitlines()
        assert max(len(line) for line in lines) <= WIDTH == 120, words


def test_an_unknown_algorithm_is_refused_with_the_nearest(capsys: pytest.CaptureFixture[str]):
    assert main.main(["algorithms", "ppo_lga"]) == exit_codes.USER_ERROR
    error = capsys.readouterr().err
    assert "unknown algorithm 'ppo_lga'; did you mean 'ppo_lag'?" in error and error.count("\n") == 1


def test_a_recurrent_policy_is_trained_evaluated_and_filmed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(envs_mjx, "make", lambda env_id, *, physics, overrides: Drawable(**(overrides or {})))
    folder = str(tmp_path / "run")
    begin = ("train", "ppo", "SafetyPointGoal1-v0", "--run-dir", folder, "--total-steps", "400", "--quiet")
    sizes = ("--num-envs", "4", "--steps-per-iteration", "200", "--passes", "1", "--hidden-sizes", "8")
    message(capsys, *begin, *sizes, "--torso", "gru", "--history", "3", "--recurrent-size", "4")
    assert "ran for" in message(capsys, "eval", folder, "--episodes", "3")
    target = tmp_path / "film.gif"
    message(capsys, "render", folder, "--view", "top", "--steps", "5", "--out", str(target))
    assert target.stat().st_size > 0
    assert main.main([*begin[:-1], "--torso", "gru", "--run-dir", str(tmp_path / "other")]) == exit_codes.USER_ERROR
    assert "history must be at least 2 for torso 'gru'" in capsys.readouterr().err

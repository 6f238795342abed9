"""The command line: quick, and clear about mistakes."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.cli import main
from experiments.cli.app import Command, CommandGroup, parse
from experiments.cli.argument_types import integer
from experiments.cli.errors import unknown
from experiments.cli.exit_codes import USER_ERROR
from experiments.cli.format import seconds_text, to_json
from experiments.cli.request import as_json, from_json
from experiments.commands import COMMANDS
from tests.conftest import ROOT


def fails(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    """Run a command that must fail; returns what it message, which must be a line without a traceback."""
    assert main.main(list(argv)) == USER_ERROR
    captured = capsys.readouterr()
    assert captured.out == "" and "Traceback" not in captured.err
    assert captured.err.count("\n") == 1, captured.err
    return captured.err


CORE = [name for name, entry in COMMANDS.items() if isinstance(entry, Command)]
GROUPS = [name for name, entry in COMMANDS.items() if isinstance(entry, CommandGroup)]


def test_help_does_not_load_jax():
    code = "import sys; from experiments.cli.main import main; main(['--help']); "
    code += "".join(f"main(['{name}', '--help']); " for name in CORE if name != "optimum")
    code += "sys.exit('jax' in sys.modules or 'numpy' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, stdout=subprocess.DEVNULL)


def commands_of(group: str) -> list[str]:
    return list(importlib.import_module(f"experiments.commands.{group}").COMMANDS)


def test_every_command_has_help(capsys: pytest.CaptureFixture[str]):
    stages = [[group, stage] for group in GROUPS for stage in commands_of(group)]
    for words in [*([name] for name in CORE), *stages]:
        assert main.main([*words, "--help"]) == 0
        assert "--json" in capsys.readouterr().out, words
    for group in GROUPS:
        assert main.main([group, "--help"]) == 0
        listed = capsys.readouterr().out
        assert all(stage in listed for stage in commands_of(group))


@pytest.mark.parametrize(("text", "value"), [("10_000_000", 10**7), ("1e7", 10**7), ("4096", 4096), ("2.5e3", 2500)])
def test_whole_numbers_are_read_as_people_write_them(text: str, value: int):
    assert integer(text) == value


@pytest.mark.parametrize("text", ["1.5", "many", "inf", ""])
def test_what_is_no_whole_number_is_refused(capsys: pytest.CaptureFixture[str], text: str):
    assert "whole number" in fails(capsys, "throughput", "SafetyPointGoal1-v0", "--num-envs", text)


def test_counts_below_one_are_refused(capsys: pytest.CaptureFixture[str]):
    assert "--seeds: must be at least 1, got 0" in fails(capsys, "train", "--seeds", "0")
    assert "--episodes: must be at least 1" in fails(capsys, "eval", "somewhere", "--episodes", "0")


def test_a_missing_run_is_reported(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    assert "no such folder" in fails(capsys, "report", str(tmp_path / "nothing"))


def test_nearest_name_is_suggested():
    error = unknown("environment", "safetypointgoal-v0", ["SafetyPointGoal1-v0", "SafetyCarPush2-v0"])
    assert "did you mean 'SafetyPointGoal1-v0'?" in str(error)


def test_debug_shows_the_traceback(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    assert main.main(["report", str(tmp_path / "nothing"), "--debug"]) == USER_ERROR
    assert "Traceback" in capsys.readouterr().err


def test_json_has_null_where_a_number_is_unknown():
    import numpy as np

    data = {"a": float("nan"), "b": np.arange(2), "c": np.float32(1.5), "d": (1, None), "e": Path("x")}
    assert json.loads(to_json(data)) == {"a": None, "b": [0, 1], "c": 1.5, "d": [1, None], "e": "x"}


def test_seconds_are_printed_in_a_readable_unit():
    assert [seconds_text(s) for s in (4.24, 200, 7500)] == ["4.2 s", "3 min 20 s", "2 h 05 min"]


@pytest.mark.parametrize(
    ("words", "suggestion"),
    [
        (["evl"], 'Did you mean "eval"?'),
        (["rlhf", "sfd"], 'Did you mean "sft"?'),
        (["eval", "run", "--episods", "3"], "Did you mean --episodes?"),
        (["eval", "run", "--policy", "bth"], 'Did you mean "both"?'),
        (["train", "ppo_lga", "SafetyPointGoal1-v0"], "did you mean 'ppo_lag'?"),
    ],
)
def test_misspelt_names_are_suggested(capsys: pytest.CaptureFixture[str], words: list[str], suggestion: str):
    assert suggestion in fails(capsys, *words)


@pytest.mark.parametrize(
    ("words", "missing"),
    [
        (["eval"], "eval: error: RUN is required"),
        (["rlhf", "experiment"], "rlhf experiment: error: FILE is required"),
        (["eval", "run", "--episodes"], "eval: error: --episodes needs a value"),
        (["rlhf", "sft", "--epochs"], "rlhf sft: error: --epochs needs a value"),
    ],
)
def test_what_is_missing_has_the_name_of_the_usage_line(capsys: pytest.CaptureFixture[str], words: list[str], missing):
    assert missing in fails(capsys, *words)


@pytest.mark.parametrize("chosen", [["ppo_lag"], ["--algorithm=ppo_lag"], ["--algorithm", "PPOLag"]])
def test_the_help_that_is_named_shows_the_flag_that_is_suggested(capsys: pytest.CaptureFixture[str], chosen: list[str]):
    message = fails(capsys, "train", *chosen, "--cost-limti", "5")
    assert "Did you mean --cost-limit?" in message and "(see jsafe train ppo_lag --help)" in message
    assert main.main(["train", "ppo_lag", "--help"]) == 0 and "--cost-limit" in capsys.readouterr().out


def test_an_unknown_experiment_is_suggested(capsys: pytest.CaptureFixture[str]):
    assert "did you mean 'limits'?" in fails(capsys, "rlhf", "experiment", "limit")
    assert "did you mean 'three_rounds'?" in fails(capsys, "rlhf", "experiment", "three-round.toml")


def test_a_usage_error_names_the_help_of_its_command(capsys: pytest.CaptureFixture[str]):
    assert fails(capsys, "eval").endswith("(see jsafe eval --help)\n")
    assert fails(capsys, "rlhf", "sft", "--epoch", "2").endswith("(see jsafe rlhf sft --help)\n")


def test_a_line_without_a_command_prints_the_help_and_is_an_error(capsys: pytest.CaptureFixture[str]):
    assert main.main([]) == USER_ERROR and "train" in capsys.readouterr().out
    assert main.main(["rlhf"]) == USER_ERROR and "sft" in capsys.readouterr().out


REQUESTS = [
    ["eval", "run", "--episodes", "1e2", "--override", "Hazards.num=4", "--override", "a=b", "--platform", "cpu"],
    [
        "train",
        "PPOLag",
        "SafetyPointGoal1-v0",
        "--cost-limit",
        "10,5",
        "--no-learning-rate-decay",
        "--hidden-sizes",
        "8,8",
    ],
    ["report", "one", "two", "--no-animation"],
    ["rlhf", "sft", "--data", "a.jsonl", "--data", "b.jsonl", "--epochs", "2", "--seed", "3"],
    ["sketch", "train", "--procedural", "cat:20", "--seed", "1"],
]


@pytest.mark.parametrize("words", REQUESTS, ids=" ".join)
def test_a_request_comes_back_from_json(words: list[str]):
    request = parse(words).request
    assert from_json(type(request), json.loads(json.dumps(as_json(request)))) == request


def test_settings_of_a_command_line_are_typed():
    request = parse(REQUESTS[1]).request
    assert request.options.explicit() == {
        "cost_limit": (10.0, 5.0),
        "learning_rate_decay": False,
        "hidden_sizes": (8, 8),
    }
    assert parse(["train", "--seeds", "4", "ppo", "E"]).request.seeds == 4
    assert parse(["eval", "run", "--episodes", "1", "--episodes", "10_000"]).request.episodes == 10_000


@pytest.mark.parametrize(
    "words",
    [
        ["ppo_lag", "E", "--cost-limit", "5"],
        ["--run-dir", "ppo", "ppo_lag", "E", "--cost-limit", "5"],
        ["--run-dir=ppo", "--quiet", "PPOLag", "E", "--cost-limit", "5"],
        ["--cost-limit", "5", "--no-learning-rate-decay", "--squash", "ppo_lag", "E"],
        ["--env", "ppo", "--cost-limit", "5", "--algorithm", "ppo_lag"],
    ],
    ids=" ".join,
)
def test_the_value_of_a_flag_is_not_the_algorithm(words: list[str]):
    assert parse(["train", *words]).request.options.cost_limit == 5.0


def test_the_help_of_an_algorithm_has_its_summary_and_one_style_of_defaults(capsys: pytest.CaptureFixture[str]):
    assert main.main(["train", "ppo_lag", "--help"]) == 0
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "Usage: jsafe train ppo_lag ENV" in text and "Lagrange multiplier that follows" in text
    assert "Benchmarking safe exploration" in text
    assert "default:" not in text and "(default none; >= 0)" in text
    assert main.main(["optimum", "--help"]) == 0
    text = capsys.readouterr().out
    assert "(default 400)" in text and "default:" not in text


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_environments_of_every_space_are_listed(monkeypatch, capsys: pytest.CaptureFixture[str], options: list[str]):
    import envs_mjx
    from tests.support.toy_envs import PointMass
    from tests.support.tree_envs import Camera

    listed = {"Tree-v0": Camera(), "Flat-v0": PointMass()}
    monkeypatch.setattr(envs_mjx, "ids", lambda: tuple(listed))
    monkeypatch.setattr(envs_mjx, "make", listed.__getitem__)
    assert main.main(["envs", *options]) == 0
    out = capsys.readouterr().out
    tree, actions = "image: 8x8x3 uint8, state: 3", f"1 of {Camera().spec.num_actions}"
    if not options:
        assert tree in out and actions in out
        return
    first, second = json.loads(out)["envs"]
    assert (first["observation"], first["observation_size"], first["action"]) == (tree, None, actions)
    assert (second["observation"], second["observation_size"], second["action"]) == ("5", 5, "2")

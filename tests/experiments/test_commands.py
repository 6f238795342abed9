"""Training, evaluation, film and report from the command line, on a small CMDP in pure JAX in place of MuJoCo."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from PIL import Image, ImageSequence

import envs_mjx
from experiments.cli import devices as context
from experiments.cli import exit_codes, main
from experiments.cli.devices import environment_of
from experiments.cli.errors import CommandError
from jsafe import Spec, State, runtime
from jsafe.runs.reader import load_run
from tests.support.toy_envs import PointMass


@dataclasses.dataclass(frozen=True)
class Drawable(PointMass):
    """`PointMass` under a registered name, with what tools ask of an environment; its actions are never bad."""

    backend: str = "mujoco"
    extents: tuple[float, ...] = (-1.0, -1.0, 1.0, 1.0)

    @property
    def spec(self) -> Spec:
        return dataclasses.replace(super().spec, id="SafetyPointGoal1-v0")

    def reset(self, key: jax.Array) -> State:
        return super().reset(key).replace(metrics={})

    def step(self, state: State, action: jax.Array) -> State:
        return super().step(state, action).replace(metrics={})

    def scene(self, state: State) -> list[dict[str, Any]]:
        looks = {"yaw": 0.0, "size": 0.1, "shape": "circle", "rgba": (1.0, 0.0, 0.0, 1.0)}
        return [{"kind": "agent", "position": np.asarray(state.data["position"]), **looks}]


@pytest.fixture(autouse=True)
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    def make(env_id: str, *, physics: str, overrides: dict[str, Any] | None) -> Drawable:
        assert env_id == "SafetyPointGoal1-v0" and physics == "mujoco"
        return Drawable(**(overrides or {}))

    monkeypatch.setattr(envs_mjx, "make", make)


SMALL = ("--num-envs", "4", "--steps-per-iteration", "200", "--passes", "1", "--hidden-sizes", "8,8", "--quiet")


def command(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> dict[str, Any]:
    """Run a command with `--json` and read what it prints."""
    assert main.main([*words, "--json"]) == code, capsys.readouterr().err
    return json.loads(capsys.readouterr().out)


def start(capsys: pytest.CaptureFixture[str], folder: Path, *words: str) -> dict[str, Any]:
    begin = ("train", "PPOLag", "SafetyPointGoal1-v0", "--run-dir", str(folder), "--total-steps", "1_000", *SMALL)
    return command(capsys, *begin, *words)


def rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two seeds and five iterations."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(envs_mjx, "make", lambda env_id, *, physics, overrides: Drawable(**(overrides or {})))
        words = ["--seeds", "2", "--cost-limit", "3", "--override", "episode_length=10", "--minutes", "10"]
        begin = ["train", "PPOLag", "SafetyPointGoal1-v0", "--run-dir", str(folder), "--total-steps", "1e3"]
        assert main.main([*begin, *SMALL, *words]) == 0
    return folder


def test_training_leaves_rows_checkpoints_and_its_conditions(trained: Path):
    result = rows(trained)
    assert [(row["iteration"], row["seed"]) for row in result] == [(i, s) for i in range(1, 6) for s in range(2)]
    assert all({"env_steps", "return", "cost", "multiplier"} <= row.keys() for row in result)
    assert list((trained / "checkpoints").iterdir())
    facts = json.loads((trained / "run.json").read_text())
    assert facts["trainer"]["algorithm"] == "ppo_lag" and facts["trainer"]["config"]["cost_limit"] == 3.0
    assert facts["environment"]["overrides"] == {"episode_length": 10} and facts["hardware"]["cores"] >= 1
    assert "--cost-limit 3" in facts["command"]
    assert facts["engine"].startswith("MuJoCo ") and facts["versions"]["mujoco"] in facts["engine"]


def test_eval_reports_each_seed_and_all_of_them(trained: Path, capsys: pytest.CaptureFixture[str]):
    result = command(capsys, "eval", str(trained), "--episodes", "6")
    assert result["length"] == 10.0, "the run's own settings of the environment hold"
    for mode in ("deterministic", "stochastic"):
        means = [row["return"] for row in result[mode]["seeds"]]
        assert len(means) == 2 and result[mode]["overall"]["return"] == pytest.approx(np.mean(means))
    assert result["deterministic"]["overall"]["return"] != result["stochastic"]["overall"]["return"]
    assert result["return"] == result["deterministic"]["overall"]["return"]
    assert json.loads((trained / "eval.json").read_text()) == result


def test_eval_agrees_with_the_policy_loaded_in_python(trained: Path, capsys: pytest.CaptureFixture[str]):
    import jsafe

    result = command(capsys, "eval", str(trained), "--episodes", "5", "--policy", "deterministic", "--seed", "9")
    env, policy = Drawable(episode_length=10), jsafe.load_policy(trained, seed=1)
    reset_key, _ = jax.random.split(jax.random.key(9))
    returns = []
    for key in jax.random.split(reset_key, 5):
        state, total = env.reset(key), 0.0
        for _ in range(10):
            state = env.step(state, policy(state.obs))
            total += float(state.reward)
        returns.append(total)
    assert result["deterministic"]["seeds"][1]["return"] == pytest.approx(np.mean(returns), abs=1e-4)


def test_render_films_the_requested_steps(trained: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path):
    target = tmp_path / "film.gif"
    result = command(
        capsys, "render", str(trained), "--view", "top", "--steps", "7", "--seed", "1", "--out", str(target)
    )
    assert result["view"] == "top" and result["steps"] == 7
    assert len(ImageSequence.all_frames(Image.open(target))) == 8
    assert main.main(["render", str(trained), "--seed", "2", "--view", "top"]) == exit_codes.USER_ERROR
    assert "seeds 0 to 1, got seed 2" in capsys.readouterr().err
    assert main.main(["render", str(trained), "--out", "film.avi"]) == exit_codes.USER_ERROR
    assert ".gif or .mp4" in capsys.readouterr().err


def test_report_shows_curves_film_and_evaluation(trained: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path):
    command(capsys, "report", str(trained), "--episodes", "3", "--out", str(tmp_path / "page.html"))
    html = (tmp_path / "page.html").read_text()
    assert "data:image/gif;base64," in html and "cost limit 3" in html and "Test episodes after training (3" in html
    assert len(html) < 2_000_000


def test_a_run_stopped_by_the_time_limit_resumes_to_the_same_numbers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert start(capsys, whole)["status"] == "finished"
    first = start(capsys, cut, "--minutes", "0")
    assert first["status"] == "stopped" and first["iterations"] == 1
    assert command(capsys, "train", "--resume", str(cut), "--quiet")["status"] == "finished"
    assert rows(cut) == rows(whole)


def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = tmp_path / "run"
    start(capsys, folder, "--checkpoint-every", "1")
    newest = max((folder / "checkpoints").iterdir(), key=lambda path: int(path.name))
    (newest / "manifest.json").write_text("{")
    assert main.main(["eval", str(folder), "--episodes", "2", "--policy", "deterministic"]) == 0
    message = capsys.readouterr().err
    assert f"jsafe: warning: damaged checkpoint passed over ({newest}" in message and "UserWarning" not in message


def refuse(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main.main(list(words)) == exit_codes.USER_ERROR
    message = capsys.readouterr().err
    assert message.count("\n") == 1 and "Traceback" not in message, message
    return message


def test_mistakes_are_named_before_anything_is_compiled(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    begin = ("train", "ppo_lag", "SafetyPointGoal1-v0", "--run-dir", str(tmp_path / "run"))
    assert "cost_limit must be at least 0" in refuse(capsys, *begin, "--cost-limit", "-1")
    assert "--seeds: must be at least 1" in refuse(capsys, *begin, "--seeds", "0")
    assert "did you mean 'omnisafe'?" in refuse(capsys, *begin, "--preset", "omnisave")
    assert "Did you mean --learning-rate?" in refuse(capsys, *begin, "--learning-rat", "1")
    assert "did you mean 'SafetyPointGoal1-v0'?" in refuse(capsys, "train", "ppo_lag", "SafetyPointGoal1")
    assert "did you mean 'PPOLag'?" in refuse(capsys, "train", "PPOLagg", "SafetyPointGoal1-v0")
    assert "needs an environment" in refuse(capsys, "train", "ppo_lag")
    assert "needs an algorithm and an environment" in refuse(capsys, "train")
    assert not (tmp_path / "run").exists()


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "file").write_text("")
    message = refuse(capsys, "train", "ppo_lag", "SafetyPointGoal1-v0", "--run-dir", str(tmp_path / "file" / "run"))
    assert "cannot write" in message and "file/run" in message


def test_a_run_is_never_overwritten(trained: Path, capsys: pytest.CaptureFixture[str]):
    before = rows(trained)
    message = refuse(capsys, "train", "ppo_lag", "SafetyPointGoal1-v0", "--run-dir", str(trained), *SMALL)
    assert "already holds a run" in message and rows(trained) == before


def test_resume_takes_everything_from_the_run(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    fixed = {"ppo": "ALGO", "--run-dir=x": "--run-dir", "--cost-limit=5": "--cost-limit", "--preset=paper": "--preset"}
    for word, name in {**fixed, "--override=a=b": "--override", "--no-squash": "--no-squash"}.items():
        message = refuse(capsys, "train", word, "--resume", str(trained))
        assert f"--resume cannot be combined with {name}: " in message and "--total-steps" in message
    assert "no such folder" in refuse(capsys, "train", "--resume", str(tmp_path / "nothing"))


def test_resume_neither_outlives_the_schedule_nor_ends_in_the_past(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = tmp_path / "run"
    start(capsys, folder)
    before = json.loads((folder / "run.json").read_text())
    more = refuse(capsys, "train", "--resume", str(folder), "--total-steps", "2_000", "--quiet")
    assert "step size falls to 0 at 1,000 steps" in more
    assert main.main(["train", "--resume", str(folder), "--total-steps", "400", "--quiet"]) == exit_codes.USER_ERROR
    assert "iterations must be at least 5" in capsys.readouterr().err
    after = json.loads((folder / "run.json").read_text())
    assert (after["iterations"], after["status"]) == (before["iterations"], "finished")


def test_a_run_without_a_schedule_may_be_extended(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    start(capsys, tmp_path / "run", "--no-learning-rate-decay")
    longer = ("train", "--resume", str(tmp_path / "run"), "--total-steps", "2_000", "--quiet")
    assert command(capsys, *longer)["iterations"] == 10


def test_tools_rebuild_the_environment_that_was_trained_in(trained: Path, monkeypatch: pytest.MonkeyPatch):
    requests: list[Any] = []
    monkeypatch.setattr(envs_mjx, "make", lambda env_id, **settings: requests.append(settings))
    run = load_run(trained)
    run.facts["environment"] = {"physics": "mjx", "overrides": {"Hazards": {"num": 3, "size": 0.3}, "num_steps": 9}}
    environment_of(run)
    environment_of(run, "mujoco", {"Hazards": {"num": 4}})
    assert requests[0] == {"physics": "mjx", "overrides": {"Hazards": {"num": 3, "size": 0.3}, "num_steps": 9}}
    assert requests[1] == {"physics": "mujoco", "overrides": {"Hazards": {"num": 4, "size": 0.3}, "num_steps": 9}}


def test_a_missing_platform_is_a_user_error(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")
    monkeypatch.setattr(runtime, "configure", lambda platform, devices: None)
    with pytest.raises(CommandError, match="no device for --platform cuda"):
        context.configure("cuda")
    context.configure("cpu")


def test_a_missing_simulator_is_named_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.undo()  # the real environments
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    folder = tmp_path / "run"
    message = refuse(capsys, "train", "ppo", "SafetyPointGoal1-v0", "--physics", "warp", "--run-dir", str(folder))
    assert "jsafe[warp]" in message and not folder.exists()


def test_help_of_an_algorithm_lists_its_hyper_parameters(capsys: pytest.CaptureFixture[str]):
    assert main.main(["train", "PPOLag", "--help"]) == 0
    text = capsys.readouterr().out
    assert "--cost-limit" in text and "omnisafe: on" in text
    assert main.main(["train", "ppo", "--help"]) == 0
    assert "--cost-limit" not in capsys.readouterr().out


def test_listings_are_read_by_programs(capsys: pytest.CaptureFixture[str]):
    names = {row["name"]: row for row in command(capsys, "algorithms")["algorithms"]}
    assert {"ppo", "ppo_lag", "cppo_pid"} <= names.keys() and "PPOLag" in names["ppo_lag"]["aliases"]


def test_the_demonstration_trains_evaluates_and_reports(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = tmp_path / "demo"
    words = ("demo", "--run-dir", str(folder), "--minutes", "0.01", "--seeds", "2")
    result = command(capsys, *words)
    facts = json.loads((folder / "run.json").read_text())
    config = facts["trainer"]["config"]
    assert facts["trainer"]["algorithm"] == "ppo_lag" and facts["command"].startswith("jsafe demo --run-dir ")
    assert (config["steps_per_iteration"], config["multiplier_learning_rate"]) == (10_000, 0.08)
    assert facts["seeds"] == 2 and facts["budget_steps"] == 1_200_000 and not config["learning_rate_decay"]
    assert result["evaluation"]["episodes"] == 20 and Path(result["report"]).is_file()
    command(capsys, *words)  # its own folder is replaced, another run is not
    (folder / ".jsafe-demo").unlink()
    assert "holds another run" in refuse(capsys, *words)

"""The commands as a user runs them, each in its own process, on a real environment."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import ROOT

pytestmark = pytest.mark.slow

SMALL = ("--num-envs", "4", "--steps-per-iteration", "2000", "--passes", "2", "--checkpoint-every", "1", "--quiet")
ITERATIONS = 12


def jsafe(*words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "experiments.cli.main", *words]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    return out


def train(folder: Path) -> subprocess.Popen[str]:
    steps = str(2000 * ITERATIONS)
    words = ("--seeds", "2", "--seed", "5", "--total-steps", steps, "--run-dir", str(folder))
    return jsafe("train", "PPOLag", "SafetyPointGoal1-v0", *words, *SMALL)


def wait_for_iteration(process: subprocess.Popen[str], folder: Path, iteration: int) -> None:
    while not (folder / "checkpoints" / str(iteration)).is_dir():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.01)


def test_kill_and_resume_arrive_at_the_numbers_of_an_uninterrupted_run(tmp_path: Path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    finish(train(whole))
    killed = train(cut)
    wait_for_iteration(killed, cut, 3)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL and not (cut / "checkpoints" / str(ITERATIONS)).exists()
    stopped = jsafe("train", "--resume", str(cut), "--quiet")
    wait_for_iteration(stopped, cut, 7)
    stopped.send_signal(signal.SIGINT)
    _, message = stopped.communicate(timeout=300)
    assert stopped.returncode == 130 and "Traceback" not in message
    finish(jsafe("train", "--resume", str(cut), "--quiet"))
    assert (cut / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()


def test_a_trained_run_is_evaluated_filmed_and_reported(tmp_path: Path):
    folder = tmp_path / "run"
    finish(train(folder))
    result = json.loads(finish(jsafe("eval", str(folder), "--episodes", "4", "--json")))
    assert result["length"] == 1000 and len(result["stochastic"]["seeds"]) == 2
    film = json.loads(finish(jsafe("render", str(folder), "--steps", "50", "--json")))
    assert film["steps"] == 50 and os.path.getsize(film["file"]) > 1000
    page = json.loads(finish(jsafe("report", str(folder), "--json")))
    assert page["animation"] and os.path.getsize(page["report"]) < 2_000_000

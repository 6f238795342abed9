"""Rows of numbers: written whole, read back after a crash, and shown to people."""

from __future__ import annotations

import errno
import io
import os
from pathlib import Path

import numpy as np
import pytest

from jsafe.runs import telemetry
from jsafe.runs.telemetry import JsonLines, Progress, TelemetryError, TensorBoard, WeightsAndBiases


def make_rows(iteration: int, seeds: int = 2, **more: float | None) -> list[dict]:
    return [
        {"seed": i, "iteration": iteration, "env_steps": 10 * iteration, "return": 1.0 + i, "cost": None,
         "multiplier": 0.5, **more} for i in range(seeds)
    ]  # fmt: skip


def test_metrics_become_one_row_per_seed_and_unknown_is_null() -> None:
    metrics = {
        "env_steps": np.array([10, 10], np.int32),
        "return": np.array([np.nan, 0.1], np.float32),
        "loss": np.array([np.inf, 1.0], np.float32),
        "parts": np.array([[1.0, np.nan], [2.0, 3.0]]),
    }
    rows = telemetry.rows_from(metrics, 3)
    assert rows[0] == {
        "seed": 0, "iteration": 3, "env_steps": 10, "return": None, "loss": None, "parts": [1.0, None]
    }  # fmt: skip
    assert np.float32(rows[1]["return"]) == np.float32(0.1) and isinstance(rows[1]["env_steps"], int)


def test_rows_survive_the_file_and_a_line_cut_off_at_its_end(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    sink = JsonLines(path)
    for i in (1, 2):
        sink.write(make_rows(i))
    assert telemetry.read_rows(path) == make_rows(1) + make_rows(2)  # readable while it is being written
    sink.close()
    with path.open("a") as file:
        file.write('{"seed": 0, "iterat')
    assert telemetry.read_rows(path) == make_rows(1) + make_rows(2)
    result = telemetry.read_metrics(tmp_path)
    assert result["return"].tolist() == [[1.0, 2.0], [1.0, 2.0]] and np.isnan(result["cost"]).all()
    assert "seed" not in result
    assert telemetry.read_rows(tmp_path / "missing.jsonl") == []


def test_damage_in_the_middle_of_a_file_is_not_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"seed": 0, "iteration": 1}\n{"seed"\n{"seed": 0, "iteration": 3}\n')
    with pytest.raises(TelemetryError, match="line 2"):
        telemetry.read_rows(path)


def test_rows_after_the_restored_iteration_are_cut(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    sink = JsonLines(path)
    for i in (1, 2):
        sink.write(make_rows(i))
    whole = path.read_bytes()
    sink.write(make_rows(3))
    sink.close()
    with path.open("a") as file:
        file.write('{"seed": 0,')
    assert telemetry.cut_after(path, 2, seeds=2) == make_rows(1) + make_rows(2)
    assert path.read_bytes() == whole
    with pytest.raises(TelemetryError, match="holds 4 rows up to iteration 5, expected 10"):
        telemetry.cut_after(path, 5, seeds=2)
    assert path.read_bytes() == whole


def test_full_disk_is_reported_in_words(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    sink = JsonLines("/dev/full")
    with pytest.raises(TelemetryError, match="cannot write /dev/full: the disk is full. Free some space"):
        sink.write(make_rows(1))
    with pytest.raises(TelemetryError):
        sink.close()


def test_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(TelemetryError, match="nowhere/metrics.jsonl: No such file"):
        JsonLines(tmp_path / "nowhere" / "metrics.jsonl")


def test_failed_cut_keeps_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "metrics.jsonl"
    sink = JsonLines(path)
    sink.write(make_rows(1) + make_rows(2))
    sink.close()
    before = path.read_bytes()
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
    with pytest.raises(TelemetryError, match="disk is full"):
        telemetry.cut_after(path, 1)
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_tensorboard_gets_the_mean_and_each_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sink = TensorBoard(tmp_path)
    seen = {}
    monkeypatch.setattr(sink._writer, "add_scalar", lambda name, value, step: seen.update({name: (value, step)}))
    sink.write(make_rows(2))
    assert seen["return"] == (1.5, 20) and seen["seed_1/return"] == (2.0, 20)
    assert "cost" not in seen and "seed" not in seen
    seen.clear()
    sink.write(make_rows(2, seeds=20))
    assert seen["return"] == (10.5, 20) and not any(name.startswith("seed_") for name in seen)
    sink.close()
    assert list(tmp_path.glob("events*"))


def test_missing_wandb_error_explains_the_installation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "wandb", None)
    with pytest.raises(TelemetryError, match=r"pip install 'jsafe\[wandb\]'"):
        WeightsAndBiases("project")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_bar_on_a_terminal_shows_the_numbers_and_lines_elsewhere() -> None:
    for stream in (Terminal(), io.StringIO()):
        bar = Progress(4, every=0.0, stream=stream)
        assert bar.is_bar == stream.isatty()
        for i in (1, 4):
            bar.write(make_rows(i))
        bar.note("a remark")
        bar.close()
        text = stream.getvalue()
        for part in ("4/4", "steps/s", "1.50", "0.50", "-", "a remark"):
            assert part in text, (part, text)
        assert ("\r" in text) == stream.isatty()


def test_lines_do_not_flood_a_log() -> None:
    stream = io.StringIO()
    bar = Progress(100, every=1e6, stream=stream)
    for i in range(1, 100):
        bar.write(make_rows(i))
    assert stream.getvalue() == ""
    bar.write(make_rows(100))
    assert stream.getvalue().count("\n") == 1

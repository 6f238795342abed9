"""The host loop: what a run leaves behind, and that nothing which ends it early changes its numbers."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import jsafe
from jsafe.runs.checkpoint import CheckpointError, Checkpoints
from jsafe.runs.record import RunError, read_run
from jsafe.runs.telemetry import Progress, read_metrics, read_rows
from jsafe.training.health import TrainingError
from jsafe.training.interrupts import SAME_REQUEST_SECONDS
from tests.support.toy_trainer import assert_same, make_tiny

ROOT = Path(__file__).resolve().parents[2]

SCRIPT = """
import sys
import jsafe
from tests.support.toy_trainer import make_tiny
result = jsafe.fit(make_tiny(pause=0.02), seeds=2, seed=5, iterations=60, run_dir=sys.argv[1], checkpoint_every=7,
                   resume=sys.argv[2] == "resume", sinks=())
print(result.status, result.iterations)
"""


@pytest.fixture(scope="module", autouse=True)
def compiled_quickly():
    """Runs are compared to the bit with those of processes of their own, which compile with all optimisations."""


def start(run_dir: Path, mode: str = "new") -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(run_dir), mode],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_iteration(process: subprocess.Popen[str], run_dir: Path, iteration: int) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        path = run_dir / "metrics.jsonl"
        if path.is_file() and path.read_bytes().count(b"\n") >= 2 * iteration:
            return
        time.sleep(0.005)
    process.kill()
    raise AssertionError(f"iteration {iteration} was not reached: {process.communicate()}")


def final_arrays(run_dir: Path) -> dict[str, np.ndarray]:
    return Checkpoints(run_dir).restore_arrays(iteration=60).state


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 60 iterations that nothing interrupted."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    result = jsafe.fit(make_tiny(pause=0.001), seeds=2, seed=5, iterations=60, run_dir=folder, sinks=())
    assert (result.status, result.iterations) == ("finished", 60)
    return folder


def assert_same_run(one: Path, other: Path) -> None:
    assert (one / "metrics.jsonl").read_bytes() == (other / "metrics.jsonl").read_bytes()
    assert_same(final_arrays(one), final_arrays(other))


def test_killed_run_resumes_to_exactly_the_same_numbers(tmp_path: Path, whole: Path) -> None:
    run_dir = tmp_path / "run"
    process = start(run_dir)
    wait_for_iteration(process, run_dir, 24)
    process.kill()
    process.communicate()
    assert read_run(run_dir)["status"] == "running"
    done = max(Checkpoints(run_dir).iterations())
    assert 0 < done < 60 and done % 7 == 0
    with (run_dir / "metrics.jsonl").open("a") as file:
        file.write('{"seed": 0, "itera')  # the kill may fall inside a line
    process = start(run_dir, "resume")
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert out.split()[-2:] == ["finished", "60"]
    assert_same_run(run_dir, whole)
    record = read_run(run_dir)
    assert (record["status"], record["sessions"], record["iteration"]) == ("finished", 2, 60)


def test_ctrl_c_finishes_the_iteration_saves_and_can_be_resumed(tmp_path: Path, whole: Path) -> None:
    run_dir = tmp_path / "run"
    process = start(run_dir)
    wait_for_iteration(process, run_dir, 10)
    process.send_signal(signal.SIGINT)
    time.sleep(0.05)
    process.send_signal(signal.SIGINT)  # sent to the process and to its group: still one request
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    status, done = out.split()[-2:]
    assert status == "interrupted" and "stopping after this iteration" in err
    assert read_run(run_dir)["status"] == "interrupted"
    assert max(Checkpoints(run_dir).iterations()) == int(done) < 60
    assert len(read_rows(run_dir / "metrics.jsonl")) == 2 * int(done)
    jsafe.fit(make_tiny(pause=0.001), run_dir=run_dir, resume=True, sinks=())
    assert_same_run(run_dir, whole)


def test_second_ctrl_c_ends_at_once(tmp_path: Path) -> None:
    script = SCRIPT.replace("pause=0.02", "pause=30.0")  # an iteration of a minute
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "run"), "new"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    deadline = time.monotonic() + 60
    while not (tmp_path / "run" / "timing.jsonl").is_file() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    line = process.stderr.readline()
    while line and "stopping after this iteration" not in line:
        line = process.stderr.readline()
    assert "press Ctrl-C again" in line
    deadline = time.monotonic() + 10
    while read_run(tmp_path / "run")["status"] != "interrupted" and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(SAME_REQUEST_SECONDS)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=15) == -signal.SIGINT
    assert read_run(tmp_path / "run")["status"] == "interrupted"


def test_damaged_last_checkpoint_costs_iterations_but_no_exactness(tmp_path: Path, whole: Path) -> None:
    run_dir = tmp_path / "run"
    trainer = make_tiny(pause=0.001)
    stop = [lambda done, *_: done == 40]
    result = jsafe.fit(
        trainer, seeds=2, seed=5, iterations=60, run_dir=run_dir, checkpoint_every=15, callbacks=stop, sinks=()
    )
    assert result.status == "stopped" and Checkpoints(run_dir).iterations() == [15, 30, 40]
    victim = max((run_dir / "checkpoints/40/arrays").rglob("*"), key=lambda p: p.stat().st_size * p.is_file())
    os.truncate(victim, 10)
    with pytest.warns(UserWarning, match="damaged checkpoint.*checkpoints/40"):
        result = jsafe.fit(trainer, run_dir=run_dir, resume=True, sinks=())
    assert result.metrics["loss"].shape == (60, 2)
    assert_same_run(run_dir, whole)


def test_run_killed_before_its_first_checkpoint_starts_again(tmp_path: Path, whole: Path) -> None:
    run_dir = tmp_path / "run"
    trainer = make_tiny(pause=0.001)

    def crash(done: int, *_: Any) -> None:
        if done == 5:
            raise MemoryError("pretend")

    with pytest.raises(MemoryError):
        jsafe.fit(trainer, seeds=2, seed=5, iterations=60, run_dir=run_dir, callbacks=[crash], sinks=())
    record = read_run(run_dir)
    assert record["status"] == "failed" and "pretend" in record["error"]
    jsafe.fit(trainer, run_dir=run_dir, resume=True, sinks=())
    assert_same_run(run_dir, whole)
    assert "error" not in read_run(run_dir)


def test_run_folder_records_the_settings(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    result = jsafe.fit(
        make_tiny(), seeds=3, total_steps=22, hyper={"step_size": [0.1, 0.2, 0.3]}, run_dir=run_dir,
        extra={"command": "jsafe train"},
    )  # fmt: skip
    record = read_run(run_dir)
    assert record["trainer"]["algorithm"] == "tiny" and record["trainer"]["problem"] == "Toy-v0"
    assert record["trainer"]["policy"]["observation"]["shape"] == [3]
    assert (record["seeds"], record["seed"], record["iterations"], record["total_steps"]) == (3, 0, 5, 25)
    assert record["status"] == "finished" and record["command"] == "jsafe train"
    assert record["hardware"]["cores"] >= 1 and "jax" in record["versions"]
    assert record["compile_seconds"] > 0 and record["run_seconds"] > 0
    assert any("rounded up from 22 to 25" in note for note in result.notes)
    rows = read_rows(run_dir / "metrics.jsonl")
    assert [(r["iteration"], r["seed"]) for r in rows] == [(i, s) for i in range(1, 6) for s in range(3)]
    assert rows[0]["return"] is None and rows[0]["env_steps"] == 5 and rows[-1]["return"] < 0
    assert result.metrics["return"].shape == (5, 3)
    np.testing.assert_array_equal(read_metrics(run_dir)["return"], result.metrics["return"].astype(np.float64))
    timing = read_rows(run_dir / "timing.jsonl")
    assert sum("compile_seconds" in row for row in timing) == 1
    assert sum("run_seconds" in row for row in timing) == 5
    assert list((run_dir / "tensorboard").glob("events*"))
    assert np.asarray(result.state.hyper["step_size"]).tolist() == pytest.approx([0.1, 0.2, 0.3])


def test_longer_run_resumes_a_finished_one(tmp_path: Path) -> None:
    trainer = make_tiny()
    first = jsafe.fit(trainer, iterations=4, run_dir=tmp_path / "a", sinks=())
    again = jsafe.fit(trainer, run_dir=tmp_path / "a", resume=True, sinks=())
    assert_same(jax.tree.map(lambda x: x, again.state), first.state)
    assert again.metrics["loss"].shape == (4, 1)
    longer = jsafe.fit(trainer, run_dir=tmp_path / "a", resume=True, iterations=9, sinks=())
    straight = jsafe.fit(trainer, iterations=9)
    assert_same(longer.state, straight.state)
    assert_same(longer.metrics, straight.metrics)


def test_resumed_run_keeps_the_hyper_parameters_of_each_seed(tmp_path: Path) -> None:
    hyper = {"step_size": [0.1, 0.3]}
    once = jsafe.fit(make_tiny(), seeds=2, iterations=6, hyper=hyper, run_dir=tmp_path / "once", sinks=())
    jsafe.fit(make_tiny(), seeds=2, iterations=3, hyper=hyper, run_dir=tmp_path / "twice", sinks=())
    twice = jsafe.fit(make_tiny(), iterations=6, run_dir=tmp_path / "twice", resume=True, sinks=())
    assert_same(once.state, twice.state)
    assert (tmp_path / "once/metrics.jsonl").read_bytes() == (tmp_path / "twice/metrics.jsonl").read_bytes()


def test_run_is_never_overwritten_nor_mixed(tmp_path: Path) -> None:
    jsafe.fit(make_tiny(), seeds=2, iterations=2, run_dir=tmp_path, sinks=())
    before = (tmp_path / "metrics.jsonl").read_bytes()
    with pytest.raises(RunError, match="already holds a run"):
        jsafe.fit(make_tiny(), iterations=2, run_dir=tmp_path)
    other = make_tiny()
    other = other._replace(info=jsafe.TrainerInfo(**{**vars(other.info), "config": {"step_size": 0.5}}))
    with pytest.raises(RunError, match="step_size: 0.1 in the run, 0.5 now"):
        jsafe.fit(other, run_dir=tmp_path, resume=True)
    with pytest.raises(RunError, match="seeds: 2 in the run, 4 now"):
        jsafe.fit(make_tiny(), seeds=4, run_dir=tmp_path, resume=True)
    with pytest.raises(RunError, match="no run at"):
        jsafe.fit(make_tiny(), run_dir=tmp_path / "nothing", resume=True)
    assert not (tmp_path / "nothing").exists()
    assert (tmp_path / "metrics.jsonl").read_bytes() == before


def test_folder_in_use_is_refused(tmp_path: Path) -> None:
    def train_again(*_: Any) -> None:
        jsafe.fit(make_tiny(), run_dir=tmp_path, resume=True)

    with pytest.raises(RunError, match="another process"):
        jsafe.fit(make_tiny(), iterations=2, run_dir=tmp_path, callbacks=[train_again], sinks=())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"seeds": 0, "iterations": 1}, "seeds must be at least 1, got 0"),
        ({"seeds": -2, "iterations": 1}, "seeds must be at least 1"),
        ({"iterations": 0}, "iterations must be at least 1"),
        ({"total_steps": -5}, "total_steps must be at least 1"),
        ({"total_steps": 1.5}, "total_steps must be a whole number"),
        ({}, "iterations or total_steps"),
        ({"iterations": 1, "total_steps": 5}, "not both"),
        ({"iterations": 1, "keep": 0}, "keep must be at least 1"),
        ({"iterations": 1, "checkpoint_every": 0}, "checkpoint_every must be at least 1"),
        ({"iterations": 1, "checkpoint_seconds": 0}, "checkpoint_seconds must be above 0"),
        ({"iterations": 1, "extra": {"status": 1}}, "status"),
        ({"iterations": 1, "hyper": {"step_sise": 1}}, "did you mean 'step_size'"),
        ({"iterations": 1, "seeds": 2, "hyper": {"step_size": [0.1, -3.0]}}, "step_size must not be negative, got -3"),
    ],
)
def test_bad_arguments_are_refused_by_name(arguments: dict, words: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=words):
        jsafe.fit(make_tiny(), run_dir=tmp_path / "run", **arguments)
    assert not (tmp_path / "run" / "run.json").exists()


def test_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RunError, match="run folder .*file/run: Not a directory"):
        jsafe.fit(make_tiny(), iterations=1, run_dir=tmp_path / "file" / "run")


def test_full_disk_during_a_run_leaves_the_last_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_dir = tmp_path / "run"
    save = Checkpoints.save

    def fill_up(self: Checkpoints, iteration: int, state: Any, extra: Any = None) -> Path:
        if iteration > 10:
            with monkeypatch.context() as patch:
                patch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
                return save(self, iteration, state, extra)
        return save(self, iteration, state, extra)

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "save", fill_up)
        with pytest.raises(CheckpointError, match=r"checkpoints/20: the disk is full.*\[10\] stay"):
            jsafe.fit(make_tiny(), seeds=2, iterations=30, run_dir=run_dir, checkpoint_every=10, sinks=())
    assert read_run(run_dir)["status"] == "failed"
    result = jsafe.fit(make_tiny(), run_dir=run_dir, resume=True, sinks=())
    assert_same(result.state, jsafe.fit(make_tiny(), seeds=2, iterations=30).state)


def test_bad_action_stops_the_run_naming_metric_and_seed(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="bad_action is 1.0 for seed 1 in iteration 3"):
        jsafe.fit(make_tiny(bad_action_at=3), seeds=2, iterations=9, hyper={"faulty": [0, 1]}, run_dir=tmp_path)
    assert "seed 1" in read_run(tmp_path)["error"]


def test_seed_that_loses_every_update_stops_the_run(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="loss of seed 1 is nan in iteration 4"):
        with pytest.raises(TrainingError, match="every update of seed 1 .* iterations 4 to 6"):
            jsafe.fit(make_tiny(diverge_at=4), seeds=2, iterations=9, hyper={"faulty": [0, 1]})


def test_a_run_without_any_update_does_not_finish(tmp_path: Path) -> None:
    with pytest.warns(UserWarning), pytest.raises(TrainingError, match="no update of seed 1 succeeded in 2 iterations"):
        jsafe.fit(make_tiny(diverge_at=1), seeds=2, iterations=2, hyper={"faulty": [0, 1]}, run_dir=tmp_path)
    assert "no update" in read_run(tmp_path)["error"]
    with pytest.warns(UserWarning):
        assert jsafe.fit(make_tiny(diverge_at=2), iterations=3, hyper={"faulty": [1]}).status == "finished"


def test_unknown_returns_of_the_first_iterations_are_nothing_to_explain(recwarn: pytest.WarningsRecorder) -> None:
    result = jsafe.fit(make_tiny(), iterations=3)
    assert np.isnan(result.metrics["return"][0]).all() and np.isfinite(result.metrics["return"][1:]).all()
    assert not result.notes and not [w for w in recwarn if "iteration" in str(w.message)]


def test_callbacks_see_every_iteration_and_may_stop() -> None:
    seen = []
    result = jsafe.fit(
        make_tiny(),
        seeds=2,
        iterations=50,
        callbacks=[lambda i, s, m: seen.append(i) or (i == 3 and m["loss"].shape == (2,))],
    )
    assert seen == [1, 2, 3] and result.status == "stopped" and result.iterations == 3


def test_progress_prints_plain_lines_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    jsafe.fit(make_tiny(), iterations=2, progress=True)
    line = capsys.readouterr().err.splitlines()[-1]
    for word in ("iteration 2/2", "steps/s", "return -", "cost ", "multiplier ", "left"):
        assert word in line
    jsafe.fit(make_tiny(), iterations=2)
    assert capsys.readouterr().err == ""


def test_a_terminal_sees_a_bar_before_the_first_iteration_ends() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    bar = Progress(5, stream=terminal)
    assert "0/5" in terminal.getvalue()
    bar.write([{"seed": 0, "iteration": 5, "env_steps": 50, "return": 1.5, "cost": None, "multiplier": 0.25}])
    bar.close()
    assert "5/5" in terminal.getvalue() and "return=1.50, cost=-, multiplier=0.25" in terminal.getvalue()


def test_record_is_plain_json(tmp_path: Path) -> None:
    jsafe.fit(make_tiny(), iterations=1, run_dir=tmp_path, sinks=())
    json.loads((tmp_path / "run.json").read_text(), parse_constant=lambda x: pytest.fail(f"{x} is not JSON"))


@pytest.mark.parametrize("iterations", [6, 7])
def test_several_iterations_in_one_call_give_the_same_rows_and_state(tmp_path: Path, iterations: int) -> None:
    one = jsafe.fit(make_tiny(), seeds=2, iterations=iterations, run_dir=tmp_path / "one", sinks=())
    calls: list[int] = []
    several = jsafe.fit(
        make_tiny(), seeds=2, iterations=iterations, run_dir=tmp_path / "several", sinks=(), iterations_per_call=3,
        callbacks=[lambda i, s, m: calls.append(i)],
    )  # fmt: skip
    assert calls == [3, 6, 7][: len(calls)] and calls[-1] == iterations
    assert_same(one.state, several.state)
    assert (tmp_path / "one/metrics.jsonl").read_bytes() == (tmp_path / "several/metrics.jsonl").read_bytes()
    assert several.metrics["loss"].shape == (iterations, 2)


def test_a_run_of_several_iterations_per_call_is_saved_stopped_and_resumed_between_calls(tmp_path: Path) -> None:
    part = jsafe.fit(
        make_tiny(), iterations=12, run_dir=tmp_path, sinks=(), iterations_per_call=3, checkpoint_every=2,
        callbacks=[lambda i, s, m: i >= 6],
    )  # fmt: skip
    assert (part.status, part.iterations) == ("stopped", 6)
    assert set(Checkpoints(tmp_path).iterations()) == {3, 6}
    whole = jsafe.fit(make_tiny(), iterations=12, run_dir=tmp_path, resume=True, sinks=(), iterations_per_call=2)
    assert_same(whole.state, jsafe.fit(make_tiny(), iterations=12).state)


def test_each_iteration_of_a_call_is_checked() -> None:
    with pytest.raises(TrainingError, match="bad_action is 1.0 for seed 1 in iteration 2"):
        jsafe.fit(
            make_tiny(bad_action_at=2), seeds=2, iterations=9, hyper={"faulty": [0, 1]}, iterations_per_call=4
        )  # fmt: skip


def test_callbacks_start_once_see_each_call_and_end_with_the_state() -> None:
    events: list[Any] = []

    class Recorder(jsafe.Callback):
        def on_start(self, session: Any) -> None:
            events.append("start")

        def on_iteration(self, session: Any, progressed: Any) -> None:
            events.append((progressed.first_iteration, progressed.iteration, progressed.latest["loss"].shape))

        def on_end(self, session: Any, state: Any) -> None:
            events.append("failed" if state is None else int(state.iteration[0]))

    jsafe.fit(make_tiny(), iterations=4, seeds=2, callbacks=[Recorder()], iterations_per_call=2)
    assert events == ["start", (1, 2, (2,)), (3, 4, (2,)), 4]
    events.clear()
    with pytest.raises(TrainingError):
        jsafe.fit(make_tiny(bad_action_at=1), iterations=4, hyper={"faulty": 1}, callbacks=[Recorder()])
    assert events == ["start", "failed"]


def test_a_time_limit_of_zero_stops_after_the_first_call_and_negative_ones_are_refused() -> None:
    result = jsafe.fit(make_tiny(), iterations=50, callbacks=[jsafe.TimeLimit(0)])
    assert (result.status, result.iterations) == ("stopped", 1)
    longer = jsafe.fit(make_tiny(pause=0.02), iterations=1000, callbacks=[jsafe.TimeLimit(0.3)])
    assert longer.status == "stopped" and 2 < longer.iterations < 1000
    with pytest.raises(ValueError, match="at least 0 seconds, got -1"):
        jsafe.TimeLimit(-1)


def test_what_is_no_callback_is_refused_by_type() -> None:
    with pytest.raises(TypeError, match=r"jsafe\.Callback or a function, got int"):
        jsafe.fit(make_tiny(), iterations=1, callbacks=[3])  # type: ignore[list-item]


def test_an_error_at_the_end_of_a_callback_keeps_the_last_checkpoint(tmp_path: Path) -> None:
    class Failing(jsafe.Callback):
        def on_end(self, session: Any, state: Any) -> None:
            raise RuntimeError("no plot")

    with pytest.raises(RuntimeError, match="no plot"):
        jsafe.fit(make_tiny(), iterations=3, run_dir=tmp_path, callbacks=[Failing()], sinks=())
    assert max(Checkpoints(tmp_path).iterations()) == 3
    with pytest.raises(TypeError, match="got the class Failing"):
        jsafe.fit(make_tiny(), iterations=1, callbacks=[Failing])  # type: ignore[list-item]

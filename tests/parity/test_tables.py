"""Tables of parity results: those of several engines side by side."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.parity import __main__ as parity
from tests.parity import tables

FIGURES = {key: 0.0 for key in tables.HEADINGS} | {"state": 2e-13, "cost": 0}


def _result(engine: str, env_id: str = "SafetyPointGoal1-v0", **figures: float) -> tables.Result:
    return tables.Result(env_id, engine, "mujoco f64", 2100, FIGURES | figures, 1.5)


def _interpreter(path: Path, result: tables.Result) -> Path:
    """An interpreter whose replay, in any folder but the project's root, fails."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        "#!/bin/sh\n"
        'test "$1 $2 $3" = "-m tests.parity --json" && test -d tests/parity || exit 3\n'
        f"echo \"$@\" >&2\necho '{result.to_json()}'\n"
    )
    path.chmod(0o755)
    return path


def test_a_result_is_the_same_after_json():
    result = _result("MuJoCo 3.3.7", cost=2)
    assert tables.Result.from_json(result.to_json()) == result


def test_every_engine_has_a_column(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    """One of the engines is an interpreter, one a virtual environment and one a file."""
    first = _interpreter(tmp_path / "python", _result("MuJoCo 3.3.7"))
    second = _interpreter(tmp_path / "venv" / "bin" / "python", _result("MuJoCo 3.17.0", state=0.5, cost=3))
    (tmp_path / "old.json").write_text(_result("MuJoCo 3.4.0", "SafetyCarGoal1-v0").to_json() + "\n")
    engines = ["--engine", str(first), "--engine", str(second.parents[1]), "--results", str(tmp_path / "old.json")]
    assert parity.main([*engines, "--only", "Goal1"]) == 0
    out, err = capfd.readouterr()
    rows = [[cell.strip() for cell in row.strip("|").split("|")] for row in out.splitlines()]
    assert rows[0] == ["environment", "backend", "error", "MuJoCo 3.4.0", "MuJoCo 3.3.7", "MuJoCo 3.17.0"]
    assert ["SafetyPointGoal1-v0", "mujoco f64", "state max", "-", "2.0e-13", "5.0e-01"] in rows
    assert ["SafetyPointGoal1-v0", "mujoco f64", "cost wrong", "-", "0", "3"] in rows
    assert ["SafetyCarGoal1-v0", "mujoco f64", "cost wrong", "0", "-", "-"] in rows
    assert err.count("--backend mujoco --profile exact --only Goal1") == 2


def test_two_results_of_one_engine_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "twice.json").write_text(2 * (_result("MuJoCo 3.3.7").to_json() + "\n"))
    assert parity.main(["--results", str(tmp_path / "twice.json")]) == 1
    assert "two of SafetyPointGoal1-v0 on MuJoCo 3.3.7" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("engine", "message"), [("absent", "Python interpreter or a virtual environment"), ("broken", "exit status 3")]
)
def test_an_engine_that_cannot_measure_is_named(engine, message, tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    (tmp_path / "broken").write_text("#!/bin/sh\nexit 3\n")
    (tmp_path / "broken").chmod(0o755)
    assert parity.main(["--engine", str(tmp_path / engine)]) == 1
    error = capfd.readouterr().err
    assert message in error and str(tmp_path / engine) in error


def test_this_interpreter_is_an_engine(capfd: pytest.CaptureFixture[str]):
    """A part of a name that no recording has ends the child with its own message."""
    assert parity.main(["--engine", sys.executable, "--only", "no such recording"]) == 1
    assert "no recordings of registered environments" in capfd.readouterr().err

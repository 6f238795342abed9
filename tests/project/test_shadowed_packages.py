"""Folders of a user with the names of our packages, first on the path."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT


@pytest.fixture
def shadowed(tmp_path: Path) -> Path:
    """A working directory with packages, folders and a module of our names."""
    for name in ("algorithms", "experiments", "envs_mjx"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("mine = True\n")
    (tmp_path / "rlhf").mkdir()
    (tmp_path / "sketch.py").write_text("mine = True\n")
    return tmp_path


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)]), "JAX_PLATFORMS": "cpu"}
    return subprocess.run([sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize("words", [("--help",), ("algorithms", "--json"), ("rlhf", "--help"), ("sketch", "--help")])
def test_the_command_line_is_immune(shadowed: Path, words: tuple[str, ...]):
    done = run(shadowed, "-m", "jsafe", *words)
    assert done.returncode == 0 and done.stdout and "Traceback" not in done.stderr, done.stderr


def test_packages_are_reached_through_jsafe(shadowed: Path):
    code = (
        "import jsafe; print(jsafe.algorithms.resolve('PPOLag'), jsafe.envs.make, jsafe.rlhf.__file__, "
        "jsafe.sketch.__file__)"
    )
    done = run(shadowed, "-c", code)
    assert done.returncode == 0, done.stderr
    assert "ppo_lag" in done.stdout and done.stdout.count(str(ROOT)) == 2


@pytest.mark.parametrize(("name", "alias"), [("algorithms", "algorithms"), ("envs_mjx", "envs"), ("sketch", "sketch")])
def test_a_package_in_the_way_is_named_in_one_line(shadowed: Path, name: str, alias: str):
    done = run(shadowed, "-c", f"import {name}; assert {name}.mine; import jsafe; jsafe.{alias}")
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(f"ImportError: the package '{name}' of jsafe cannot be imported, because {shadowed / name}")

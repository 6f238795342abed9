"""The package as a user gets it: what is installed, and what importing it does to the process."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib import metadata

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import jsafe
from tests.conftest import ROOT

PACKAGES = ("jsafe", "envs_mjx", "algorithms", "rlhf", "sketch", "experiments")


@pytest.fixture(scope="module")
def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


@pytest.fixture(scope="module")
def pins() -> dict[str, str]:
    lines = (line.split("#")[0].strip() for line in (ROOT / "constraints.txt").read_text().splitlines())
    return {canonicalize_name(name): version for name, version in (line.split("==") for line in lines if line)}


@pytest.fixture(scope="module")
def installed() -> None:
    """Skips where the sources are used without an installation; `make test` installs them."""
    try:
        metadata.distribution("jsafe")
    except metadata.PackageNotFoundError:
        pytest.skip("jsafe is not installed here (make setup)")


def requirements(distribution: str) -> list[Requirement]:
    """What an installed distribution needs without any extra."""
    found = [Requirement(text) for text in metadata.requires(distribution) or []]
    return [r for r in found if r.marker is None or r.marker.evaluate({"extra": ""})]


def in_a_fresh_process(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_version_has_one_source(installed):
    assert re.fullmatch(r"\d+\.\d+\.\d+", jsafe.__version__)
    assert metadata.version("jsafe") == jsafe.__version__


def test_console_script_is_the_command_line_of_experiments(installed):
    (script,) = metadata.entry_points(group="console_scripts", name="jsafe")
    assert callable(script.load())


def test_every_default_dependency_comes_without_torch_tensorflow_or_cuda(installed):
    seen, queue = set(), [canonicalize_name(r.name) for r in requirements("jsafe")]
    while queue:
        name = queue.pop()
        if name not in seen:
            seen.add(name)
            queue += [canonicalize_name(r.name) for r in requirements(name)]
    assert "jaxlib" in seen, "the walk over the dependencies found nothing"
    heavy = [n for n in seen if n in ("torch", "tensorflow", "triton") or n.startswith(("nvidia-", "jax-cuda"))]
    assert not heavy


def test_constraints_pin_every_dependency_within_its_range(project: dict, pins: dict[str, str]):
    listed = project["project"]["dependencies"] + sum(
        (project["project"]["optional-dependencies"][k] for k in ("test", "dev")), []
    )
    for requirement in map(Requirement, listed):
        if requirement.name != "jsafe":
            version = pins.get(canonicalize_name(requirement.name))
            assert version is not None, f"constraints.txt does not pin {requirement.name}"
            assert requirement.specifier.contains(version), f"{requirement} excludes the pinned {version}"


def test_constraints_name_versions_and_no_addresses():
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        assert line.startswith("#") or re.fullmatch(r"[A-Za-z0-9_.-]+==[A-Za-z0-9_.!+-]+", line), line


def test_mujoco_and_mjx_are_of_the_same_release(pins: dict[str, str]):
    assert pins["mujoco"] == pins["mujoco-mjx"]
    assert metadata.version("mujoco") == metadata.version("mujoco-mjx")


def test_importing_changes_neither_environment_nor_backend_and_loads_no_other_framework():
    """NPROC and the platform are the program's to choose, so no import may have opened the backend before it."""
    program = f"""
import os, sys, importlib
before = dict(os.environ)
for name in {PACKAGES!r}:
    importlib.import_module(name)
changed = {{k for k in before.keys() | os.environ.keys() if before.get(k) != os.environ.get(k)}}
print(sorted(changed), sorted({{"torch", "tensorflow"}} & sys.modules.keys()))
import jax
jax.config.update("jax_num_cpu_devices", 2)  # raises once a backend is open
print(jax.device_count("cpu"))
"""
    assert in_a_fresh_process(program).split("\n")[-2:] == ["[] []", "2"]


def test_importing_prints_nothing():
    assert in_a_fresh_process("; ".join(f"import {name}" for name in PACKAGES)) == ""


def test_command_line_answers_help_before_it_imports_jax():
    program = """
import sys
sys.argv = ["jsafe", "--help"]
from experiments.cli.main import main
try:
    code = main()
except SystemExit as stop:
    code = stop.code
print("exit", code, "jax" in sys.modules)
"""
    help_text, _, end = in_a_fresh_process(program).rpartition("exit ")
    assert end == "0 False"
    assert all(command in help_text for command in ("train", "eval", "render", "envs", "throughput", "report"))

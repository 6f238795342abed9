"""The package as a user gets it: what is installed, and what importing it does to the process."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import jsafe
from tests.conftest import ROOT
from tests.support import compilation

PACKAGES = ("jsafe", "envs_mjx", "algorithms", "rlhf", "sketch", "experiments")
PINNED_SETS = {"constraints.txt": ("3.12", "3.13"), "constraints-oldest.txt": ("3.11",)}
"""Files of pinned versions and the Python versions that they are for."""


@pytest.fixture(scope="module")
def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


@pytest.fixture(scope="module", params=sorted(PINNED_SETS))
def pinned_set(request) -> str:
    """File name of a set of pinned versions."""
    return request.param


@pytest.fixture(scope="module")
def pins(pinned_set: str) -> dict[str, str]:
    lines = (line.split("#")[0].strip() for line in (ROOT / pinned_set).read_text().splitlines())
    return {canonicalize_name(name): version for name, version in (line.split("==") for line in lines if line)}


@pytest.fixture(scope="module")
def installed() -> None:
    """Skips where the sources are used without an installation; `make test` installs them."""
    try:
        metadata.distribution("jsafe")
    except metadata.PackageNotFoundError:
        pytest.skip("jsafe is not installed here (make setup)")


def requirements(distribution: str) -> list[Requirement]:
    """Requirements of an installed distribution without extras."""
    result = [Requirement(text) for text in metadata.requires(distribution) or []]
    return [r for r in result if r.marker is None or r.marker.evaluate({"extra": ""})]


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


def test_constraints_pin_every_dependency_within_its_range(project: dict, pins: dict[str, str], pinned_set: str):
    listed = project["project"]["dependencies"] + sum(
        (project["project"]["optional-dependencies"][k] for k in ("test", "dev")), []
    )
    for requirement in map(Requirement, listed):
        if requirement.name != "jsafe":
            version = pins.get(canonicalize_name(requirement.name))
            assert version is not None, f"{pinned_set} does not pin {requirement.name}"
            assert requirement.specifier.contains(version), f"{requirement} excludes the pinned {version}"


def test_constraints_name_versions_and_no_addresses(pinned_set: str):
    for line in (ROOT / pinned_set).read_text().splitlines():
        assert line.startswith("#") or re.fullmatch(r"[A-Za-z0-9_.-]+==[A-Za-z0-9_.!+-]+", line), line


def test_mujoco_and_mjx_are_of_the_same_release(pins: dict[str, str]):
    assert pins["mujoco"] == pins["mujoco-mjx"]
    assert metadata.version("mujoco") == metadata.version("mujoco-mjx")


def test_pinned_sets_cover_every_python_of_the_classifiers(project: dict):
    prefix = "Programming Language :: Python :: 3."
    declared = {f"3.{c.removeprefix(prefix)}" for c in project["project"]["classifiers"] if c.startswith(prefix)}
    assert declared == {version for versions in PINNED_SETS.values() for version in versions}


def _choice_of_make(*arguments: str, **environment: str) -> str:
    """Commands that `make setup` would run, as text."""
    command = ["make", "--dry-run", "--always-make", "setup", *arguments]
    outer = (
        "MAKEFLAGS",
        "MAKEOVERRIDES",
        "MFLAGS",
        "PYTHON",
        "VENV",
        "CONSTRAINTS",
    )  # of a `make test` around this test
    clean = {name: value for name, value in os.environ.items() if name not in outer} | environment
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=clean, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def only_python(tmp_path: Path) -> Path:
    """A folder for `PATH` with one Python that starts, as `python3`, and shims of others that do not."""
    for tool in ("sh", "sed", "expand", "rm", "cat", "make", "bash", "env"):
        if result := shutil.which(tool):
            (tmp_path / tool).symlink_to(result)
    for version in ("3.11", "3.12", "3.13"):
        shim = tmp_path / f"python{version}"
        shim.write_text("#!/bin/sh\necho not installed >&2\nexit 127\n")
        shim.chmod(0o755)
    (tmp_path / "python3").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (tmp_path / "python3").chmod(0o755)
    return tmp_path


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_make_takes_the_only_python_that_starts_and_the_versions_that_fit_it(only_python: Path):
    commands = _choice_of_make(PATH=str(only_python), HOME=str(only_python), PYENV_ROOT="")
    assert "python3 -m venv .venv" in commands
    expected = "constraints-oldest.txt" if sys.version_info < (3, 12) else "constraints.txt"
    assert f"--constraint {expected} " in commands


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_make_takes_the_python_and_the_versions_it_is_given():
    commands = _choice_of_make(f"PYTHON={sys.executable}", "CONSTRAINTS=constraints-oldest.txt", "VENV=.venv-oldest")
    assert f"{sys.executable} -m venv .venv-oldest" in commands
    assert "--constraint constraints-oldest.txt " in commands


def _make(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `make` without the settings of a `make test` around this test."""
    clean = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MAKEOVERRIDES", "MFLAGS", "PYTHON", "VENV")}
    command = ["make", "--file", str(ROOT / "Makefile"), "--no-print-directory", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=clean | environment, timeout=60)


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
@pytest.mark.parametrize("python", ["python3.13", "/nowhere/python"])
def test_a_python_that_does_not_start_is_named_in_one_line(only_python: Path, python: str):
    venv = f"VENV={only_python / 'fresh'}"
    done = _make("--directory", str(ROOT), "setup", f"PYTHON={python}", venv, PATH=str(only_python))
    ours = [line for line in done.stderr.splitlines() if not line.startswith("make")]
    assert done.returncode != 0 and not (only_python / "fresh").exists()
    assert ours == [f"{python} does not start. Install that Python, or choose another with make PYTHON=..."]


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_clean_removes_virtual_environments_only(tmp_path: Path):
    documents, venv = tmp_path / "documents", tmp_path / "env"
    for folder in (documents, venv):
        folder.mkdir()
    (venv / "pyvenv.cfg").touch()
    refused = _make("--directory", str(tmp_path), "clean", f"VENV={documents}")
    assert refused.returncode != 0 and "is not a virtual environment" in refused.stderr and documents.is_dir()
    for existing in (venv, tmp_path / "missing"):
        assert _make("--directory", str(tmp_path), "clean", f"VENV={existing}").returncode == 0
    assert not venv.exists() and documents.is_dir()


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_the_ci_script_fails_without_the_oldest_python_unless_that_is_wanted(tmp_path: Path):
    for tool in ("bash", "date", "dirname"):
        (tmp_path / tool).symlink_to(shutil.which(tool) or "")
    for name, code in {"python3.11": 127, "python3": 1, "make": 0}.items():
        (tmp_path / name).write_text(
            f"#!/bin/bash\necho {name} >> {tmp_path}/ran\nexit {code}\n".replace(
                "/bin/bash", shutil.which("bash") or ""
            )
        )
        (tmp_path / name).chmod(0o755)

    def run(**more: str) -> subprocess.CompletedProcess[str]:
        env = {"PATH": str(tmp_path), "HOME": str(tmp_path), **more}
        return subprocess.run([str(ROOT / ".ci" / "run")], capture_output=True, text=True, env=env, timeout=60)

    refused = run()
    assert refused.returncode != 0 and "JSAFE_CI_NEWEST_ONLY=1" in refused.stderr
    assert "make" not in (tmp_path / "ran").read_text().split()
    allowed = run(JSAFE_CI_NEWEST_ONLY="1")
    assert allowed.returncode == 0 and "oldest versions not tested" in allowed.stdout
    assert (tmp_path / "ran").read_text().split().count("make") == 3


def test_the_ci_script_runs_tests_that_exist():
    script = (ROOT / ".ci" / "run").read_text()
    paths = re.findall(r"tests/[\w/.]+\.py", script)
    assert paths and all((ROOT / path).is_file() for path in paths)


def test_this_jaxlib_starts_with_the_compilation_flags_of_the_tests():
    """An unknown flag ends the process before any message, so a child tries them."""
    flags = " ".join(compilation.known_flags(metadata.version("jaxlib")))
    program = f"import os; os.environ['XLA_FLAGS'] = {flags!r}; import jax; print(len(jax.local_devices()))"
    assert int(in_a_fresh_process(program)) >= 1


@pytest.mark.parametrize(
    ("jaxlib", "old_fusion"), [("0.10.2", True), ("0.11.0", True), ("0.11.1", False), ("0.12.0.1", False)]
)
def test_compilation_flags_are_set_only_where_jaxlib_knows_them(jaxlib: str, old_fusion: bool):
    assert ("--xla_cpu_use_fusion_emitters=false" in compilation.known_flags(jaxlib)) == old_fusion


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


@pytest.mark.parametrize("part", ["algorithms.constraints", "algorithms.transforms", "algorithms.spec"])
def test_parts_of_algorithms_load_no_family(part: str):
    loaded = f"import sys, {part}; print([m for m in sys.modules if m.startswith('algorithms.on_policy')])"
    assert in_a_fresh_process(loaded) == "[]"
    assert in_a_fresh_process("import algorithms; print(algorithms.resolve('PPOLag'), 'make' in dir(algorithms))") == (
        "ppo_lag True"
    )


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

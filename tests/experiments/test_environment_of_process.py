"""The command line works without a home folder, in an ASCII locale, and with unusual folder names."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.cli import main
from experiments.cli.argument_types import path
from jsafe import runtime
from tests.support.fakes import write_run

ROOT = Path(__file__).parents[2]


def test_a_report_in_an_ascii_locale_is_whole_and_in_utf8(tmp_path: Path):
    folder = write_run(tmp_path / "run")
    environment = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    words = [sys.executable, "-m", "experiments.cli.main", "report", str(folder), "--no-animation"]
    done = subprocess.run(words, env=environment, cwd=ROOT, capture_output=True)
    assert done.returncode == 0, done.stderr
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert page.rstrip().endswith("</html>") and "±" in page


def test_a_failed_report_leaves_the_earlier_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = write_run(tmp_path / "run")
    (folder / "report.html").write_text("earlier")
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    assert main.main(["report", str(folder), "--no-animation"]) == 2
    assert (folder / "report.html").read_text() == "earlier"


def test_compiled_programs_have_a_folder_without_a_home(monkeypatch: pytest.MonkeyPatch):
    def no_home(self):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", no_home)
    monkeypatch.setattr(Path, "home", lambda: no_home(None))
    for name in ("JSAFE_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert runtime.default_cache_dir().is_absolute()


def test_a_tilde_after_an_equals_sign_is_the_home_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert path("~/x") == tmp_path / "x"
    folder = write_run(tmp_path / "run")
    assert main.main(["report", "~/run", "--no-animation", "--out=~/page.html"]) == 0
    assert (tmp_path / "page.html").is_file() and (folder / "run.json").is_file()


def test_a_platform_without_a_device_is_refused_by_name():
    code = "from experiments.cli import devices; devices.configure()"
    environment = os.environ | {"JAX_PLATFORMS": "cuda", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([sys.executable, "-c", code], env=environment, cwd=ROOT, capture_output=True, text=True)
    assert done.stderr.splitlines()[-1].startswith("experiments.cli.errors.CommandError: JAX_PLATFORMS must name")

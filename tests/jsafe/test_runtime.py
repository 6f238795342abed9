"""Setting JAX up happens once, on request, and warns when it comes too late."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from jsafe import runtime

ROOT = Path(__file__).resolve().parents[2]


def run_fresh(code: str, **env: str) -> dict:
    """Run code in a new process with a clean environment; it prints one JSON object."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("JAX_", "XLA_", "NPROC", "JSAFE_"))}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**clean, "PYTHONPATH": str(ROOT), **env},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1]) | {"stderr": done.stderr}


def test_configure_guards_the_pool_sets_devices_and_keeps_programs(tmp_path: Path) -> None:
    result = run_fresh(
        """
import json, os
from jsafe import runtime
settings = runtime.configure("cpu", devices=3)
import jax
jax.block_until_ready(jax.jit(lambda x: x * 2 + 1)(3.0))
print(json.dumps({"nproc": int(os.environ["NPROC"]), "devices": len(jax.devices()), "threads": settings.threads,
    "cache": str(settings.cache_dir), "async": jax.config.read("jax_cpu_enable_async_dispatch"),
    "hardware": runtime.describe_hardware(), "versions": runtime.versions()}))
""",
        JSAFE_CACHE_DIR=str(tmp_path / "cache"),
    )
    assert result["nproc"] == result["threads"] >= max(8, runtime.usable_cores() + 1)
    assert result["devices"] == 3 and result["async"] is False
    assert result["cache"] == str(tmp_path / "cache")
    assert any((tmp_path / "cache").iterdir())
    assert result["hardware"]["platform"] == "cpu" and result["hardware"]["accelerator"] is None
    assert result["hardware"]["devices"] == 3 and result["hardware"]["memory_gib"] > 0
    assert result["versions"]["jax"] == jax.__version__ and "jsafe" in result["versions"]


def test_cache_that_cannot_be_written_costs_time_not_the_run(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    result = run_fresh(
        """
import json
from jsafe import runtime
print(json.dumps({"cache": runtime.configure(devices=1).cache_dir}))
""",
        JSAFE_CACHE_DIR=str(tmp_path / "file" / "cache"),
        NPROC="500",
    )
    assert result["cache"] is None
    assert "compiled programs are not kept" in result["stderr"]


def test_library_import_changes_no_setting_and_opens_no_backend() -> None:
    result = run_fresh(
        """
import json, os, sys
before = dict(os.environ)
import jsafe, jsafe.runtime, jsafe.population, jsafe.runs.telemetry, jsafe.runs.checkpoint
heavy = [m for m in ("orbax.checkpoint", "tensorboardX", "wandb", "tqdm", "mujoco", "matplotlib") if m in sys.modules]
print(json.dumps({"same": before == dict(os.environ), "open": jsafe.runtime.jax_is_initialized(), "heavy": heavy}))
"""
    )
    assert result["same"] and not result["open"] and result["heavy"] == []


def test_configure_after_jax_was_used_is_refused(key: jax.Array) -> None:
    jax.block_until_ready(key)
    with pytest.raises(RuntimeError, match="JAX has already been used in this process"):
        runtime.configure()


def test_unknown_platform_suggests_the_nearest() -> None:
    with pytest.raises(ValueError, match="unknown platform 'cdua'.*did you mean 'cuda'"):
        runtime.configure("cdua")
    with pytest.raises(ValueError, match="devices must be at least 1, got 0"):
        runtime.configure(devices=0)


def test_thread_guard_knows_a_pool_that_is_too_small(monkeypatch: pytest.MonkeyPatch) -> None:
    for value, safe in (("1", False), (str(runtime.usable_cores()), False), ("many", False), ("4096", True)):
        monkeypatch.setenv("NPROC", value)
        assert runtime.has_safe_threads() == safe
    monkeypatch.delenv("NPROC")
    assert not runtime.has_safe_threads()
    assert runtime.safe_thread_count(2) >= 8


def test_cache_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("JSAFE_CACHE_DIR", str(tmp_path))
    assert runtime.default_cache_dir() == tmp_path
    monkeypatch.delenv("JSAFE_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setattr(runtime.host, "system", lambda: "Linux")
    assert runtime.default_cache_dir() == tmp_path / "xdg" / "jsafe" / "xla"

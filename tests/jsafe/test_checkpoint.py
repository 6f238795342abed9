"""A checkpoint is there whole or not at all, and a damaged one is never believed."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jsafe.runs.checkpoint import CheckpointError, Checkpoints
from tests.support.toy_trainer import assert_same

ROOT = Path(__file__).resolve().parents[2]


def make_state(number: float = 1.0) -> dict[str, Any]:
    return {
        "params": {"policy": {"kernel": jnp.full((2, 3), float(number)), "half": jnp.ones(4, jnp.bfloat16)}},
        "empty": jnp.zeros((2, 0)),
        "key": jax.random.split(jax.random.key(int(number)), 2),
        "other_key": jax.random.key(0, impl="rbg"),
        "count": jnp.int32(7),
        "pair": (jnp.array([True, False]), np.float64(0.1) * np.ones(1)),
    }


def biggest_file(folder: Path) -> Path:
    return max((p for p in (folder / "arrays").rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)


def test_state_comes_back_to_the_last_bit_with_its_keys(tmp_path: Path) -> None:
    store = Checkpoints(tmp_path)
    state = make_state()
    store.save(4, state, extra={"note": "x"})
    result = store.restore(jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), state))
    assert_same(result.state, state)
    assert (result.iteration, result.extra, result.damaged) == (4, {"note": "x"}, ())
    draw = jax.random.normal(result.state["other_key"], (3,))
    assert np.array_equal(draw, jax.random.normal(state["other_key"], (3,)))


def test_only_the_newest_are_kept(tmp_path: Path) -> None:
    store = Checkpoints(tmp_path, keep=2)
    for i in (1, 5, 10, 12):
        store.save(i, make_state(i))
    assert store.iterations() == [10, 12]
    assert store.restore(make_state(), iteration=10).state["params"]["policy"]["kernel"][0, 0] == 10
    with pytest.raises(CheckpointError, match=r"no checkpoint of iteration 5.*\[10, 12\]"):
        store.restore(make_state(), iteration=5)


@pytest.mark.parametrize("damage", ["truncate", "flip", "delete", "manifest"])
def test_damaged_checkpoint_is_named_and_the_previous_one_used(tmp_path: Path, damage: str) -> None:
    store = Checkpoints(tmp_path)
    store.save(1, make_state(1))
    store.save(2, make_state(2))
    victim = biggest_file(store.path(2))
    if damage == "truncate":
        os.truncate(victim, victim.stat().st_size // 2)
    elif damage == "flip":
        content = bytearray(victim.read_bytes())
        content[len(content) // 2] ^= 1
        victim.write_bytes(content)
    elif damage == "delete":
        victim.unlink()
    else:
        victim = store.path(2) / "manifest.json"
        victim.write_text(victim.read_text().replace('"count"', '"cound"'))
    with pytest.warns(UserWarning, match=rf"damaged checkpoint.*checkpoints/2.*{victim.name}"):
        result = store.restore(make_state())
    assert (result.iteration, result.damaged) == (1, (2,))
    assert_same(result.state, make_state(1))


def test_no_good_checkpoint_is_a_clear_error(tmp_path: Path) -> None:
    store = Checkpoints(tmp_path)
    with pytest.raises(CheckpointError, match="no checkpoint in"):
        store.restore(make_state())
    store.save(3, make_state())
    (store.path(3) / "manifest.json").unlink()
    with pytest.raises(CheckpointError, match=r"(?s)no good checkpoint.*checkpoints/3: manifest.json is missing"):
        store.restore(make_state())


def test_state_of_another_shape_or_kind_is_refused_by_name(tmp_path: Path) -> None:
    store = Checkpoints(tmp_path)
    store.save(1, make_state())
    wider = make_state() | {"count": jnp.zeros(3, jnp.int32)}
    with pytest.raises(CheckpointError, match=r"count is int32\[\], expected int32\[3\]"):
        store.restore(wider)
    with pytest.raises(CheckpointError, match="it lacks .*'replay'"):
        store.restore(make_state() | {"replay": jnp.zeros(1)})
    fewer = make_state()
    del fewer["count"]
    with pytest.raises(CheckpointError, match="it also has .*'count'"):
        store.restore(fewer)


def test_part_of_a_state_can_be_read_alone_and_without_a_template(tmp_path: Path) -> None:
    store = Checkpoints(tmp_path)
    store.save(1, make_state())
    part = {"params": make_state()["params"]}
    assert_same(store.restore(part, parts=("params.policy",)).state, part)
    arrays = store.restore_arrays(parts=("params",)).state
    assert sorted(arrays) == ["params.policy.half", "params.policy.kernel"]
    everything = store.restore_arrays().state
    assert everything["empty"].shape == (2, 0)
    assert everything["count"] == 7


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_failing_write_leaves_earlier_checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    store = Checkpoints(tmp_path)
    store.save(1, make_state(1))
    before = sorted(tmp_path.rglob("*"))

    def refuse(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refuse)
        with pytest.raises(CheckpointError, match=r"checkpoints/2: the disk is full.*\[1\] stay.*[Ff]ree some space"):
            store.save(2, make_state(2))
    assert sorted(tmp_path.rglob("*")) == before
    assert store.restore(make_state()).iteration == 1


def test_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CheckpointError, match="file/checkpoints/1: Not a directory.*another run folder"):
        Checkpoints(tmp_path / "file").save(1, make_state())


def test_interrupted_write_is_not_taken_for_a_checkpoint(tmp_path: Path) -> None:
    store = Checkpoints(tmp_path)
    store.save(1, make_state())
    shutil.copytree(store.path(1), store.folder / ".unfinished-2-abc")
    assert store.iterations() == [1]
    store.save(3, make_state())
    assert not list(store.folder.glob(".unfinished*"))


FULL_DISK = """
import json, sys
import jax.numpy as jnp
from jsafe.runs.checkpoint import CheckpointError, Checkpoints
store = Checkpoints(sys.argv[1])
store.save(1, {"x": jnp.zeros(1000)})
try:
    import numpy as np
    store.save(2, {"x": np.random.default_rng(0).random(400_000)})
except CheckpointError as error:
    found = store.restore({"x": jnp.zeros(1000)})
    print(json.dumps([str(error), store.iterations(), found.iteration]))
"""


def test_really_full_disk_is_reported_and_loses_nothing(tmp_path: Path) -> None:
    """On a file system of two megabytes, where the system allows one to be mounted."""
    small = tmp_path / "small"
    small.mkdir()
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(FULL_DISK))
    mount = f"mount -t tmpfs -o size=2m tmpfs {small} || exit 77; exec {sys.executable} {script} {small}"
    if shutil.which("unshare") is None:
        pytest.skip("needs unshare to mount a small file system")
    done = subprocess.run(
        ["unshare", "-Urm", "sh", "-c", mount],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip("mounting a small file system is not allowed here")
    assert done.returncode == 0, done.stderr[-2000:]
    assert "Traceback" not in done.stderr and "ERROR" not in done.stderr, done.stderr[-2000:]
    message, kept, restored = json.loads(done.stdout.splitlines()[-1])
    assert "the disk is full" in message
    assert kept == [1] and restored == 1

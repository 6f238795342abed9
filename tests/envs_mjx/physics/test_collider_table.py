"""The compiled box-box collider against contacts that MuJoCo 3.3.7 reported."""

from __future__ import annotations

import ctypes
import shutil
from pathlib import Path

import mujoco
import numpy as np
import pytest

from envs_mjx.physics import collider_table
from tests.support.collision_pairs import MODEL

RECORDED = Path(__file__).with_name("box_contacts_337.npz")
"""`pairs [n, 30]` as `contacts_of` takes them, `counts [n]`, and `contacts [sum of counts, 7]`: distance, position and
normal."""

CANDIDATES = 16

needs_compiler = pytest.mark.skipif(not any(map(shutil.which, ("cc", "gcc", "clang"))), reason="needs a C compiler")


@needs_compiler
def test_boxes_touch_as_recorded(tmp_path: Path):
    library = ctypes.CDLL(str(collider_table.compile_source(tmp_path)))
    library.contacts_of.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
    with np.load(RECORDED) as data:
        pairs, counts, contacts = data["pairs"], data["counts"], data["contacts"]
    assert len(pairs) > 100 and set(counts) >= {0, 1, 2, 4}
    ends = np.cumsum(counts)
    for pair, count, end in zip(pairs, counts, ends, strict=True):
        out = np.zeros((CANDIDATES, 7))
        assert library.contacts_of(pair.ctypes.data, out.ctypes.data) == count
        ours, theirs = out[:count], contacts[end - count : end]
        match = np.linalg.norm(ours[:, None, 1:4] - theirs[None, :, 1:4], axis=-1).argmin(axis=1) if count else []
        assert sorted(match) == list(range(count))
        np.testing.assert_allclose(ours, theirs[match], atol=1e-10)


@needs_compiler
def test_the_library_is_compiled_once(tmp_path: Path, monkeypatch):
    first = collider_table.compile_source(tmp_path)
    monkeypatch.setattr(collider_table.subprocess, "run", lambda *_, **__: pytest.fail("compiled a second time"))
    assert collider_table.compile_source(tmp_path) == first


def _in_mujoco(mark: str, pairs: np.ndarray) -> list[np.ndarray]:
    """Distances of the contacts of every pair in the installed MuJoCo, in a model with or without the mark."""
    model = mujoco.MjModel.from_xml_string(MODEL.format(mark, "", "box", "box"))
    data = mujoco.MjData(model)
    found = []
    for pair in pairs:
        model.geom_size[:] = pair[24:].reshape(2, 3)
        model.geom_rbound[:], model.geom_aabb[:, 3:] = 1.0, 1.0  # hides nothing
        for i, at in enumerate((data.qpos[:7], data.qpos[7:])):
            at[:3] = pair[3 * i : 3 * i + 3]
            mujoco.mju_mat2Quat(at[3:], pair[6 + 9 * i : 15 + 9 * i])
        mujoco.mj_fwdPosition(model, data)
        found.append(np.sort(data.contact.dist))
    return found


def _equal(some: list[np.ndarray], others: list[np.ndarray]) -> float:
    """Share of pairs with the same distances."""
    return float(
        np.mean([len(a) == len(b) and np.allclose(a, b, atol=1e-9) for a, b in zip(some, others, strict=True)])
    )


@needs_compiler
def test_marked_models_touch_as_recorded_and_others_as_mujoco_has_it():
    with np.load(RECORDED) as data:
        pairs, ends, contacts = data["pairs"], np.cumsum(data["counts"]), data["contacts"]
    recorded = [np.sort(c[:, 0]) for c in np.split(contacts, ends[:-1])]
    before = _in_mujoco("", pairs)
    assert collider_table.install()
    assert _equal(_in_mujoco(collider_table.MARK, pairs), recorded) == 1
    unmarked = _in_mujoco("", pairs)
    assert _equal(unmarked, before) == 1
    if not collider_table.is_native():
        assert _equal(unmarked, recorded) < 0.9


def test_without_a_compiler_the_engine_is_named(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(collider_table, "is_native", lambda: False)
    monkeypatch.setattr(collider_table.shutil, "which", lambda _: None)
    monkeypatch.setattr(collider_table.runtime, "default_cache_dir", lambda: tmp_path)
    collider_table.install.cache_clear()
    try:
        with pytest.warns(UserWarning, match="no C compiler found"):
            assert collider_table.describe() == f"MuJoCo {mujoco.__version__}, box contacts of {mujoco.__version__}"
    finally:
        collider_table.install.cache_clear()

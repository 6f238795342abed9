"""The compiled colliders against contacts that MuJoCo 3.3.7 reported."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path

import mujoco
import numpy as np
import pytest

from envs_mjx.physics import collider_table
from tests.support.collision_pairs import MODEL

RECORDED = Path(__file__).with_name("contacts_337.npz")
"""By kind of pair: `pairs [n, 30]` as `contacts_of` takes them, `counts [n]`, and `contacts [sum of counts, 7]`:
distance, position and normal."""

KINDS = ("box-box", "cylinder-box", "cylinder-cylinder", "capsule-cylinder")
GEOMS = {name: int(getattr(mujoco.mjtGeom, f"mjGEOM_{name.upper()}")) for name in ("box", "cylinder", "capsule")}
MAX_CONTACTS = 16

needs_compiler = pytest.mark.skipif(not any(map(shutil.which, ("cc", "gcc", "clang"))), reason="needs a C compiler")


def _recorded(kind: str) -> tuple[np.ndarray, list[np.ndarray]]:
    """Pairs and the contacts of each."""
    with np.load(RECORDED) as data:
        counts, contacts = data[f"{kind} counts"], data[f"{kind} contacts"]
        return data[f"{kind} pairs"], np.split(contacts, np.cumsum(counts)[:-1])


@needs_compiler
@pytest.mark.parametrize("kind", KINDS)
def test_shapes_touch_as_recorded(kind: str, tmp_path: Path):
    library = ctypes.CDLL(str(collider_table.compile_source(tmp_path)))
    library.contacts_of.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]
    first, second = (GEOMS[name] for name in kind.split("-"))
    pairs, contacts = _recorded(kind)
    assert len(pairs) >= 100 and {0, 1} <= {len(c) for c in contacts}
    for pair, theirs in zip(pairs, contacts, strict=True):
        out = np.zeros((MAX_CONTACTS, 7))
        ours = out[: library.contacts_of(first, second, pair.ctypes.data, out.ctypes.data)]
        assert len(ours) == len(theirs)
        match = np.linalg.norm(ours[:, None, 1:4] - theirs[None, :, 1:4], axis=-1).argmin(axis=1) if len(ours) else []
        assert sorted(match) == list(range(len(theirs)))
        np.testing.assert_allclose(ours, theirs[match], atol=1e-9)


@needs_compiler
def test_the_library_is_compiled_once(tmp_path: Path, monkeypatch):
    first = collider_table.compile_source(tmp_path)
    monkeypatch.setattr(collider_table.subprocess, "run", lambda *_, **__: pytest.fail("compiled a second time"))
    assert collider_table.compile_source(tmp_path) == first


def _in_mujoco(kind: str, mark: str, pairs: np.ndarray) -> list[np.ndarray]:
    """Distances of the contacts of every pair in the installed MuJoCo, in a model with or without the mark."""
    model = mujoco.MjModel.from_xml_string(MODEL.format(mark, "", *kind.split("-")))
    data = mujoco.MjData(model)
    distances = []
    for pair in pairs:
        model.geom_size[:] = pair[24:].reshape(2, 3)
        model.geom_rbound[:], model.geom_aabb[:, 3:] = 1.0, 1.0  # hides nothing
        for i, at in enumerate((data.qpos[:7], data.qpos[7:])):
            at[:3] = pair[3 * i : 3 * i + 3]
            mujoco.mju_mat2Quat(at[3:], pair[6 + 9 * i : 15 + 9 * i])
        mujoco.mj_fwdPosition(model, data)
        distances.append(np.sort(data.contact.dist))
    return distances


def _equal(some: list[np.ndarray], others: list[np.ndarray]) -> float:
    """Share of pairs with the same distances."""
    return float(
        np.mean([len(a) == len(b) and np.allclose(a, b, atol=1e-7) for a, b in zip(some, others, strict=True)])
    )


@needs_compiler
@pytest.mark.parametrize("kind", KINDS)
def test_marked_models_touch_as_recorded_and_others_as_mujoco_has_it(kind: str):
    pairs, contacts = _recorded(kind)
    recorded = [np.sort(c[:, 0]) for c in contacts]
    before = _in_mujoco(kind, "", pairs)
    assert collider_table.install()
    assert _equal(_in_mujoco(kind, collider_table.MARK, pairs), recorded) >= 0.9  # rounding decides ties of a search
    assert _equal(_in_mujoco(kind, "", pairs), before) == 1


@needs_compiler
def test_the_compiler_of_ziglang_is_enough(tmp_path: Path, monkeypatch):
    """A package of that name passes its arguments to the system's compiler."""
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))))
    (tmp_path / "ziglang").mkdir()
    (tmp_path / "ziglang" / "__init__.py").touch()
    (tmp_path / "ziglang" / "__main__.py").write_text(
        "import subprocess, sys\nassert sys.argv[1] == 'cc'\n"
        f"sys.exit(subprocess.call([{compiler!r}, *sys.argv[2:]]))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(collider_table.shutil, "which", lambda _: None)
    assert ctypes.CDLL(str(collider_table.compile_source(tmp_path))).install


@pytest.mark.parametrize("symbol", ["mjCOLLISIONFUNC", "mjcb_control"])
@needs_compiler
def test_an_engine_without_a_symbol_is_refused_by_its_name(symbol: str, tmp_path: Path, monkeypatch):
    """A library of its own stands for an engine that exports only the other symbol."""
    (tmp_path / "engine.c").write_text(f"void* {({'mjCOLLISIONFUNC', 'mjcb_control'} - {symbol}).pop()};\n")
    command = ["cc", "-shared", "-fPIC", str(tmp_path / "engine.c"), "-o", str(tmp_path / "engine.so")]
    subprocess.run(command, check=True)
    monkeypatch.setattr(collider_table, "is_native", lambda: False)
    monkeypatch.setattr(collider_table, "_engine_library", lambda: tmp_path / "engine.so")
    collider_table.install.cache_clear()
    try:
        with pytest.warns(UserWarning, match=f"undefined symbol: {symbol}"):
            assert not collider_table.install()
    finally:
        collider_table.install.cache_clear()


def test_without_a_compiler_the_engine_is_named(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(collider_table, "is_native", lambda: False)
    monkeypatch.setattr(collider_table.shutil, "which", lambda _: None)
    monkeypatch.setattr(collider_table.importlib.util, "find_spec", lambda _: None)
    monkeypatch.setattr(collider_table.runtime, "default_cache_dir", lambda: tmp_path)
    collider_table.install.cache_clear()
    try:
        with pytest.warns(UserWarning, match="no C compiler found"):
            assert collider_table.describe() == f"MuJoCo {mujoco.__version__}, colliders of {mujoco.__version__}"
    finally:
        collider_table.install.cache_clear()

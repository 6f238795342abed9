"""Names of MJX that are used or replaced without being exported."""

from __future__ import annotations

import ast
import dataclasses
import enum
import importlib
import inspect
import re
from pathlib import Path

import numpy as np
import pytest
from mujoco import mjx

from envs_mjx.navigation.levels import configs
from envs_mjx.navigation.world import World
from envs_mjx.physics import mjx as package
from envs_mjx.physics.mjx import internals
from envs_mjx.physics.mjx import solver as faithful
from envs_mjx.physics.mjx.mjx_backend import reserved_by_warp

SOURCES = sorted(Path(package.__file__).parent.rglob("*.py"))


def _remove(path: str, monkeypatch):
    """Remove a name from MJX: an attribute, a member of an enumeration or a field of a dataclass."""
    module, *names, last = path.split(".")
    owner = place = importlib.import_module(f"mujoco.mjx._src.{module}")
    for name in names:
        place, owner = owner, getattr(owner, name)
    if last in getattr(owner, "__dataclass_fields__", ()):
        monkeypatch.delitem(owner.__dataclass_fields__, last)
    elif isinstance(owner, enum.EnumType):  # its members cannot be deleted
        members = {name: member.value for name, member in owner.__members__.items() if name != last}
        monkeypatch.setattr(place, names[-1], enum.IntEnum(names[-1], members))
    else:
        monkeypatch.delattr(owner, last)


@pytest.mark.parametrize("path", internals.USED)
def test_a_release_without_a_name_is_refused_by_that_name(path: str, monkeypatch):
    internals.check_release()
    _remove(path, monkeypatch)
    with pytest.raises(RuntimeError, match=rf"mujoco\.mjx\._src\.{re.escape(path)}[, ]") as error:
        internals.check_release()
    assert internals.SUPPORTED in str(error.value)


def test_a_release_without_a_module_is_refused_by_its_names(monkeypatch):
    monkeypatch.setattr(internals, "_PACKAGE", "mujoco.mjx.moved")
    with pytest.raises(RuntimeError, match="moved.collision_driver._COLLISION_FUNC, .*moved.types.Contact.geom"):
        internals.check_release()


def test_the_release_is_checked_at_every_trace(monkeypatch):
    monkeypatch.delattr(internals.solver.Context, "create")
    with pytest.raises(RuntimeError, match=r"solver\.Context\.create"), faithful.tracing():
        pass


def test_only_one_module_imports_private_parts_of_mjx():
    """Names that bypass `internals` would be used without being checked."""
    importing = {
        file.name
        for file in SOURCES
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("mujoco.mjx._src")
    }
    assert importing == {"internals.py"}


def test_every_private_field_that_is_read_is_checked():
    """Attributes of `_impl` and of the solver's `Context` in the sources are among the checked names."""
    types = importlib.import_module("mujoco.mjx._src.types")
    private, public = (
        {f.name for owner in owners for f in dataclasses.fields(owner)}
        for owners in ((types.DataJAX, types.Contact, internals.solver.Context), (mjx.Data, mjx.Model))
    )
    trees = [ast.parse(file.read_text()) for file in SOURCES]
    read = {node.attr for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    checked = {path.rpartition(".")[2] for path in internals.USED}
    ours = {"pos", "ncon"}  # of `Geom`, and of functions in the table of colliders
    used = (read & private) - public - ours
    assert {"grad", "efc_D", "dist"} <= used <= checked


def test_warp_is_passed_limits_that_this_release_has():
    assert set(reserved_by_warp()) <= set(inspect.signature(mjx.make_data).parameters)


@pytest.mark.parametrize("env_id", [env_id for env_id, config in configs().items() if config.of_kind("fixture")])
def test_bodies_that_no_joint_moves_never_touch_each_other(env_id: str):
    """Since MuJoCo 3.12 a mocap body is its own weld group; before, such pairs were excluded whatever their masks."""
    m = World(configs()[env_id]).build().model
    fixed = np.flatnonzero(m.body_dofnum[m.body_rootid[m.geom_bodyid]] == 0)
    shows, feels = m.geom_contype[fixed], m.geom_conaffinity[fixed]
    assert len(fixed) > 1
    assert not np.any(shows[:, None] & feels[None])

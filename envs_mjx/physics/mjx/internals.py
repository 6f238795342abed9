"""The parts of MJX that it does not export and that are used or replaced here, checked by name.

Every other module takes them from here, so a release that lacks one is refused before anything is computed.
"""

from __future__ import annotations

import contextlib
import importlib
import io
from typing import Any

import mujoco

SUPPORTED = "3.3.7 to 3.17"
"""Releases of MuJoCo and MJX in which the names were checked."""

_PACKAGE = "mujoco.mjx._src"
_ABSENT = object()

USED = (
    "collision_driver._COLLISION_FUNC",
    "dataclasses.PyTreeNode.tree_replace",
    "forward.solver.solve",  # looked up in the module at every trace, which is why it can be replaced
    "math.make_frame",
    *(f"solver.{name}" for name in ("solve", "Context.create")),
    *(f"solver.Context.{field}" for field in ("grad", "Mgrad", "qfrc_constraint", "efc_force")),
    *(f"types.GeomType.{shape}" for shape in ("PLANE", "CAPSULE", "CYLINDER", "BOX")),
    "types.Data._impl",
    *(f"types.DataJAX.{field}" for field in ("contact", "efc_D", "efc_force", "qLD")),
    *(f"types.Contact.{field}" for field in ("dist", "geom")),
)
"""Module, and name of a function, class, field or member in it."""


def check_release() -> None:
    """Refuse a release of MJX without the parts that are used or replaced here.

    Raises:
        RuntimeError: with their names.
    """
    missing = [f"{_PACKAGE}.{name}" for name in USED if not _exists(name)]
    if missing:
        raise RuntimeError(
            f"physics 'mjx' needs {', '.join(missing)}, which mujoco-mjx {mujoco.__version__} does not have. "
            f"Install a release from {SUPPORTED}, or use physics='mujoco'."
        )


def _exists(path: str) -> bool:
    """Test for a name. Fields of dataclasses without a default are no attributes of their class."""
    module, *names = path.split(".")
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # MJX prints that its optional Warp backend is missing
            owner: Any = importlib.import_module(f"{_PACKAGE}.{module}")
    except ImportError:
        return False
    for name in names:
        if name in getattr(owner, "__dataclass_fields__", ()):
            return True
        owner = getattr(owner, name, _ABSENT)
    return owner is not _ABSENT


check_release()

with contextlib.redirect_stdout(io.StringIO()):
    import mujoco.mjx as mjx  # noqa: E402
    from mujoco.mjx._src import collision_driver, solver  # noqa: E402
    from mujoco.mjx._src.math import make_frame  # noqa: E402
    from mujoco.mjx._src.types import GeomType  # noqa: E402

__all__ = ["SUPPORTED", "USED", "GeomType", "check_release", "collision_driver", "make_frame", "mjx", "solver"]

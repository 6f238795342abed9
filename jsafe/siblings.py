"""The packages that are installed next to this one, whatever else of the same name is on the path.

Their names (`algorithms`, `sketch`, ...) are common words: a folder of a user may have one of them too, and Python
takes the first that it finds.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[1]
"""Folder that holds the packages."""

PACKAGES = ("algorithms", "envs_mjx", "experiments", "rlhf", "sketch")

ALIASES = {"algorithms": "algorithms", "envs": "envs_mjx", "rlhf": "rlhf", "sketch": "sketch"}
"""Attribute of `jsafe` to the package behind it."""


def load(name: str) -> ModuleType:
    """Import a package of this installation.

    Raises:
        ImportError: a module of that name from another place has been imported already.
    """
    module = sys.modules.get(name)
    if module is None:
        spec = PathFinder.find_spec(name, [str(ROOT)])
        if spec is None or spec.loader is None:
            raise ImportError(f"the installation of jsafe at {ROOT} has no package {name!r}; install jsafe again")
        module = sys.modules[name] = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
    elif not _is_ours(module):
        raise ImportError(
            f"the package {name!r} of jsafe cannot be imported, because {_place(module)} has the same name and was "
            "imported first. Rename that folder or file"
        )
    return module


def put_first() -> None:
    """Make this installation come first on the path if anything before it has the name of one of its packages.

    For programs of their own, such as the command line; processes that they start inherit the path.
    """
    for name in PACKAGES:
        spec = PathFinder.find_spec(name)
        places = list(spec.submodule_search_locations or [spec.origin]) if spec is not None else []
        if not any(place and ROOT in Path(place).resolve().parents for place in places[:1]):
            sys.path.insert(0, str(ROOT))
            importlib.invalidate_caches()
            return


def _is_ours(module: ModuleType) -> bool:
    return ROOT in Path(_place(module)).resolve().parents


def _place(module: ModuleType) -> str:
    """Return the folder of a package, or the file of a module."""
    folders = list(getattr(module, "__path__", []))
    return folders[0] if folders else str(getattr(module, "__file__", module.__name__))

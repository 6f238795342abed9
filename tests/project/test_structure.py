"""The layout of the sources: every file is found by its name, and no folder or module grows without bound."""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path

import pytest

from tests.conftest import ROOT

LIBRARIES = ("jsafe", "envs_mjx", "algorithms", "rlhf", "sketch", "experiments")


def modules(folder: str) -> list[Path]:
    """Modules below a top-level folder, without the `__init__.py` and `__main__.py` of packages."""
    return [path for path in sorted((ROOT / folder).rglob("*.py")) if not path.stem.startswith("__")]


@pytest.mark.parametrize("folder", LIBRARIES)
def test_no_two_modules_below_a_top_level_folder_have_the_same_name(folder: str):
    places = defaultdict(list)
    for path in modules(folder):
        places[path.name].append(str(path.relative_to(ROOT)))
    assert not [same for same in places.values() if len(same) > 1]


@pytest.mark.parametrize("folder", (*LIBRARIES, "tests"))
def test_no_module_shadows_the_standard_library(folder: str):
    assert not [str(path) for path in modules(folder) if path.stem in sys.stdlib_module_names]


@pytest.mark.parametrize("folder", LIBRARIES)
def test_folders_are_at_most_three_deep_and_modules_at_most_400_lines_long(folder: str):
    for path in modules(folder):
        assert len(path.relative_to(ROOT).parts) <= 5, path
        assert len(path.read_text().splitlines()) <= 400, path

"""Fixtures of the tests of environments."""

import pytest


@pytest.fixture(scope="module", autouse=True)
def compiled_quickly():
    """The physics of many steps takes longer than its compilation, so it is optimised as always."""

"""Fixtures of the parity tests."""

import pytest


@pytest.fixture(scope="module", autouse=True)
def compiled_quickly():
    """The physics of whole recordings takes longer than its compilation, so it is optimised as always."""

"""What the tests of drawings share."""

import jax
import pytest


@pytest.fixture(scope="module", autouse=True)
def compiled_quickly():
    """Most of the time of these tests is compilation, and none of them is about speed."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)

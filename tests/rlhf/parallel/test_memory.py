"""Memory estimates: parameters are exact, the rest is close to the figures of the compiler."""

import jax
import numpy as np
import pytest

from rlhf.data.encoding import Supervised
from rlhf.models import LanguageModel, ModelConfig
from rlhf.parallel import memory
from rlhf.training import objectives
from tests.support.random_models import params_of

CONFIG = ModelConfig(
    vocab_size=500, hidden_size=64, intermediate_size=192, num_layers=3, num_heads=4, num_kv_heads=4, head_dim=16
)
ROWS, LENGTH = 8, 96


@pytest.fixture(scope="module")
def params():
    return params_of(LanguageModel(CONFIG))


def test_bytes_of_the_parameters_are_exact(params):
    parts = memory.supervised(CONFIG, ROWS, LENGTH)
    assert parts["parameters"] == parts["gradients"] == sum(leaf.nbytes for leaf in jax.tree.leaves(params))
    assert parts["moments"] == 2 * parts["parameters"]


def test_activations_are_within_a_factor_of_what_the_compiler_sets_aside(params):
    loss = objectives.supervised(LanguageModel(CONFIG))
    ids = np.zeros((ROWS, LENGTH), np.int32)
    batch = Supervised(ids, ids, np.ones(ids.shape, bool))
    gradient = jax.jit(jax.grad(lambda p, b: loss(p, b).loss))
    actual = gradient.lower(params, batch).compile().memory_analysis().temp_size_in_bytes
    output = memory.supervised(CONFIG, ROWS, LENGTH)["activations"]
    assert 1 / 3 < output / actual < 3


def test_a_line_contains_the_sum():
    assert memory.describe({"a": 1500, "b": 2_000_000}) == "needs about 2 MB of memory (a 1.5 kB, b 2 MB)"

"""The worked example of docs/algorithms.md: a new multiplier is one file and one row."""

import importlib
import re
import sys
import types
from pathlib import Path

import jax
import numpy as np
import pytest

import algorithms
import jsafe
from algorithms import constraints
from tests.support.toy_envs import Lever

# `algorithms.on_policy.catalogue` is the mapping of the family, which hides the module of the same name.
catalogue = importlib.import_module("algorithms.on_policy.catalogue")
PAGE = Path(__file__).parents[2] / "docs" / "algorithms.md"


@pytest.fixture
def bang_bang(monkeypatch):
    """Run the module of the page, the import it asks for, and put the row of the page into the table."""
    source, importing, row = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    module = types.ModuleType("algorithms.constraints.bang_bang")
    exec(compile(source, str(PAGE), "exec"), vars(module))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(constraints, "bang_bang", module, raising=False)
    namespace = dict(vars(catalogue))
    exec(importing, namespace)
    rows = eval("{" + row.replace("\n    ", "\n") + "}", namespace)
    for name, value in rows.items():
        monkeypatch.setitem(catalogue.CATALOGUE, name, value)
    return next(iter(rows))


def test_the_example_trains_with_one_multiplier_for_each_limit(bang_bang):
    small = {"num_envs": 4, "steps_per_iteration": 80, "minibatch_size": 20, "passes": 1, "hidden_sizes": (8,)}
    trainer = algorithms.make(bang_bang, Lever(), cost_limit=(0.0, 100.0), multiplier_step=0.25, **small)
    _, metrics = jax.jit(lambda k: jsafe.run(trainer, k, 3))(jax.random.key(0))
    np.testing.assert_allclose(metrics["multiplier_wear"], [0.25, 0.5, 0.75])
    np.testing.assert_allclose(metrics["multiplier_noise"], 0.0)
    assert "multiplier_step" in {option["name"] for option in algorithms.describe("PPOBangBang")["options"]}

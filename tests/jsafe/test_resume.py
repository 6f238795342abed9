"""Frozen parameters are in no checkpoint, and a resumed run has them again bit for bit."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jsafe
from jsafe.runs import resume
from jsafe.runs.checkpoint import CheckpointError, Checkpoints
from tests.support.toy_trainer import assert_same, make_tiny


def make_anchored(weight: float = 1.0) -> jsafe.Trainer:
    """The tiny trainer, pulled towards frozen weights that depend on the key."""
    tiny = make_tiny()

    def init(key: jax.Array, hyper=None) -> jsafe.TrainState:
        anchor = {"anchor": weight * jax.random.normal(key, (4000,)), "half": jnp.ones((), jnp.bfloat16)}
        return tiny.init(key, hyper).replace(frozen=anchor)

    def step(state: jsafe.TrainState):
        pulled = jax.tree.map(lambda p: 0.99 * p + 0.01 * jnp.mean(state.frozen["anchor"]), state.params)
        return tiny.step(state.replace(params=pulled))

    return jsafe.Trainer(init, step, tiny.info)


def fit(folder: Path, trainer: jsafe.Trainer, **more):
    return jsafe.fit(trainer, run_dir=folder, sinks=(), progress=False, **more)


def test_frozen_weights_are_in_no_checkpoint_and_come_back(tmp_path: Path) -> None:
    whole = fit(tmp_path / "whole", make_anchored(), seeds=2, seed=3, iterations=8)
    part = fit(tmp_path / "part", make_anchored(), seeds=2, seed=3, iterations=5)
    stored = Checkpoints(tmp_path / "part").restore_arrays().state
    assert "params.policy.log_std" in stored and not [name for name in stored if name.startswith("frozen")]
    went_on = fit(tmp_path / "part", make_anchored(), iterations=8, resume=True)
    assert_same(went_on.state, whole.state)
    assert_same(went_on.state.frozen, part.state.frozen)
    assert not np.array_equal(*np.asarray(went_on.state.frozen["anchor"]))  # each member its own
    np.testing.assert_array_equal(went_on.metrics["return"], whole.metrics["return"])


def test_a_run_whose_frozen_weights_have_changed_is_refused(tmp_path: Path) -> None:
    fit(tmp_path, make_anchored(), iterations=2)
    with pytest.raises(CheckpointError, match="checkpoints/2 was made with other frozen weights"):
        fit(tmp_path, make_anchored(weight=1.001), iterations=3, resume=True)


def test_a_digest_knows_names_types_and_the_last_bit() -> None:
    tree = {"a": np.arange(3, dtype=np.float32)}
    others = [
        {"b": tree["a"]},
        {"a": tree["a"].view(np.int32)},
        {"a": tree["a"][:, None]},
        {"a": np.nextafter(tree["a"], 9, dtype=np.float32)},
    ]
    assert len({resume.digest(t) for t in (tree, *others)}) == 5
    assert resume.digest(()) is None and resume.digest({}) is None

"""Building blocks of supervised trainers against direct computations."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jsafe import supervised
from jsafe.config import Config, hyperparameters, option
from jsafe.supervised import LossOutput

X = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
Y = np.arange(6, dtype=np.float32)
PARAMS = {"w": jnp.ones(3)}


def squares(params, batch):
    error = batch["x"] @ params["w"] - batch["y"]
    return LossOutput(jnp.mean(error**2), {"largest": jnp.max(jnp.abs(error))}, error[:, None])


def test_each_epoch_visits_rows_once_in_a_new_order_and_drops_the_incomplete_batch():
    key = jax.random.key(1)
    epochs = [
        np.concatenate([supervised.epoch_rows(key, jnp.int32(u), 7, 2) for u in range(start, start + 3)])
        for start in (0, 3)
    ]
    for rows in epochs:
        assert len(set(rows.tolist())) == 6 and set(rows.tolist()) <= set(range(7))
    assert epochs[0].tolist() != epochs[1].tolist()


def test_gradients_of_parts_add_up_to_that_of_the_batch():
    whole, output = supervised.gradient(lambda p: squares(p, {"x": X, "y": Y}), PARAMS)
    error = X @ np.ones(3) - Y
    np.testing.assert_allclose(whole["w"], 2 * X.T @ error / 6, rtol=1e-5)
    parts = {"x": X.reshape(3, 2, 3), "y": Y.reshape(3, 2)}
    total, outputs = supervised.accumulated_gradient(lambda p, batch, _: squares(p, batch), PARAMS, parts)
    np.testing.assert_allclose(total["w"], whole["w"], rtol=1e-5)
    np.testing.assert_allclose(jnp.mean(outputs.loss), output.loss, rtol=1e-6)
    assert outputs.scores.shape == (3, 2, 1)


def test_an_update_moves_parameters_unless_a_number_is_not_finite():
    transform = optax.scale_by_adam()
    moments = transform.init(PARAMS)
    slope = {"w": jnp.array([1.0, -2.0, 0.0])}
    updated = supervised.update(transform, slope, moments, PARAMS, 0.1)
    np.testing.assert_allclose(updated.params["w"], [0.9, 1.1, 1.0], rtol=1e-5)
    for bad, ok in ((slope, False), ({"w": jnp.array([1.0, jnp.nan, 0.0])}, True)):
        dropped = supervised.update(transform, bad, moments, PARAMS, 0.1, ok)
        assert not dropped.finite
        jax.tree.map(np.testing.assert_array_equal, (dropped.params, dropped.optimizer), (PARAMS, moments))


def test_metrics_of_an_update():
    slope, output = supervised.gradient(lambda p: squares(p, {"x": X, "y": Y}), PARAMS)
    metrics = supervised.update_metrics(output, slope, 0.5)
    assert set(metrics) == {"largest", "loss", "gradient_norm", "learning_rate"}
    np.testing.assert_allclose(metrics["gradient_norm"], np.linalg.norm(slope["w"]), rtol=1e-6)


def test_arrays_of_different_lengths_are_refused():
    assert supervised.count_rows({"x": X, "y": Y}) == 6
    with pytest.raises(ValueError, match=r"validation must have arrays of one length, got \[5, 6\]"):
        supervised.count_rows({"x": X, "y": Y[1:]}, "validation")


@hyperparameters
class Options(Config):
    """Two options."""

    rate: float = option("learning rate", default=0.1, traced=True, low=0)
    limits: float = option("limits", default=1.0, traced=True, vector=True)


def test_traced_hyper_parameters_are_replaced_by_name_and_checked():
    defaults = {"rate": 0.1, "limits": (1.0, 2.0)}
    values = supervised.initial_hyper(defaults, {"rate": 0.5}, "trainer", Options())
    assert float(values["rate"]) == 0.5 and values["limits"].tolist() == [1.0, 2.0]
    traced = jax.jit(lambda r: supervised.initial_hyper(defaults, {"rate": r}, "trainer", Options())["rate"])
    assert float(traced(0.25)) == 0.25
    for replaced, error, message in (
        ({"ratte": 1.0}, TypeError, "trainer has no traced option 'ratte'; did you mean 'rate'"),
        ({"rate": -1.0}, ValueError, "rate must be at least 0"),
        ({"limits": (1.0,)}, ValueError, r"limits must have shape \(2,\), got \(1,\)"),
    ):
        with pytest.raises(error, match=message):
            supervised.initial_hyper(defaults, replaced, "trainer", Options())

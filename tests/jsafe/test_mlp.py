"""Networks: shapes, initial distributions, and refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jsafe.networks import mlp
from jsafe.networks.actor_critic import make_policy, make_value
from jsafe.spaces import Box

OBSERVATION, ACTION = Box(6), Box(2, low=-1.0, high=1.0)


def test_perceptron_equals_plain_matrix_products():
    network = mlp.make_mlp(6, (64, 32), 3)
    params = network.init(jax.random.key(0))
    x = np.random.default_rng(0).normal(size=(5, 6)).astype(np.float32)
    h = x
    for i in range(3):
        h = h @ np.asarray(params[f"layer_{i}"]["kernel"]) + np.asarray(params[f"layer_{i}"]["bias"])
        h = np.tanh(h) if i < 2 else h
    np.testing.assert_allclose(network.apply(params, jnp.asarray(x)), h, rtol=1e-4, atol=1e-5)


def test_default_weights_and_biases_are_uniform_within_one_over_root_fan_in():
    params = mlp.make_mlp(16, (400, 400), 1).init(jax.random.key(0))
    for layer, fan_in in (("layer_0", 16), ("layer_1", 400)):
        for leaf in (params[layer]["kernel"], params[layer]["bias"]):
            bound = fan_in**-0.5
            assert float(jnp.abs(leaf).max()) <= bound
            assert float(jnp.std(leaf)) == pytest.approx(bound / 3**0.5, rel=0.1)


def test_policy_starts_with_unit_deviation_that_does_not_depend_on_the_observation():
    policy = make_policy(OBSERVATION, ACTION, hidden_sizes=(64, 32))
    params = policy.init(jax.random.key(0))
    acting = policy.apply(params, jnp.ones((7, 6)))
    assert acting.mean.shape == (7, 2)
    np.testing.assert_array_equal(acting.log_std, [0.0, 0.0])
    np.testing.assert_array_equal(params["log_std"], [0.0, 0.0])


def test_value_is_a_number_per_observation():
    value = make_value(OBSERVATION, hidden_sizes=(64, 32))
    assert value.apply(value.init(jax.random.key(0)), jnp.ones((4, 3, 6))).shape == (4, 3)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"activation": "tahn"}, "did you mean 'tanh'"),
        ({"initializer": "ortho"}, "did you mean 'orthogonal'"),
        ({"hidden_sizes": (0,)}, "at least 1"),
    ],
)
def test_unknown_names_and_empty_layers_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        mlp.make_mlp(**{"space": 3, "hidden_sizes": (4,), "output_size": 1, **options})

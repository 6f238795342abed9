"""Observation statistics against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np

from jsafe import running_statistics


def test_statistics_of_several_batches_equal_those_of_all_samples():
    rng = np.random.default_rng(0)
    batches = [rng.normal(3.0, 2.0, size=(20, 4, 5)).astype(np.float32) for _ in range(3)]
    state = running_statistics.init(5)
    for batch in batches:
        state = jax.jit(running_statistics.update)(state, batch)
    everything = np.concatenate(batches).reshape(-1, 5)
    np.testing.assert_allclose(state.mean, everything.mean(0), rtol=1e-5)
    np.testing.assert_allclose(state.std, everything.std(0), rtol=1e-4)
    scaled = (everything - everything.mean(0)) / everything.std(0)
    np.testing.assert_allclose(
        running_statistics.apply(state, jnp.asarray(everything)), np.clip(scaled, -5, 5), atol=1e-3
    )


def test_first_observations_pass_unscaled_but_clipped():
    obs = jnp.array([0.5, -7.0, 9.0])
    np.testing.assert_array_equal(running_statistics.apply(running_statistics.init(3), obs), [0.5, -5.0, 5.0])


def test_an_entry_that_never_varies_is_not_blown_up():
    state = running_statistics.update(running_statistics.init(1), jnp.full((100, 1), 2.0))
    np.testing.assert_allclose(state.std, [0.01])
    np.testing.assert_allclose(running_statistics.apply(state, jnp.array([2.02])), [2.0], rtol=1e-3)


def test_a_batch_that_is_not_finite_leaves_the_statistics_alone():
    state = running_statistics.update(running_statistics.init(2), jnp.arange(20.0).reshape(10, 2))
    after = running_statistics.update(state, jnp.array([[1.0, jnp.nan]]))
    jax.tree.map(np.testing.assert_array_equal, after, state)


def test_no_statistics_pass_everything():
    np.testing.assert_array_equal(running_statistics.apply((), jnp.array([100.0])), [100.0])

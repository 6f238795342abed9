"""Observation statistics against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jsafe import running_statistics
from jsafe.spaces import Box, Dict, Discrete


def test_statistics_of_several_batches_equal_those_of_all_samples():
    rng = np.random.default_rng(0)
    batches = [rng.normal(3.0, 2.0, size=(20, 4, 5)).astype(np.float32) for _ in range(3)]
    state = running_statistics.init(Box(5))
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
    np.testing.assert_array_equal(running_statistics.apply(running_statistics.init(Box(3)), obs), [0.5, -5.0, 5.0])


def test_an_entry_that_never_varies_is_not_blown_up():
    state = running_statistics.update(running_statistics.init(Box(1)), jnp.full((100, 1), 2.0))
    np.testing.assert_allclose(state.std, [0.01])
    np.testing.assert_allclose(running_statistics.apply(state, jnp.array([2.02])), [2.0], rtol=1e-3)


def test_a_batch_that_is_not_finite_leaves_the_statistics_alone():
    state = running_statistics.update(running_statistics.init(Box(2)), jnp.arange(20.0).reshape(10, 2))
    after = running_statistics.update(state, jnp.array([[1.0, jnp.nan]]))
    jax.tree.map(np.testing.assert_array_equal, after, state)


def test_no_statistics_pass_everything():
    np.testing.assert_array_equal(running_statistics.apply((), jnp.array([100.0])), [100.0])


TREE = Dict(
    state=Box(3, normalize=(True, True, False)),
    image=Box((2, 2, 1), "uint8", normalize=False),
    goal=Dict(position=Box(2), id=Discrete(4), heading=Box((), normalize=False)),
)


def draws(rng, steps):
    return {
        "state": jnp.asarray(rng.normal(3.0, 2.0, (steps, 4, 3)), jnp.float32),
        "image": jnp.asarray(rng.integers(0, 256, (steps, 4, 2, 2, 1)), jnp.uint8),
        "goal": {
            "position": jnp.asarray(rng.normal(-1.0, 0.5, (steps, 4, 2)), jnp.float32),
            "id": jnp.asarray(rng.integers(0, 4, (steps, 4)), jnp.int32),
            "heading": jnp.asarray(rng.normal(size=(steps, 4)), jnp.float32),
        },
    }


def test_only_the_entries_of_a_tree_that_are_to_be_normalised_have_statistics():
    state, obs = running_statistics.init(TREE), draws(np.random.default_rng(0), 500)
    assert jax.tree.map(jnp.shape, state.mean) == {"state": (2,), "goal": {"position": (2,)}}
    state = jax.jit(running_statistics.update)(state, obs)
    normalized = jax.jit(running_statistics.apply)(state, obs)
    assert jax.tree.structure(normalized) == jax.tree.structure(obs)
    normalised = [
        (obs["state"][..., :2], normalized["state"][..., :2]),
        (obs["goal"]["position"], normalized["goal"]["position"]),
    ]
    for raw, scaled in normalised:
        x = np.asarray(raw, np.float64)
        expected = np.clip((x - x.mean((0, 1))) / x.std((0, 1)), -5, 5)
        np.testing.assert_allclose(scaled, expected, atol=1e-3)
    np.testing.assert_array_equal(normalized["state"][..., 2], obs["state"][..., 2])
    np.testing.assert_array_equal(normalized["image"], obs["image"])
    assert normalized["image"].dtype == jnp.uint8 and normalized["goal"]["id"].dtype == jnp.int32
    np.testing.assert_array_equal(normalized["goal"]["heading"], obs["goal"]["heading"])


def test_a_tree_with_one_bad_number_changes_no_statistics():
    state = running_statistics.update(running_statistics.init(TREE), draws(np.random.default_rng(0), 5))
    obs = draws(np.random.default_rng(1), 5)
    obs["goal"]["position"] = obs["goal"]["position"].at[0, 0, 0].set(jnp.inf)
    jax.tree.map(np.testing.assert_array_equal, running_statistics.update(state, obs), state)


def test_a_space_without_anything_to_normalise_has_no_statistics():
    for space in (Discrete(3), Box((8, 8, 3), "uint8"), Box(4, normalize=False), Dict(a=Discrete(2))):
        assert running_statistics.init(space) == ()
    assert running_statistics.update((), jnp.ones(2)) == ()


@pytest.mark.parametrize("size", [1, 2, 4, 7])
def test_vectors_of_another_length_are_refused(size):
    space, obs = Box(3), jnp.ones((5, size))
    state = running_statistics.init(space)
    for take in (running_statistics.update, running_statistics.apply):
        with pytest.raises(ValueError, match="observations must be of size 3 in the last axis"):
            take(state, obs, space=space)
    if size < 3:
        for take in (running_statistics.update, running_statistics.apply):
            with pytest.raises(ValueError, match=r"must end in the axes \(3,\) of the statistics"):
                take(state, obs)

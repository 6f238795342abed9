"""Spaces: what belongs to them, what is drawn from them, and how they are flattened and recorded."""

from __future__ import annotations

import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jsafe import Spec, extra_number, space_records, spaces
from jsafe.spaces import Box, Dict, Discrete

TREE = Dict(
    state=Box(3, low=-1.0, high=(1.0, 2.0, math.inf), normalize=(True, True, False)),
    image=Box((4, 4, 3), "uint8", normalize=False),
    robot={"gear": Discrete(5), "speed": Box(())},
)


@pytest.mark.parametrize(
    "space",
    [
        Box(2, low=-1.0, high=1.0),
        Box((2, 3)),
        Box(2, low=0.0),
        Box(2, high=(3.0, math.inf)),
        Box((4, 4), "uint8"),
        Box(3, "bool"),
        Box(2, "int32", low=-3, high=4),
        Discrete(7),
        Discrete(3, shape=(2,)),
        TREE,
    ],
)
def test_samples_and_zeros_have_the_shape_and_type_and_samples_lie_within_bounds(space):
    draws = [spaces.sample(space, key) for key in jax.random.split(jax.random.key(0), 20)]
    assert all(spaces.contains(space, draw) for draw in draws)
    assert len({np.asarray(jax.tree.leaves(draw)[0]).tobytes() for draw in draws}) > 1
    zeros = spaces.zeros(space, (5,))
    assert spaces.check_batch(space, zeros) == (5,)
    assert jax.tree.structure(zeros) == jax.tree.structure(draws[0])


def test_integers_between_bounds_are_all_drawn():
    space = Box(2000, "int32", low=-3, high=4)
    assert set(np.unique(spaces.sample(space, jax.random.key(0)))) == set(range(-3, 5))
    assert set(np.unique(spaces.sample(Discrete(4, shape=(2000,)), jax.random.key(0)))) == set(range(4))


@pytest.mark.parametrize(
    "space, value",
    [
        (Box(2), np.zeros(3, np.float32)),
        (Box(2), np.zeros(2, np.int32)),
        (Box(2, high=1.0), np.full(2, 1.1, np.float32)),
        (Box(2), np.array([0.0, np.nan], np.float32)),
        (Discrete(3), np.int32(3)),
        (Discrete(3), np.int32(-1)),
        (Dict(a=Box(2)), np.zeros(2, np.float32)),
        (Dict(a=Box(2)), {"b": np.zeros(2, np.float32)}),
    ],
)
def test_values_of_another_shape_type_or_range_do_not_belong(space, value):
    assert not spaces.contains(space, value)


def test_spaces_are_hashable_and_equal_by_value():
    again = Dict({name: TREE[name] for name in reversed(list(TREE))})
    assert again == TREE and hash(again) == hash(TREE) and len({again, TREE}) == 1
    assert Box(2, low=(1.0, 1.0)) == Box((2,), low=1.0) and hash(Box(2)) == hash(Box((2,)))
    assert Box(2) != Box(2, normalize=False)
    assert [path for path, _ in spaces.leaves(TREE)] == ["image", "robot.gear", "robot.speed", "state"]


def test_records_of_spaces_survive_json():
    for space in (TREE, Box(2, low=(-math.inf, 0.0)), spaces.flat_box({"a": 2, "b": 1}, raw=("b",)), Discrete(3)):
        assert space_records.from_json(json.loads(json.dumps(space_records.to_json(space), allow_nan=False))) == space
    with pytest.raises(ValueError, match="kind box, discrete or dict"):
        space_records.from_json({"shape": [2]})


def test_flattening_codes_discrete_values_and_scales_bytes():
    value = {
        "state": jnp.array([[1.0, 2.0, 3.0]]),
        "image": jnp.full((1, 4, 4, 3), 51, jnp.uint8),
        "robot": {"gear": jnp.array([2]), "speed": jnp.array([7.0])},
    }
    expected = [*[0.2] * 48, 0, 0, 1, 0, 0, 7, 1, 2, 3]
    np.testing.assert_allclose(spaces.flatten(TREE, value), [expected], rtol=1e-6)
    assert spaces.flat_size(TREE) == len(expected)
    x = jnp.arange(6.0).reshape(2, 3)
    assert spaces.flatten(Box(3), x) is x  # nothing is done for the default


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: Box(-1), "no negative size"),
        (lambda: Box(2, "flaot32"), "name of a NumPy type, got 'flaot32'"),
        (lambda: Box(2, low=(1.0, 2.0, 3.0)), "low of a Box must be one number or one for each entry"),
        (lambda: Box(2, low=1.0, high=0.0), "low of a Box must be at most high"),
        (lambda: Box(2, normalize=(True,)), "one flag or 2 flags, got 1"),
        (lambda: Box(2, normalize=(False, True)), "True for its first entries.*a Box of their own"),
        (lambda: Box(2, blocks=(("a", 1),)), r"blocks of a Box must add up to its shape \(2,\)"),
        (lambda: Discrete(0), "at least 1, got 0"),
        (lambda: Discrete(2, "float32"), "integer type, got float32"),
        (lambda: Dict({}), "must not be empty"),
        (lambda: Dict({"a.b": Box(1)}), "strings without dots, got 'a.b'"),
    ],
)
def test_impossible_spaces_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
    with pytest.raises(TypeError, match="a Box, a Discrete or a mapping of spaces, got 3"):
        Dict(a=3)


def test_batches_of_another_form_are_refused_with_their_path():
    good = spaces.zeros(TREE, (2,))
    for changes, message in [
        ({"state": jnp.zeros((2, 4))}, r"at 'state' must be of size 3 in the last axis, got shape \(2, 4\)"),
        ({"image": jnp.zeros((2, 4, 4, 3))}, "at 'image' must be of type uint8, got float32"),
        ({"image": jnp.zeros((4, 3), "uint8")}, r"at 'image' must be of shape \[\.\.\., \(4, 4, 3\)\], got shape"),
        ({"state": jnp.zeros((3, 3))}, "same batch axes in every leaf"),
        ({"robot": jnp.zeros(2)}, r"at 'robot' must be a dict of \['gear', 'speed'\], got"),
        ({"state": {"x": 1}}, r"at 'state' must be an array, got a dict of \['x'\]"),
        ({"more": jnp.zeros(2)}, r"must be a dict of \['image', 'robot', 'state'\], got \['image', 'more'"),
    ]:
        with pytest.raises(ValueError, match=message):
            spaces.check_batch(TREE, {**good, **changes})


def test_sizes_of_a_specification_are_those_of_flat_spaces_only():
    common = {"id": "Toy-v0", "cost_names": (), "episode_length": 1, "control_dt": 1.0}
    flat = Spec(observation=spaces.flat_box({"a": 2, "b": 1}), action=Box(2, low=-1.0, high=(1.0, 2.0)), **common)
    assert (flat.observation_size, flat.observation_layout) == (3, (("a", 2), ("b", 1)))
    assert (flat.action_size, flat.num_actions) == (2, None)
    assert (flat.action_low, flat.action_high) == ((-1.0, -1.0), (1.0, 2.0))
    tree = Spec(observation={"a": Box(2)}, action=Discrete(4), **common)  # type: ignore[arg-type]
    assert (tree.num_actions, tree.action_low, tree.action_size) == (4, (), 0)
    assert isinstance(tree.observation, Dict) and hash(tree) == hash(tree)
    with pytest.raises(ValueError, match="the observation of Toy-v0 must be a vector to have a size"):
        _ = tree.observation_size


@pytest.mark.parametrize("space", [Box(3), Box(3, low=-1.0, normalize=(True, False, False)), TREE, Discrete(4)])
def test_a_number_is_added_replaced_and_removed(space):
    extended = extra_number.extend(space, "budget")
    value = spaces.zeros(space, (2,))
    joined = extra_number.append(space, value, "budget", jnp.array([0.5, 0.25]))
    assert spaces.check_batch(extended, joined) == (2,)
    jax.tree.map(np.testing.assert_array_equal, extra_number.remove(space, joined, "budget"), value)
    changed = extra_number.replace(space, joined, "budget", jnp.array([3.0, 4.0]))
    expected = extra_number.append(space, value, "budget", jnp.array([3.0, 4.0]))
    jax.tree.map(np.testing.assert_array_equal, changed, expected)
    assert sum(getattr(leaf, "num_normalized", 0) for _, leaf in spaces.leaves(extended)) == sum(
        getattr(leaf, "num_normalized", 0) for _, leaf in spaces.leaves(space)
    )


def test_lists_become_arrays_and_integers_get_the_type_of_their_space():
    space = spaces.Dict(image=spaces.Box((2,), "uint8", 0, 255), state=spaces.Box((3,)))
    value = spaces.as_arrays(space, {"image": np.array([1, 200]), "state": [1.0, 2.0, 3.0]})
    assert value["image"].dtype == np.uint8 and value["state"].shape == (3,)
    with pytest.raises(ValueError, match="from 0 to 255, got 1 to 256"):
        spaces.as_arrays(space, {"image": [1, 256], "state": [0.0] * 3})


@pytest.mark.parametrize("three", [3, np.int64(3), np.uint8(3), np.asarray(3), (3,), [np.int32(3)], np.asarray([3])])
def test_sizes_are_integers_of_any_kind(three):
    assert Box(three).shape == Discrete(2, shape=three).shape == (3,) and type(Box(three).shape[0]) is int


@pytest.mark.parametrize("shape", [3.0, np.float64(3), (2.5,), "3", None, -1, [[3]]])
def test_shapes_of_other_things_are_refused(shape):
    for make in (Box, lambda shape: Discrete(2, shape=shape)):
        with pytest.raises(ValueError, match="must have no negative size and only whole numbers, got"):
            make(shape)


def test_every_space_has_a_short_description():
    tree = Dict(camera=Box((8, 8, 3), "uint8"), state=Dict(speed=Box(), way=Discrete(4), moves=Discrete(4, shape=(2,))))
    expected = "camera: 8x8x3 uint8, state.moves: 2 of 4, state.speed: 1, state.way: 1 of 4"
    assert space_records.describe(tree) == expected
    assert space_records.describe(Box(60)) == "60"

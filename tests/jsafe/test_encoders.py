"""Torsos: equal to plain loops over their published equations, and able to do what a bare perceptron cannot."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal

import algorithms
import jsafe
from algorithms.on_policy import stacked_mlp
from algorithms.on_policy.policy_networks import default_networks
from algorithms.registry import config_class
from jsafe import Spec, State, spaces
from jsafe.frame_stack import FrameStack, stacked_space
from jsafe.networks import encoders
from jsafe.networks.actor_critic import make_policy, make_value
from jsafe.networks.mlp import PerceptronApply
from jsafe.runs import record
from jsafe.spaces import Box, Dict, Discrete, Space, flat_box
from tests.support.toy_envs import PointMass, Throttle

WINDOW = stacked_space(Box(5, normalize=(True, True, True, False, False)), 4)
"""A window of four steps of five entries, two of which are not normalised."""

GRU = {"hidden_sizes": (5,), "torso": "gru", "recurrent_size": 7}
ACTION = Box(1, low=-1.0, high=1.0)

LAST_TWO = np.array([0.0, 0.0, 1.0, 1.0], np.float32)


# --- recurrent --------------------------------------------------------------------------------------------------


def gru_by_hand(cell: dict[str, Any], steps: np.ndarray, flags: np.ndarray) -> np.ndarray:
    """Cho et al. (2014) with the reset gate behind the recurrent product, one window."""
    w = {name: (np.asarray(p["kernel"]), np.asarray(p.get("bias", 0.0))) for name, p in cell.items()}

    def dense(name: str, x: np.ndarray) -> np.ndarray:
        return x @ w[name][0] + w[name][1]

    def sigmoid(x: np.ndarray) -> np.ndarray:
        return 1.0 / (1.0 + np.exp(-x))

    hidden = np.zeros(w["hn"][0].shape[0])
    for x, flag in zip(steps, flags, strict=True):
        if not flag:
            continue
        reset = sigmoid(dense("ir", x) + dense("hr", hidden))
        update = sigmoid(dense("iz", x) + dense("hz", hidden))
        new = np.tanh(dense("in", x) + reset * dense("hn", hidden))
        hidden = (1.0 - update) * new + update * hidden
    return hidden


def test_recurrent_policy_is_a_loop_over_the_window_with_a_perceptron_on_top():
    policy = make_policy(WINDOW, ACTION, **GRU)
    rng = np.random.default_rng(0)
    params = jax.jit(policy.init)(jax.random.key(0))
    params = jax.tree.map(lambda p: np.asarray(p) + 0.3 * rng.normal(size=p.shape).astype(np.float32), params)
    steps = rng.normal(size=(3, 2, 4, 5)).astype(np.float32)
    flags = (np.arange(4) >= rng.integers(0, 4, (3, 2, 1))).astype(np.float32)
    acting = jax.jit(policy.apply)(params, {"frames": jnp.asarray(steps), "in_episode": jnp.asarray(flags)})
    assert acting.mean.shape == (3, 2, 1)
    head = jax.tree.map(np.asarray, params["mean"]["head"])
    for at in np.ndindex(3, 2):
        hidden = gru_by_hand(params["mean"]["torso"]["memory"]["cell"], steps[at], flags[at])
        top = np.tanh(hidden @ head["layer_0"]["kernel"] + head["layer_0"]["bias"])
        expected = top @ head["layer_1"]["kernel"] + head["layer_1"]["bias"]
        np.testing.assert_allclose(acting.mean[at], expected, rtol=1e-4, atol=1e-5)


def test_steps_before_the_episode_neither_move_the_output_nor_get_a_gradient():
    value = make_value(WINDOW, **GRU)
    params = jax.jit(value.init)(jax.random.key(0))
    steps = jax.random.normal(jax.random.key(1), (4, 5))

    @jax.jit
    def of(steps: jax.Array) -> jax.Array:
        return value.apply(params, {"frames": steps, "in_episode": jnp.asarray(LAST_TWO)})

    assert float(of(steps)) == float(of(steps.at[:2].set(1e6)))
    slope = jax.jit(jax.grad(of))(steps)
    np.testing.assert_array_equal(slope[:2], 0.0)
    assert (jnp.abs(slope[2:]).max(axis=1) > 1e-4).all()


# --- convolutional ----------------------------------------------------------------------------------------------


def features(observation: Space, image_shape: tuple[int, ...], obs: Any, seed: int = 0) -> tuple[Any, jax.Array]:
    """Variables of the encoder of torso `cnn`, and what it makes of observations."""
    view = encoders.ImageSplit(observation, image_shape)
    module = encoders.make_encoder(view.space, "cnn", 0, "kaiming_uniform", {})
    assert module is not None
    return jax.jit(lambda key, obs: module.init_with_output(key, view(obs))[::-1])(jax.random.key(seed), obs)


def convolved_by_hand(params: Any, image: np.ndarray, strides: tuple[int, ...]) -> np.ndarray:
    """`[H, W, C]` through strided correlations by SciPy and rectifiers."""
    x = image
    for i, stride in enumerate(strides):
        kernel, bias = (np.asarray(params[f"convolution_{i}"][k]) for k in ("kernel", "bias"))
        planes = []
        for out in range(kernel.shape[-1]):
            plane = sum(
                scipy.signal.correlate(x[..., c], kernel[:, :, c, out], mode="valid") for c in range(x.shape[-1])
            )
            planes.append(plane[::stride, ::stride] + bias[out])
        x = np.maximum(np.stack(planes, axis=-1), 0.0)
    return x


@pytest.mark.parametrize(
    "image_shape, strides, places",
    [((16, 16, 3), (2, 2, 1), 1), ((17, 24, 1), (2, 2, 1), 3), ((36, 44, 1), (4, 2, 1), 2)],
)
def test_image_features_are_plain_convolutions_followed_by_the_tail(image_shape, strides, places):
    size = math.prod(image_shape) + 2
    obs = jax.random.normal(jax.random.key(3), (size,))
    variables, output = features(Box(size), image_shape, obs)
    expected = convolved_by_hand(
        variables["params"]["encoders_image"], np.asarray(obs[:-2]).reshape(image_shape), strides
    )
    assert output.shape == (64 * places + 2,)
    np.testing.assert_allclose(output[:-2], expected.ravel(), rtol=1e-3, atol=1e-4)
    np.testing.assert_array_equal(output[-2:], obs[-2:])


def test_published_sizes_of_the_image_encoder():
    shapes = jax.eval_shape(lambda: features(Box(84 * 84 * 4), (84, 84, 4), jnp.zeros(84 * 84 * 4)))
    assert [shapes[0]["params"]["encoders_image"][f"convolution_{i}"]["kernel"].shape for i in range(3)] == [
        (8, 8, 4, 32),
        (4, 4, 32, 64),
        (3, 3, 64, 64),
    ]
    assert shapes[1].shape == (7 * 7 * 64,)


def test_features_move_with_the_image():
    image = jnp.zeros((32, 32, 1)).at[10:14, 12:15].set(1.0)

    def maps_of(image: jax.Array) -> jax.Array:
        return features(Box(32 * 32), (32, 32, 1), image.ravel())[1].reshape(5, 5, 64)

    maps = [maps_of(jnp.roll(image, move, (0, 1))) for move in ((0, 0), (4, 8))]
    np.testing.assert_allclose(maps[1][1:, 2:], maps[0][:-1, :-2], atol=1e-6)
    assert jnp.abs(maps[0] - maps[1]).max() > 1e-3


def test_images_of_a_window_become_channels():
    length, shape = 3, (16, 18, 2)
    steps = jax.random.normal(jax.random.key(0), (2, length, 16 * 18 * 2 + 1))
    window = stacked_space(Box(16 * 18 * 2 + 1), length)
    stacked = jnp.concatenate([steps[:, i, :-1].reshape(2, *shape) for i in range(length)], axis=-1).reshape(2, -1)
    expected = features(Box(16 * 18 * 6), (16, 18, 6), stacked)
    module = encoders.ObservationEncoder(
        encoders.ImageSplit(window, shape).space, {"frames_image": encoders.CnnEncoder()}
    )
    view = encoders.ImageSplit(window, shape)({"frames": steps, "in_episode": jnp.ones((2, length))})
    variables = {"params": {"encoders_frames_image": expected[0]["params"]["encoders_image"]}}
    output = jax.jit(module.apply)(variables, view)
    np.testing.assert_allclose(output[:, : -2 * length], expected[1], atol=1e-6)
    np.testing.assert_array_equal(output[:, -2 * length : -length], steps[..., -1])


# --- in algorithms ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"torso": "gpu", "history": 2}, "torso must be one of .*did you mean 'gru'"),
        ({"torso": "gru"}, "history must be at least 2 for torso 'gru', which reads a window, got 1"),
        ({"history": 0}, "history must be at least 1, got 0"),
        ({"torso": "cnn"}, r"image_shape must be \(height, width, channels\) for torso 'cnn', got \(\)"),
        ({"torso": "cnn", "image_shape": (16, 16)}, r"\(height, width, channels\).*got \(16, 16\)"),
        ({"torso": "cnn", "image_shape": (16, 15, 1)}, r"at least 16 high and wide, got \(16, 15, 1\)"),
        ({"torso": "cnn", "image_shape": (16, 16, 1)}, r"\(16, 16, 1\) needs 256 entries, an observation has 5"),
        ({"image_shape": (16, 16, 1)}, "image_shape is for torso 'cnn', .* with torso 'mlp'"),
    ],
)
def test_a_torso_without_what_it_needs_is_refused_by_name(settings, message):
    with pytest.raises(ValueError, match=message):
        algorithms.make("ppo", PointMass(), **settings)


def test_torsos_are_checked_where_networks_are_built():
    with pytest.raises(ValueError, match="unknown torso 'lstm'"):
        make_policy(WINDOW, ACTION, torso="lstm")
    with pytest.raises(ValueError, match="history must be at least 2"):
        make_value(Box(5), **GRU)
    with pytest.raises(ValueError, match="a Discrete or a flat Box, got Box"):
        make_policy(Box(5), Box((2, 2)))


def test_encoders_must_name_leaves():
    tree = Dict(state=Box(3), camera=Box((8, 8, 3), "uint8"))
    with pytest.raises(ValueError, match=r"leaves of the observation \(camera, state\), got 'camra'; did you mean"):
        make_policy(tree, ACTION, encoders={"camra": encoders.CnnEncoder()})
    with pytest.raises(ValueError, match="'camera' must be at least 16 high and wide"):
        make_policy(tree, ACTION, torso="cnn")


LEAVES = Dict(
    {"a": Dict(b=Box(2), b_2=Box(2)), "a_b": Box(3), "a_b_2": Box(3), "c": Dict({"_": Box(2)}), "c__": Box(2)}
)


def test_every_leaf_has_a_module_of_its_own():
    paths = [path for path, _ in spaces.leaves(LEAVES)]
    names = encoders.module_names(paths)
    assert len(set(names.values())) == len(paths) == 6
    assert names["a_b"] == "a_b" and encoders.module_names(["x.y", ""]) == {"x.y": "x_y", "": ""}
    sizes = {path: encoders.MlpEncoder((size,)) for size, path in enumerate(paths, start=1)}
    encoder = encoders.make_encoder(LEAVES, "mlp", 4, "kaiming_uniform", sizes)
    assert encoder is not None
    params = encoder.init(jax.random.key(0), spaces.zeros(LEAVES, (1,)))["params"]
    widths = {path: params[f"encoders_{names[path]}"]["layer_0"]["kernel"].shape[1] for path in paths}
    assert widths == {path: size for size, path in enumerate(paths, start=1)}


def test_only_bare_perceptrons_are_stepped_together():
    for settings, together in (({"history": 3}, True), ({"history": 3, "torso": "gru"}, False)):
        options = config_class("ppo")(**settings)
        output = default_networks(FrameStack(PointMass(), 3), options)
        assert stacked_mlp.fits(output, ("policy", "reward_value")) is together
    cnn = make_policy(Box(16 * 16), ACTION, torso="cnn", image_shape=(16, 16, 1))
    assert not isinstance(cnn.apply, PerceptronApply)


def test_records_of_another_version_are_refused_by_name():
    old = {"observation_size": 3, "action_low": [-1.0], "action_high": [1.0], "hidden_sizes": [4]}
    with pytest.raises(record.RunError, match="written by another version of jsafe"):
        record.policy_spec({"trainer": {"policy": old}})


@dataclasses.dataclass(frozen=True)
class Spot:
    """An image with one bright pixel, redrawn at each step; the action that names its half (0 left, 1 right) earns 1.

    Chance earns `episode_length / 2`. The last entry of the observation is noise.
    """

    side: int = 16
    episode_length: int = 4

    @property
    def spec(self) -> Spec:
        return Spec(
            id="ToySpot-v0",
            observation=flat_box({"image": self.side**2, "noise": 1}),
            action=Discrete(2),
            cost_names=("nothing",),
            episode_length=self.episode_length,
            control_dt=1.0,
        )

    def _show(self, key: jax.Array, reward: Any) -> State:
        key, k_place, k_noise = jax.random.split(key, 3)
        row, column = jax.random.randint(k_place, (2,), 1, self.side - 1)
        image = jnp.zeros((self.side, self.side)).at[row, column].set(1.0)
        obs = jnp.append(image.ravel(), jax.random.normal(k_noise))
        zeros, right = jnp.zeros(1), column >= self.side // 2
        return State((key, right), obs, jnp.asarray(reward, jnp.float32), zeros, jnp.zeros((), bool), {}, {})

    def reset(self, key: jax.Array) -> State:
        return self._show(key, 0.0)

    def step(self, state: State, action: jax.Array) -> State:
        key, right = state.data
        return self._show(key, action == right)


@dataclasses.dataclass(frozen=True)
class Cue:
    """At the first of `length` steps one of two signs is shown; the action that repeats it at the last earns 1.

    What is seen at the last step does not depend on the sign, so every policy without memory earns exactly 1/2, and a
    policy that sees the last `length` observations can earn 1. The second entry is noise throughout.
    """

    length: int = 5

    @property
    def spec(self) -> Spec:
        return Spec(
            id="ToyCue-v0",
            observation=flat_box({"cue": 1, "noise": 1}),
            action=Discrete(2),
            cost_names=("nothing",),
            episode_length=self.length,
            control_dt=1.0,
        )

    def _show(self, key: jax.Array, sign: jax.Array, age: Any, reward: Any) -> State:
        key, k_noise = jax.random.split(key)
        seen = jnp.where(age == 0, 2.0 * sign - 1.0, 0.0)
        obs = jnp.stack([seen, jax.random.uniform(k_noise, minval=-1.0)])
        zeros = jnp.zeros(1)
        data = (key, sign, jnp.asarray(age, jnp.int32))
        return State(data, obs, jnp.asarray(reward, jnp.float32), zeros, jnp.zeros((), bool), {}, {})

    def reset(self, key: jax.Array) -> State:
        key, k_sign = jax.random.split(key)
        return self._show(key, jax.random.bernoulli(k_sign).astype(jnp.int32), 0, 0.0)

    def step(self, state: State, action: jax.Array) -> State:
        key, sign, age = state.data
        return self._show(key, sign, age + 1, (action == sign) & (age == self.length - 1))


def learn(env: Any, iterations: int, batch: int = 1_000, **settings: Any) -> np.ndarray:
    """Mean returns of the iterations of PPO."""
    sizes = {"num_envs": 40, "steps_per_iteration": batch, "passes": 4, "minibatch_size": batch // 4}
    rates = {"learning_rate": 3e-3, "value_learning_rate": 3e-3, "learning_rate_decay": False, "target_kl": np.inf}
    trainer = algorithms.make("ppo", env, hidden_sizes=(16,), **{**sizes, **rates, **settings})
    _, metrics = jax.jit(lambda key: jsafe.run(trainer, key, iterations))(jax.random.key(0))
    assert metrics["skipped"][-1] == 0
    return np.asarray(metrics["return"])


def test_a_cue_is_remembered_by_a_recurrent_policy_and_by_no_policy_without_memory():
    recurrent = learn(Cue(), 20, torso="gru", history=5, recurrent_size=16)
    memoryless = learn(Cue(), 40, episode_window=200)
    assert recurrent[:2].mean() < 0.7 and recurrent[-5:].mean() > 0.95
    episodes = 20 * 200  # those of the last 20 iterations
    assert abs(memoryless[-20:].mean() - 0.5) < 4 * 0.5 / math.sqrt(episodes)


@pytest.mark.slow
def test_stacked_observations_are_a_memory_too():
    assert learn(Cue(), 20, history=5)[-5:].mean() > 0.95


@pytest.fixture
def optimized():
    """Compile with all optimisations: convolutions take minutes without."""
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", True)


def test_the_half_of_an_image_that_holds_a_spot_is_learned(optimized):
    output = learn(Spot(), 12, 400, torso="cnn", image_shape=(16, 16, 1), learning_rate=2e-3)
    assert output[0] < 2.4 and output[-3:].mean() > 3.6


@pytest.mark.slow
def test_a_trust_region_step_is_taken_through_time():
    trainer = algorithms.make(
        "trpo", Cue(), torso="gru", history=5, recurrent_size=8, hidden_sizes=(8,), num_envs=40, steps_per_iteration=400
    )
    state, metrics = jax.jit(lambda key: jsafe.run(trainer, key, 2))(jax.random.key(0))
    assert int(state.skipped) == 0 and (metrics["kl"] > 1e-3).all()


@pytest.mark.parametrize(
    "env, settings",
    [
        (Throttle(), {"torso": "gru", "history": 3, "recurrent_size": 8}),
        pytest.param(Throttle(), {"history": 3}, marks=pytest.mark.slow),
        (Spot(), {"torso": "cnn", "image_shape": (16, 16, 1)}),
    ],
)
def test_a_trained_policy_is_read_back_as_it_was(env, settings, tmp_path):
    trainer = algorithms.make(
        "ppo", env, num_envs=4, steps_per_iteration=80, passes=1, minibatch_size=40, hidden_sizes=(8,), **settings
    )
    result = jsafe.fit(trainer, seeds=1, iterations=2, run_dir=tmp_path, sinks=())
    policy = jsafe.load_policy(tmp_path)
    assert policy.spec == trainer.info.policy
    seen = FrameStack(env, 3) if "history" in settings else env
    obs = jax.jit(jax.vmap(seen.reset))(jax.random.split(jax.random.key(5), 6)).obs
    state = jax.tree.map(lambda x: x[0], (result.state.params["policy"], result.state.algo.normalizer))
    acting = policy.spec.build().apply(state[0], jsafe.running_statistics.apply(state[1], obs))
    np.testing.assert_allclose(policy(obs), acting.mode(), rtol=1e-5, atol=1e-6)
    window = r"got ndarray. The observations of this policy are those of FrameStack\(env, 3\)"
    with pytest.raises(ValueError, match=r"got shape \(7,\)$" if seen is env else window):
        policy(np.zeros(7))

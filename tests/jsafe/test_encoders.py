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
from jsafe import PolicySpec, Spec, State
from jsafe.frame_stack import History, pack
from jsafe.networks import encoders, mlp
from jsafe.runs import record
from tests.support.toy_envs import PointMass, Throttle

GRU = PolicySpec(
    observation_size=4 * 6,
    action_low=(-1.0,),
    action_high=(1.0,),
    hidden_sizes=(5,),
    fixed_scale=4 * 3,
    torso="gru",
    history=4,
    recurrent_size=7,
)
"""A window of four steps of five entries, two of which are not normalised."""

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
    policy = mlp.make_policy(GRU)
    rng = np.random.default_rng(0)
    params = jax.jit(policy.init)(jax.random.key(0))
    params = jax.tree.map(lambda p: np.asarray(p) + 0.3 * rng.normal(size=p.shape).astype(np.float32), params)
    steps = rng.normal(size=(3, 2, 4, 5)).astype(np.float32)
    flags = (np.arange(4) >= rng.integers(0, 4, (3, 2, 1))).astype(np.float32)
    acting = jax.jit(policy.apply)(params, pack(jnp.asarray(steps), jnp.asarray(flags), 2))
    assert acting.mean.shape == (3, 2, 1)
    head = jax.tree.map(np.asarray, params["mean"]["head"])
    for at in np.ndindex(3, 2):
        hidden = gru_by_hand(params["mean"]["torso"]["cell"], steps[at], flags[at])
        top = np.tanh(hidden @ head["layer_0"]["kernel"] + head["layer_0"]["bias"])
        expected = top @ head["layer_1"]["kernel"] + head["layer_1"]["bias"]
        np.testing.assert_allclose(acting.mean[at], expected, rtol=1e-4, atol=1e-5)


def test_steps_before_the_episode_neither_move_the_output_nor_get_a_gradient():
    value = mlp.make_value(GRU)
    params = jax.jit(value.init)(jax.random.key(0))
    steps = jax.random.normal(jax.random.key(1), (4, 5))

    @jax.jit
    def of(steps: jax.Array) -> jax.Array:
        return value.apply(params, pack(steps, jnp.asarray(LAST_TWO), 2))

    assert float(of(steps)) == float(of(steps.at[:2].set(1e6)))
    slope = jax.jit(jax.grad(of))(steps)
    np.testing.assert_array_equal(slope[:2], 0.0)
    assert (jnp.abs(slope[2:]).max(axis=1) > 1e-4).all()


# --- convolutional ----------------------------------------------------------------------------------------------


def image_spec(image_shape: tuple[int, ...], tail: int = 0, **more: Any) -> PolicySpec:
    base = PolicySpec(
        observation_size=math.prod(image_shape) + tail,
        action_low=(-1.0,),
        action_high=(1.0,),
        hidden_sizes=(5,),
        torso="cnn",
        image_shape=image_shape,
    )
    return dataclasses.replace(base, **more)


def features(spec: PolicySpec, obs: jax.Array, seed: int = 0) -> tuple[Any, jax.Array]:
    """Variables of a torso, and what it makes of observations."""
    module = encoders.of(spec, mlp.INITIALIZERS["kaiming_uniform"])
    assert module is not None
    return jax.jit(lambda key, obs: module.init_with_output(key, obs)[::-1])(jax.random.key(seed), obs)


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
def test_image_features_are_plain_convolutions_with_the_tail_beside_them(image_shape, strides, places):
    spec = image_spec(image_shape, tail=2)
    obs = jax.random.normal(jax.random.key(3), (spec.observation_size,))
    variables, results = features(spec, obs)
    expected = convolved_by_hand(variables["params"], np.asarray(obs[:-2]).reshape(image_shape), strides)
    assert results.shape == (64 * places + 2,)
    np.testing.assert_allclose(results[:-2], expected.ravel(), rtol=1e-3, atol=1e-4)
    np.testing.assert_array_equal(results[-2:], obs[-2:])


def test_published_sizes_of_the_image_encoder():
    shapes = jax.eval_shape(lambda: features(image_spec((84, 84, 4)), jnp.zeros(84 * 84 * 4)))
    assert [shapes[0]["params"][f"convolution_{i}"]["kernel"].shape for i in range(3)] == [
        (8, 8, 4, 32),
        (4, 4, 32, 64),
        (3, 3, 64, 64),
    ]
    assert shapes[1].shape == (7 * 7 * 64,)


def test_features_move_with_the_image():
    image = jnp.zeros((32, 32, 1)).at[10:14, 12:15].set(1.0)
    spec = image_spec((32, 32, 1))
    maps = [features(spec, jnp.roll(image, move, (0, 1)).ravel())[1].reshape(5, 5, 64) for move in ((0, 0), (4, 8))]
    np.testing.assert_allclose(maps[1][1:, 2:], maps[0][:-1, :-2], atol=1e-6)
    assert jnp.abs(maps[0] - maps[1]).max() > 1e-3


def test_images_of_a_window_become_channels():
    length, shape = 3, (16, 18, 2)
    plain = image_spec((16, 18, 6), tail=0)
    steps = jax.random.normal(jax.random.key(0), (2, length, 16 * 18 * 2 + 1))
    obs = pack(steps, jnp.ones((2, length)), 1)
    spec = image_spec(shape, observation_size=obs.shape[1], history=length, fixed_scale=2 * length)
    stacked = jnp.concatenate([steps[:, i, :-1].reshape(2, *shape) for i in range(length)], axis=-1).reshape(2, -1)
    results, expected = features(spec, obs)[1], features(plain, stacked)[1]
    np.testing.assert_allclose(results[:, : -2 * length], expected, atol=1e-6)
    np.testing.assert_array_equal(results[:, -2 * length : -length], steps[..., -1])


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


def test_specifications_are_checked_where_networks_are_built():
    with pytest.raises(ValueError, match="unknown torso 'lstm'"):
        mlp.make_policy(dataclasses.replace(GRU, torso="lstm"))
    with pytest.raises(ValueError, match="history must be at least 2"):
        mlp.make_value(dataclasses.replace(GRU, history=1))


def test_only_bare_perceptrons_are_stepped_together():
    for settings, together in (({"history": 3}, True), ({"history": 3, "torso": "gru"}, False)):
        options = config_class("ppo")(**settings)
        results = default_networks(History(PointMass(), 3), options)
        assert stacked_mlp.fits(results, ("policy", "reward_value")) is together
    cnn = mlp.make_policy(image_spec((16, 16, 1)))
    assert cnn.layout is None


def test_records_from_before_there_were_torsos_still_load():
    old = {"observation_size": 3, "action_low": [-1.0], "action_high": [1.0], "hidden_sizes": [4]}
    spec = record.policy_spec({"trainer": {"policy": old}})
    assert spec is not None and (spec.torso, spec.history, spec.image_shape) == ("mlp", 1, ())


@dataclasses.dataclass(frozen=True)
class Spot:
    """An image with one bright place, random at each step; the action that names its half (0 left, 1 right) earns 1.

    Chance earns `episode_length / 2`. The last entry of the observation is noise.
    """

    side: int = 16
    episode_length: int = 4

    @property
    def spec(self) -> Spec:
        return Spec(
            id="ToySpot-v0",
            observation_size=self.side**2 + 1,
            observation_layout=(("image", self.side**2), ("noise", 1)),
            action_low=(),
            action_high=(),
            cost_names=("nothing",),
            episode_length=self.episode_length,
            control_dt=1.0,
            num_actions=2,
        )

    def _show(self, key: jax.Array, reward: Any) -> State:
        key, k_place, k_noise = jax.random.split(key, 3)
        row, column = jax.random.randint(k_place, (2,), 1, self.side - 1)
        image = jnp.zeros((self.side, self.side)).at[row, column].set(1.0)
        obs = jnp.append(image.ravel(), jax.random.normal(k_noise))
        zeros, right = jnp.zeros(1), column >= self.side // 2
        return State((key, right), obs, jnp.asarray(reward, jnp.float32), zeros, zeros[0], jnp.zeros((), bool), {}, {})

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
            observation_size=2,
            observation_layout=(("cue", 1), ("noise", 1)),
            action_low=(),
            action_high=(),
            cost_names=("nothing",),
            episode_length=self.length,
            control_dt=1.0,
            num_actions=2,
        )

    def _show(self, key: jax.Array, sign: jax.Array, age: Any, reward: Any) -> State:
        key, k_noise = jax.random.split(key)
        seen = jnp.where(age == 0, 2.0 * sign - 1.0, 0.0)
        obs = jnp.stack([seen, jax.random.uniform(k_noise, minval=-1.0)])
        zeros = jnp.zeros(1)
        data = (key, sign, jnp.asarray(age, jnp.int32))
        return State(data, obs, jnp.asarray(reward, jnp.float32), zeros, zeros[0], jnp.zeros((), bool), {}, {})

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
    results = learn(Spot(), 12, 400, torso="cnn", image_shape=(16, 16, 1), learning_rate=2e-3)
    assert results[0] < 2.4 and results[-3:].mean() > 3.6


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
    seen = History(env, 3) if "history" in settings else env
    obs = jax.jit(jax.vmap(seen.reset))(jax.random.split(jax.random.key(5), 6)).obs
    state = jax.tree.map(lambda x: x[0], (result.state.params["policy"], result.state.algo.normalizer))
    acting = mlp.make_policy(policy.spec).apply(state[0], jsafe.running_statistics.apply(state[1], obs))
    np.testing.assert_allclose(policy(obs), acting.mode(), rtol=1e-5, atol=1e-6)
    wrong = r"got shape \(7,\)" + (r" \(a window: jsafe.frame_stack.History\(env, 3\)\)" if seen is not env else "$")
    with pytest.raises(ValueError, match=wrong):
        policy(np.zeros(7))

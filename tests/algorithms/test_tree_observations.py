"""Observations that are trees: learned from, normalised leaf by leaf, kept in their own types, saved and loaded."""

from __future__ import annotations

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import algorithms
import jsafe
from algorithms.on_policy import stacked_mlp
from algorithms.on_policy.interfaces import Networks
from algorithms.on_policy.policy_networks import default_networks
from algorithms.registry import config_class
from algorithms.transforms.saute import Sauted
from jsafe import rollout, spaces
from jsafe.networks import actor_critic
from jsafe.networks.encoders import CnnEncoder, MlpEncoder
from jsafe.networks.mlp import Network
from tests.support.tree_envs import Camera, Guess, Nested, Signal

ENCODERS = {"image": CnnEncoder(((8, 3, 1), (16, 3, 2))), "state": MlpEncoder((8,))}
TINY = {"num_envs": 4, "steps_per_iteration": 80, "minibatch_size": 40, "passes": 1, "hidden_sizes": (8,)}


def learn(env: Guess, iterations: int, **settings) -> np.ndarray:
    """Mean share of right guesses in each iteration of PPO-Lag."""
    sizes = {"num_envs": 40, "steps_per_iteration": 800, "passes": 4, "minibatch_size": 200, "hidden_sizes": (32,)}
    rates = {"learning_rate": 3e-3, "value_learning_rate": 3e-3, "learning_rate_decay": False, "target_kl": np.inf}
    trainer = algorithms.make("ppo_lag", env, cost_limit=0.5, **{**sizes, **rates, **settings})
    _, metrics = jax.jit(lambda key: jsafe.run(trainer, key, iterations))(jax.random.key(0))
    assert metrics["skipped"][-1] == 0
    return np.asarray(metrics["return"]) / env.episode_length


def test_an_image_and_a_vector_are_both_learned_from():
    right = learn(Camera(), 25, encoders={"image": MlpEncoder((32,), "relu"), "state": MlpEncoder((8,))})
    assert right[0] < 0.35 and right[-3:].mean() > 0.8  # a policy that ignores either reaches 0.5


def test_nested_leaves_are_learned_from():
    right = learn(Nested(), 20, hidden_sizes=(64, 64))  # 32 units settle at two thirds
    assert right[0] < 0.45 and right[-3:].mean() > 0.8  # a policy that ignores the sign reaches 0.5


def test_a_discrete_observation_is_learned_from():
    right = learn(Signal(), 15)
    assert right[0] < 0.35 and right[-3:].mean() > 0.9


def test_perceptrons_over_trees_are_stepped_together_and_encoders_are_not():
    options = config_class("ppo_lag")(**TINY)
    trained = ("policy", "reward_value", "cost_value")
    assert not stacked_mlp.fits(default_networks(Nested(), options), trained)  # discrete actions
    assert stacked_mlp.fits(default_networks(Nested(), options), trained[1:])
    assert not stacked_mlp.fits(default_networks(Camera(), options, ENCODERS), trained[1:])


def test_statistics_are_those_of_normalised_leaves_only():
    trainer = algorithms.make("ppo_lag", Camera(), **TINY)
    state = jax.eval_shape(trainer.init, jax.random.key(0))
    assert jax.tree.map(jnp.shape, state.algo.normalizer.mean) == {"state": (3,)}
    nested = jax.eval_shape(algorithms.make("ppo_lag", Nested(), **TINY).init, jax.random.key(0))
    assert jax.tree.map(jnp.shape, nested.algo.normalizer.mean) == {"robot": {"arm": (2,)}, "goal": (1,)}
    assert jax.eval_shape(algorithms.make("ppo_lag", Signal(), **TINY).init, jax.random.key(0)).algo.normalizer == ()


def test_bytes_stay_bytes_until_a_network_reads_them():
    env, types = Camera(), []
    built = default_networks(env, config_class("ppo_lag")(**TINY))

    def watched(network: Network) -> Network:
        def apply(params, obs):
            types.append((obs["image"].dtype, obs["state"].dtype))
            return network.apply(params, obs)

        return network._replace(apply=apply)

    small = {k: v for k, v in TINY.items() if k != "hidden_sizes"}
    trainer = algorithms.make("ppo_lag", env, networks=Networks(*map(watched, built)), **small)
    state = jax.eval_shape(trainer.init, jax.random.key(0))
    assert state.memory.env.obs["image"].dtype == jnp.uint8
    jax.eval_shape(trainer.step, state)
    assert len(types) > 5 and set(types) == {(jnp.dtype("uint8"), jnp.dtype("float32"))}
    start = rollout.init(env, jax.random.key(0), 3)
    _, seen, _ = rollout.unroll(env, lambda obs, key: (jnp.zeros(3, jnp.int32), None), start, jax.random.key(1), 5)
    assert seen.obs["image"].dtype == seen.next_obs["image"].dtype == jnp.uint8
    assert seen.obs["image"].shape == (5, 3, 8, 8, 3)
    np.testing.assert_array_equal(seen.obs["image"].max((2, 3, 4)), 255)


@pytest.mark.parametrize("settings", [{"torso": "gru", "recurrent_size": 8}, {}])
def test_windows_of_trees_are_encoded_leaf_by_leaf(settings):
    trainer = algorithms.make("ppo_lag", Camera(), history=3, encoders=ENCODERS, **TINY, **settings)
    assert trainer.info.policy is not None and trainer.info.policy.history == 3
    state = jax.eval_shape(trainer.init, jax.random.key(0))
    assert state.memory.env.obs["frames"]["image"].shape == (4, 3, 8, 8, 3)
    kernel = state.params["policy"]["logits"]["torso"]
    name = "encoders_image" if settings else "encoders_frames_image"
    assert kernel[name]["convolution_0"]["kernel"].shape == (3, 3, 3 if settings else 9, 8)
    after, _ = jax.eval_shape(trainer.step, state)
    assert jax.tree.structure(after) == jax.tree.structure(state)


def test_a_budget_is_a_leaf_of_its_own():
    env = Sauted(Camera(), 2.0)
    obs = env.reset(jax.random.key(0)).obs
    assert spaces.contains(env.spec.observation, obs) and set(obs) == {"budget", "image", "state"}
    state = env.step(env.reset(jax.random.key(0)), jnp.int32(-1))  # a wrong guess
    assert float(state.obs["budget"][0]) < 1.0 == float(obs["budget"][0])
    trainer = algorithms.make("ppo_saute", Camera(), history=2, **TINY)
    start = jax.eval_shape(trainer.init, jax.random.key(0))
    assert jax.tree.structure(jax.eval_shape(trainer.step, start)[0]) == jax.tree.structure(start)


def test_a_policy_over_a_tree_is_saved_and_loaded(tmp_path):
    env = Camera()
    trainer = algorithms.make("ppo_lag", env, encoders={"image": MlpEncoder((8,), "relu")}, **TINY)
    result = jsafe.fit(trainer, seeds=1, iterations=2, run_dir=tmp_path, sinks=())
    policy = jsafe.load_policy(tmp_path)
    assert policy.spec == trainer.info.policy and policy.spec.observation == env.spec.observation
    obs = jax.vmap(env.reset)(jax.random.split(jax.random.key(5), 6)).obs
    params, normalizer = jax.tree.map(lambda x: x[0], (result.state.params["policy"], result.state.algo.normalizer))
    acting = policy.spec.build().apply(params, jsafe.running_statistics.apply(normalizer, obs))
    actions = policy(obs)
    assert isinstance(actions, jax.Array)
    np.testing.assert_array_equal(actions, acting.mode())
    host = jax.tree.map(np.asarray, obs)
    single = policy(jax.tree.map(lambda x: x[2], host))
    assert isinstance(single, np.ndarray) and single.shape == () and single == actions[2]
    np.testing.assert_array_equal(policy(host), actions)
    with pytest.raises(ValueError, match="at 'image' must be of type uint8, got float32"):
        policy({**host, "image": host["image"].astype(np.float32)})
    with pytest.raises(ValueError, match=r"must be a dict of \['image', 'state'\], got \['image'\]"):
        policy({"image": host["image"]})


def test_the_record_of_a_policy_rebuilds_its_encoders():
    spec = algorithms.make("ppo_lag", Camera(), encoders=ENCODERS, **TINY).info.policy
    assert spec is not None
    again = jsafe.PolicySpec.from_json(json.loads(json.dumps(spec.to_json())))
    assert again == spec and hash(again) == hash(spec)
    params = [jax.eval_shape(s.build().init, jax.random.key(0)) for s in (spec, again)]
    assert params[0] == params[1]
    assert params[0]["logits"]["torso"]["encoders_image"]["convolution_1"]["kernel"].shape == (3, 3, 8, 16)


def test_a_network_of_ones_own_is_recorded_by_name():
    if "linear" not in actor_critic.BUILDERS:

        @actor_critic.register("linear")
        def _linear(observation, action, *, scale):
            return actor_critic.make_policy(observation, action, hidden_sizes=(), initial_log_std=scale)

    env = Signal()
    spec = jsafe.PolicySpec(
        observation=env.spec.observation, action=env.spec.action, network="linear", kwargs={"scale": -1.0}
    )
    value = actor_critic.make_value(env.spec.observation)
    small = {k: v for k, v in TINY.items() if k != "hidden_sizes"}
    trainer = algorithms.make("ppo_lag", env, networks=Networks(spec.build(), value, value), policy=spec, **small)
    assert trainer.info.policy == spec
    with pytest.raises(ValueError, match="unknown network 'linaer', .*did you mean 'linear'.*Import the module"):
        jsafe.PolicySpec(observation=spec.observation, action=spec.action, network="linaer").build()
    with pytest.raises(ValueError, match="cannot be built from .'scael'"):
        jsafe.PolicySpec(
            observation=spec.observation, action=spec.action, network="linear", kwargs={"scael": 1}
        ).build()

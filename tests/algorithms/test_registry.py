"""Names, presets and refusals."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import algorithms
from algorithms.on_policy.catalogue import CATALOGUE
from algorithms.on_policy.policy_networks import default_networks
from algorithms.registry import config_class
from jsafe import config as hyper
from tests.support.toy_envs import Lever, PointMass


@pytest.mark.parametrize(
    "alias, name", [("PPO", "ppo"), ("PPOLag", "ppo_lag"), ("ppolag", "ppo_lag"), ("CPPOPID", "cppo_pid")]
)
def test_omnisafe_names_are_aliases_in_any_case(alias, name):
    assert algorithms.resolve(alias) == name
    assert algorithms.make(alias, PointMass()).info.algorithm == name


def test_no_two_algorithms_share_a_name():
    taken = [a.lower() for name, row in CATALOGUE.items() for a in {name, *(b.lower() for b in row.aliases)}]
    assert len(taken) == len(set(taken))


PUBLISHED = {
    "total_steps": 10_000_000,
    "steps_per_iteration": 20_000,
    "passes": 40,
    "minibatch_size": 64,
    "target_kl": 0.02,
    "learning_rate": 3e-4,
    "value_learning_rate": 3e-4,
    "learning_rate_decay": True,
    "discount": 0.99,
    "gae_lambda": 0.95,
    "cost_gae_lambda": 0.95,
    "max_grad_norm": 40.0,
    "value_l2": 1e-3,
    "entropy_coefficient": 0.0,
    "hidden_sizes": [64, 64],
    "activation": "tanh",
    "episode_window": 100,
    "normalize_observations": True,
    "reset_at_iteration_start": True,
    "clip_ratio": 0.2,
}


@pytest.mark.parametrize(
    "name, own",
    [
        ("ppo", {}),
        ("ppo_lag", {"cost_limit": 25.0, "multiplier_init": 0.001, "multiplier_learning_rate": 0.035}),
        (
            "cppo_pid",
            {"cost_limit": 25.0, "pid_kp": 0.1, "pid_ki": 0.01, "pid_kd": 0.01, "pid_delay": 10}
            | {"pid_p_smoothing": 0.95, "pid_d_smoothing": 0.95, "multiplier_init": 0.001},
        ),
    ],
)
def test_omnisafe_preset_holds_the_published_settings(name, own):
    config = algorithms.make(name, PointMass(), preset="omnisafe").info.config
    expected = {**PUBLISHED, **own}
    if not CATALOGUE[name].constraint:
        expected = {k: v for k, v in expected.items() if not k.startswith("cost_")}
    assert {k: config[k] for k in expected} == expected


@pytest.mark.parametrize("name, preset", [(name, preset) for name, row in CATALOGUE.items() for preset in row.presets])
def test_every_preset_builds_and_its_description_is_json(name, preset):
    info = algorithms.make(name, PointMass(), preset).info
    json.dumps(dataclasses.asdict(info))
    described = algorithms.describe(name)
    assert json.loads(json.dumps(described))["presets"].keys() == CATALOGUE[name].presets.keys() >= {"paper"}
    assert {o["name"] for o in described["options"]} == set(info.config)
    assert {o["name"] for o in described["options"] if o["traced"]} == set(info.traced)
    assert all(o["help"] for o in described["options"])


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        ({"name": "ppo_lga"}, ValueError, "unknown algorithm 'ppo_lga'; did you mean 'ppo_lag'"),
        ({"preset": "omnisaf"}, ValueError, "no preset 'omnisaf'; did you mean 'omnisafe'"),
        ({"cost_limt": 3.0}, TypeError, "no option 'cost_limt'; did you mean 'cost_limit'"),
        ({"cost_limit": -1.0}, ValueError, r"cost_limit must be at least 0, got -1\.0"),
        ({"cost_limit": float("nan")}, ValueError, "cost_limit must be a finite number, got nan"),
        ({"cost_limit": "low"}, TypeError, "cost_limit must be a number or a list of numbers, got 'low'"),
        ({"cost_limit": (1.0, 2.0)}, ValueError, r"cost_limit must be one number or 1 numbers \(.*\), got 2"),
        ({"cost_limit": ()}, ValueError, "cost_limit must be a number or a list of numbers, got an empty list"),
        ({"cost_limit": (-1.0,)}, ValueError, "cost_limit must be at least 0"),
        ({"passes": 0}, ValueError, "passes must be at least 1, got 0"),
        ({"passes": 1.5}, TypeError, "passes must be a whole number, got 1.5"),
        ({"squash": 1}, TypeError, "squash must be True or False, got 1"),
        ({"discount": 1.5}, ValueError, r"discount must be at most 1, got 1\.5"),
        ({"hidden_sizes": (64, 0)}, ValueError, "hidden_sizes must be at least 1"),
        ({"activation": "tahn"}, ValueError, "activation must be one of .*did you mean 'tanh'"),
        ({"num_envs": 3}, ValueError, r"steps_per_iteration must be a multiple of num_envs \(3\), got 20000"),
        ({"steps_per_iteration": 40}, ValueError, r"minibatch_size must be at most steps_per_iteration \(40\), got 64"),
    ],
)
def test_bad_input_is_refused_by_name(arguments, error, message):
    with pytest.raises(error, match=message):
        algorithms.make(**{"name": "ppo_lag", "env": PointMass(), **arguments})


@pytest.mark.parametrize(
    "name, env, values, message",
    [
        ("ppo", Lever(), {"squash": True}, "squash has no effect: the actions of ToyLever-v0 are discrete"),
        ("ppo", Lever(), {"initial_log_std": -1.0}, "initial_log_std has no effect"),
        ("ppo", PointMass(), {"recurrent_size": 7}, "recurrent_size has no effect: torso is 'mlp', not 'gru'"),
        ("ppo", PointMass(), {"networks": ..., "hidden_sizes": (8,)}, "hidden_sizes has no effect: the networks are"),
    ],
)
def test_options_that_would_change_nothing_are_refused(name, env, values, message):
    if "networks" in values:
        values["networks"] = default_networks(env, config_class(name)())
    with pytest.raises(ValueError, match=message):
        algorithms.make(name, env, **values)
    with pytest.raises(ValueError, match=message):
        algorithms.configure(name, env=env, **values)


@pytest.mark.parametrize("name", ["ppo", "natural_pg", "ppo_saute"])
@pytest.mark.parametrize("option", ["cost_discount", "cost_gae_lambda", "normalize_costs", "smooth_costs_twice"])
def test_methods_without_limits_have_no_options_of_costs(name, option):
    with pytest.raises(TypeError, match=f"no option '{option}'"):
        algorithms.make(name, PointMass(), **{option: 0.5})


def test_a_constrained_method_needs_a_cost():
    class Free(PointMass):
        @property
        def spec(self):
            return dataclasses.replace(super().spec, cost_names=())

    with pytest.raises(ValueError, match="at least one cost, and ToyPointMass-v0 has none"):
        algorithms.make("ppo_lag", Free())
    algorithms.make("ppo", Free())


def test_traced_options_are_checked_when_they_are_plain_numbers_only():
    trainer = algorithms.make("ppo_lag", PointMass(), num_envs=2, steps_per_iteration=20, minibatch_size=10)
    with pytest.raises(ValueError, match="cost_limit must be at least 0"):
        trainer.init(jax.random.key(0), {"cost_limit": -3.0})
    with pytest.raises(ValueError, match="cost_limit must be at least 0"):
        trainer.init(jax.random.key(0), {"cost_limit": np.float32(-3.0)})
    with pytest.raises(TypeError, match="no traced option 'cost_limits'; did you mean 'cost_limit'"):
        trainer.init(jax.random.key(0), {"cost_limits": 3.0})
    with pytest.raises(TypeError, match="no traced option 'passes'"):
        trainer.init(jax.random.key(0), {"passes": 3})
    limits = jnp.array([1.0, 2.0])
    states = jax.vmap(lambda limit: trainer.init(jax.random.key(0), {"cost_limit": limit}))(limits)
    assert states.hyper["cost_limit"].tolist() == [[1.0], [2.0]]


def test_every_option_is_documented_in_its_class():
    for name in CATALOGUE:
        for o in hyper.describe(config_class(name)):
            assert f"{o['name']}: {o['help']}" in (config_class(name).__doc__ or "")


@pytest.mark.parametrize("name", sorted(CATALOGUE))
def test_arguments_that_no_on_policy_algorithm_reads_are_refused(name):
    with pytest.raises(ValueError, match="data must be None for an on-policy algorithm, got dict"):
        algorithms.make(name, PointMass(), data={"reward": np.zeros(3)})
    with pytest.raises(ValueError, match="data must be None for an on-policy algorithm, got dict"):
        algorithms.make(name, PointMass(), algorithms.configure(name), data={})
    trainer = algorithms.make(name, PointMass())
    with pytest.raises(ValueError, match="policy has no effect"):
        algorithms.make(name, PointMass(), policy=trainer.info.policy)

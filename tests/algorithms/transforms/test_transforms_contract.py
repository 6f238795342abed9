"""Rewritten decision processes keep the contract of environments, and presets rewrite them as published."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import algorithms
from algorithms.on_policy.catalogue import CATALOGUE
from algorithms.transforms.early_termination import EarlyTerminated
from algorithms.transforms.saute import Sauted
from algorithms.transforms.simmer import Simmered
from envs_mjx.analytic import STRESS
from jsafe import Env
from tests.support.toy_envs import Lever, PointMass
from tests.support.transformed_envs import record

NAMES = [name for name, row in CATALOGUE.items() if row.transform]


@dataclasses.dataclass(frozen=True)
class Remembering(PointMass):
    """A point mass that counts its episodes in `info`."""

    def reset(self, key):
        return super().reset(key).replace(info={"episode": jnp.zeros(())})

    def step(self, state, action):
        assert set(state.info) == {"episode"} and state.obs.shape == (5,)
        return super().step(state, action).replace(info=state.info)

    def carry_over(self, done, after, fresh):
        assert set(after.info) == {"episode"} and fresh.obs.shape == (5,)
        return fresh.replace(info={"episode": after.info["episode"] + done})


def kinds(env):
    return [
        EarlyTerminated(env, 2.0),
        EarlyTerminated(env, 2.0, observe_budget=False, keep_counting=True),
        Sauted(env, 2.5),
        Sauted(env, 2.5, saute_discount=0.9, final_budget_is_reset=True),
        Simmered(env, 2.5),
        Simmered(env, 2.5, divide_by_current=True, start_full=True),
    ]


@pytest.mark.parametrize("inner", [PointMass(), PointMass(terminates=True), Lever(), Remembering(), STRESS])
@pytest.mark.parametrize("kind", range(len(kinds(PointMass()))))
def test_rewritten_environments_keep_the_contract(inner, kind):
    env, same = kinds(inner)[kind], kinds(inner)[kind]
    assert isinstance(env, Env) and env == same and hash(env) == hash(same) and len({env, same}) == 1
    start = env.reset(jax.random.key(0))
    action = jnp.int32(1) if inner.spec.num_actions else jnp.zeros(2)
    after = jax.eval_shape(env.step, start, action)
    handed = jax.eval_shape(env.carry_over, jnp.array(True), after, start)
    for other in (after, handed):
        assert jax.tree.structure(other) == jax.tree.structure(start)
        for new, old in zip(jax.tree.leaves(other), jax.tree.leaves(start), strict=True):
            weak = [getattr(x, "weak_type", False) for x in (new, old)]  # keys have none
            assert (new.shape, new.dtype, weak[0]) == (old.shape, old.dtype, weak[1])
    assert start.obs.shape == (env.spec.observation_size,)
    assert sum(size for _, size in env.spec.observation_layout) == env.spec.observation_size
    seen = int(env.observes)
    assert env.spec.observation_size == inner.spec.observation_size + seen
    assert env.spec.observation.num_normalized == inner.spec.observation.num_normalized
    assert (env.spec.observation_layout[-1] == ("budget", 1)) == bool(seen)
    np.testing.assert_array_equal(start.obs[: inner.spec.observation_size], inner.reset(jax.random.key(0)).obs)
    starts = jax.eval_shape(jax.vmap(env.reset), jax.random.split(jax.random.key(0), 3))
    batch = jax.eval_shape(jax.vmap(env.step), starts, jnp.stack([action] * 3))
    assert batch.obs.shape == (3, env.spec.observation_size)


def test_an_environment_without_costs_is_refused():
    class Free(PointMass):
        @property
        def spec(self):
            return dataclasses.replace(super().spec, cost_names=())

    for name in NAMES:
        with pytest.raises(ValueError, match="at least one cost, and ToyPointMass-v0 has none"):
            algorithms.make(name, Free())


def test_what_the_wrapped_environment_carries_over_still_is():
    for env in kinds(Remembering(episode_length=4))[1::3]:
        state, _ = record(env, 9)
        np.testing.assert_array_equal(state.env.info["episode"] >= 2, True)


def test_tools_reach_the_wrapped_environment():
    assert Sauted(PointMass()).hazard_radius == 0.5
    with pytest.raises(AttributeError, match="nothing_like_it"):
        _ = Sauted(PointMass()).nothing_like_it


def test_presets_hold_what_omnisafe_publishes():
    published = {"passes": 40, "minibatch_size": 64, "learning_rate": 3e-4, "discount": 0.99, "target_kl": 0.02}
    budget = {"safety_budget": 25.0, "saute_discount": 0.999, "unsafe_reward": -1.0}
    gains = {"budget_kp": 5e-4, "budget_ki": 1e-5, "budget_kaw": 0.0, "budget_smoothing": 0.995, "budget_window": 10}
    for name, own in [
        # One environment there, so that fresh starts cut one episode of an iteration; twenty of them would cut twenty.
        ("PPOEarlyTerminated", {"cost_limit": 25.0, "observe_budget": False, "reset_at_iteration_start": False}),
        ("PPOEarlyTerminated", {"keep_counting": True}),
        ("PPOSaute", {**budget, "final_budget_is_reset": True, "reset_at_iteration_start": True}),
        ("PPOSimmerPID", {**budget, **gains, "initial_budget": 1.0, "divide_by_current": True, "start_full": True}),
    ]:
        expected = {**published, **own}
        config = algorithms.make(name, PointMass(), "omnisafe").info.config
        assert {k: config[k] for k in expected} == expected


def test_other_algorithms_are_not_rewritten():
    env = PointMass()
    assert algorithms.rewrite("ppo_lag", env, {"cost_limit": 3.0}) is env
    config = algorithms.make("PPOSaute", env, "omnisafe", safety_budget=7.0).info.config
    assert algorithms.rewrite("PPOSaute", env, config) == Sauted(env, 7.0, final_budget_is_reset=True)

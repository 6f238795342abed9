"""Whole training runs on small CMDPs with known answers."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import algorithms
import jsafe
from algorithms import Networks, constraints
from algorithms.on_policy import trainer as loop
from algorithms.on_policy.advantages import Collected, Critics, make_batch
from algorithms.on_policy.catalogue import CATALOGUE
from algorithms.on_policy.interfaces import Update, value_names
from algorithms.on_policy.policy_networks import default_networks
from algorithms.registry import config_class
from jsafe import rollout
from jsafe.networks.mlp import Network
from tests.support.toy_envs import Counter, Lever, PointMass, Throttle

TINY = {"num_envs": 4, "steps_per_iteration": 80, "minibatch_size": 20, "passes": 2, "hidden_sizes": (8, 8)}


def constant_value(level):
    return Network(
        init=lambda key: {"level": jnp.float32(level)}, apply=lambda p, x: jnp.full(x.shape[:-1], p["level"])
    )


@pytest.fixture(scope="module")
def lag():
    """PPO-Lag on the point mass: the trainer, and its compiled functions."""
    trainer = algorithms.make("ppo_lag", PointMass(terminates=True), cost_limit=1.0, total_steps=240, **TINY)
    return trainer, jax.jit(trainer.init), jax.jit(trainer.step)


def test_metrics_have_their_fixed_names(lag):
    _, init, step = lag
    state, metrics = step(init(jax.random.key(0)))
    assert {"env_steps", "return", "cost", "length", "multiplier", "episodes"} <= set(metrics)
    assert {"kl", "passes", "entropy", "policy_loss", "clip_fraction", "skipped", "bad_action"} <= set(metrics)
    assert {"reward_value_loss", "cost_value_loss"} <= set(metrics)
    assert all(v.shape == () for v in metrics.values())
    assert int(metrics["env_steps"]) == 80 and int(step(state)[1]["env_steps"]) == 160
    assert 4 <= int(metrics["episodes"]) and 0 < float(metrics["length"]) <= 20.0
    assert int(state.iteration) == 1 and int(state.skipped) == 0
    assert float(metrics["bad_action"]) > 0  # a unit Gaussian leaves [-1, 1]


def test_both_values_are_bootstrapped_at_time_limits_and_neither_at_terminations():
    level = 7.0
    value = constant_value(level)

    def targets(env):
        nets = default_networks(env, config_class("ppo_lag")())
        nets = Networks(nets.policy, value, value)

        hyper = {"discount": 0.9, "cost_discount": 0.8, "gae_lambda": 1.0, "cost_gae_lambda": 1.0}

        @jax.jit
        def run(key):
            params = {n: getattr(nets, n).init(key) for n in nets._fields}

            def act(obs, key):
                del key
                acting = nets.policy.apply(params["policy"], obs).per_sample()
                action = acting.mode()
                return action, {"action": action, "log_prob": acting.log_prob(action), "acting": acting}

            _, t, _ = rollout.unroll(env, act, rollout.init(env, key, 1), key, 6)
            seen = Collected(
                t.obs, t.next_obs, t.action, t.extras["log_prob"], t.extras["acting"], t.reward, t.cost, t.terminated,
                t.truncated,
            )  # fmt: skip
            critics = Critics(nets, ("reward_value", "cost_value"), params)
            made = make_batch(seen, critics, lambda r, c: constraints.weighted(r, c, jnp.zeros(1)), hyper)
            return made.targets

        return {k: np.asarray(v) for k, v in run(jax.random.key(0)).items()}

    cut, ended = targets(Counter(episode_length=3)), targets(Counter(episode_length=3, end=3))
    # Third step of a three-step episode, reward 1 and cost 1: bootstrapped or not.
    assert cut["reward_value"][2] == pytest.approx(1 + 0.9 * level) and ended["reward_value"][2] == pytest.approx(1.0)
    assert cut["cost_value"][2] == pytest.approx(1 + 0.8 * level) and ended["cost_value"][2] == pytest.approx(1.0)
    # First step: three rewards, then the bootstrap.
    assert cut["reward_value"][0] == pytest.approx(1 + 0.9 + 0.81 + 0.9**3 * level, rel=1e-5)
    assert ended["cost_value"][0] == pytest.approx(1 + 0.8 + 0.64, rel=1e-5)


def test_a_whole_iteration_hands_the_update_what_the_formulas_say():
    """Eight steps of one environment whose episodes last five: one time limit inside, one cut at the end."""

    def slope(level):
        return Network(init=lambda key: {"slope": jnp.float32(level)}, apply=lambda p, x: p["slope"] * x[..., 0])

    env = Counter(episode_length=5)
    options = config_class("ppo_lag")(
        num_envs=1, steps_per_iteration=8, minibatch_size=8, normalize_observations=False, discount=0.9,
        cost_discount=0.8, gae_lambda=0.7, cost_gae_lambda=0.6, multiplier_init=2.0, multiplier_learning_rate=0.0,
    )  # fmt: skip
    nets = default_networks(env, options)._replace(reward_value=slope(0.3), cost_value=slope(-0.5))

    def apply(key, params, optimizer, batch, status, hyper):
        seen = {"advantage": batch.advantage, **batch.targets, "skipped": jnp.zeros((), jnp.int32)}
        return params, optimizer, seen

    trainer = loop.build(
        algorithm="ppo_lag", env=env, config=options, networks=nets, values=value_names(1),
        update=Update(lambda params: (), apply), constraint=constraints.LAGRANGE, policy=None,
    )  # fmt: skip
    _, seen = jax.jit(trainer.step)(trainer.init(jax.random.key(0)))

    def advantages(slope, discount, weight):
        ages = np.array([0, 1, 2, 3, 4, 0, 1, 2])
        delta = 1 + discount * slope * (ages + 1) - slope * ages  # the observation before a reset is age + 1
        result = np.zeros(8)
        for t in range(8):
            last = 4 if t < 5 else 7
            result[t] = sum((discount * weight) ** (k - t) * delta[k] for k in range(t, last + 1))
        return result, result + slope * ages

    reward, reward_target = advantages(0.3, 0.9, 0.7)
    cost, cost_target = advantages(-0.5, 0.8, 0.6)
    expected = ((reward - reward.mean()) / reward.std() - 2.0 * (cost - cost.mean())) / 3.0
    np.testing.assert_allclose(seen["reward_value"], reward_target, rtol=1e-5)
    np.testing.assert_allclose(seen["cost_value"], cost_target, rtol=1e-5)
    np.testing.assert_allclose(seen["advantage"], expected, rtol=1e-4, atol=1e-5)


def test_vmapped_seeds_give_the_numbers_of_single_runs(lag):
    trainer, init, step = lag
    keys = jax.random.split(jax.random.key(5), 2)
    together = jax.jit(jax.vmap(lambda key: jsafe.run(trainer, key, 3)[1]))(keys)
    for i, key in enumerate(keys):
        state = init(key)
        for iteration in range(3):
            state, alone = step(state)
            for name in alone:
                np.testing.assert_allclose(
                    together[name][i, iteration], alone[name], rtol=2e-3, atol=2e-4, err_msg=name
                )


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("name", algorithms.names())
def test_state_keeps_its_types_over_an_iteration(name, double):
    with jax.enable_x64(double):
        trainer = algorithms.make(name, PointMass(), **TINY)
        before = jax.eval_shape(trainer.init, jax.random.key(0))
        after, _ = jax.eval_shape(trainer.step, before)
    for old, new in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True):
        assert (old.shape, old.dtype, old.weak_type) == (new.shape, new.dtype, new.weak_type)


def test_multiplier_waits_for_the_first_finished_episode():
    trainer = algorithms.make("ppo_lag", Throttle(episode_length=50), cost_limit=0.0, total_steps=400, **TINY)
    _, metrics = jax.jit(lambda k: jsafe.run(trainer, k, 4))(jax.random.key(0))
    cost, multiplier = np.asarray(metrics["cost"]), np.asarray(metrics["multiplier"])
    assert np.isnan(cost[:2]).all() and np.isfinite(cost[2:]).all()  # 20 steps per iteration: the third ends episodes
    np.testing.assert_allclose(multiplier, [0.001, 0.001, 0.036, 0.071], rtol=0.05)
    assert metrics["skipped"].tolist() == [0, 0, 0, 0]


def test_fresh_start_at_each_iteration_drops_running_episodes():
    sizes = {**TINY, "total_steps": 240}
    kept = algorithms.make("ppo", Counter(episode_length=30), **sizes)
    fresh = algorithms.make("ppo", Counter(episode_length=30), preset="omnisafe", **sizes)

    def episodes(trainer):
        return jax.jit(lambda key: jsafe.run(trainer, key, 3)[1]["episodes"])(jax.random.key(0)).tolist()

    assert episodes(kept) == [0, 4, 4]
    assert episodes(fresh) == [0, 0, 0]


def test_observations_are_not_rescaled_before_the_first_iteration_ends(lag):
    _, init, step = lag
    state = init(jax.random.key(0))
    np.testing.assert_array_equal(state.algo.normalizer.std, np.ones(5))
    after, _ = step(state)
    assert float(after.algo.normalizer.std[4]) > 1.5  # the age of an episode runs up to 19
    assert int(after.algo.normalizer.count.lo) == 80


def test_a_network_of_the_users_takes_the_place_of_a_built_in_one():
    env = PointMass()
    options = config_class("ppo_lag")()
    nets = default_networks(env, options)._replace(cost_value=constant_value(1.0))
    own = {k: v for k, v in TINY.items() if k != "hidden_sizes"}
    trainer = algorithms.make("ppo_lag", env, networks=nets, total_steps=160, **own)
    state, metrics = jax.jit(lambda k: jsafe.run(trainer, k, 2))(jax.random.key(0))
    assert trainer.info.policy is None
    assert set(state.params["cost_value"]) == {"level"} and float(state.params["cost_value"]["level"]) != 1.0
    assert np.isfinite(metrics["policy_loss"]).all()


@dataclasses.dataclass(frozen=True)
class Leaking(Throttle):
    """A throttle whose meter fails now and then: the cost of a step is NaN once in 300."""

    def step(self, state, action):
        after = super().step(state, action)
        broken = jax.random.bernoulli(jax.random.fold_in(state.data, 1), 1 / 300)
        cost = jnp.where(broken, jnp.nan, after.cost)
        return dataclasses.replace(after, cost=cost)


@pytest.mark.parametrize("name", ["cpo", "ppo_lag"])
def test_a_meter_that_fails_now_and_then_does_not_switch_the_limit_off(name):
    trainer = algorithms.make(name, Leaking(), total_steps=240 * 20, **{**TINY, "steps_per_iteration": 240})
    state, metrics = jax.jit(lambda k: jsafe.run(trainer, k, 20))(jax.random.key(0))
    assert int(state.skipped) > 0  # the steps on those batches are dropped and counted
    assert np.isfinite(metrics["cost"]).all() and np.isfinite(metrics["return"]).all()
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.params))


def watched(name, env, options, values, see):
    """A trainer that learns nothing and reports the arguments of its update and the targets."""

    def apply(key, params, optimizer, batch, status, hyper):
        return params, optimizer, {**batch.targets, **see(status), "skipped": jnp.zeros((), jnp.int32)}

    nets = default_networks(env, options)._replace(reward_value=values, cost_value=values)
    return loop.build(
        algorithm=name, env=env, config=options, networks=nets, values=value_names(1),
        update=Update(lambda params: (), apply), constraint=constraints.LAGRANGE, policy=None,
    )  # fmt: skip


def two_iterations(trainer):
    step = jax.jit(trainer.step)
    state, first = step(trainer.init(jax.random.key(0)))
    return first, step(state)[1]


def test_rewards_and_costs_are_scaled_by_what_was_seen_before():
    """The first iteration learns from them as they are, the second from `(x - mean) / deviation`, both within 5."""
    options = config_class("pdo")(
        num_envs=2, steps_per_iteration=20, minibatch_size=20, discount=0.0, cost_discount=0.0,
        normalize_observations=False,
    )  # fmt: skip
    scaled = dataclasses.replace(options, normalize_rewards=True, normalize_costs=True)
    (raw_first, raw_second), (first, second) = (
        two_iterations(watched("pdo", Throttle(), o, constant_value(0.0), lambda signal: {})) for o in (options, scaled)
    )
    for name in ("reward_value", "cost_value"):
        np.testing.assert_array_equal(first[name], np.clip(raw_first[name], -5, 5))
        before = np.asarray(raw_first[name])
        target = np.clip((np.asarray(raw_second[name]) - before.mean()) / before.std(), -5, 5)
        np.testing.assert_allclose(second[name], target, rtol=1e-4, atol=1e-4)


def test_the_safepo_preset_smooths_costs_twice_and_bootstraps_from_the_bare_observation():
    """Two iterations of two episodes of `Counter`, whose cost is 1 a step and whose observation is its age."""
    age = Network(init=lambda key: {"slope": jnp.float32(1.0)}, apply=lambda p, x: p["slope"] * x[..., 0])
    settings = CATALOGUE["ppo_lag"].presets["safepo"] | {"num_envs": 1, "steps_per_iteration": 10, "minibatch_size": 10}
    options = config_class("ppo_lag")(**settings, discount=1.0, gae_lambda=0.0)
    trainer = watched(
        "ppo_lag", Counter(episode_length=5), options, age, lambda s: {"episode_cost": s.episode_costs[0]}
    )
    first, second = two_iterations(trainer)
    assert float(first["episode_cost"]) == 0.0 and float(second["episode_cost"]) == pytest.approx(5.0)
    # Ages 0 to 4 have mean 2 and deviation sqrt(2). One step ahead: reward 1 and the value of the next observation,
    # normalised inside the episode, and the bare 5 at its end.
    inside = 1 + (np.arange(1, 5) - 2) / np.sqrt(2)
    np.testing.assert_allclose(second["reward_value"], np.tile([*inside, 1 + 5.0], 2), rtol=1e-4)


LEARN = {
    "num_envs": 10,
    "steps_per_iteration": 400,
    "minibatch_size": 50,
    "passes": 10,
    "learning_rate": 3e-3,
    "value_learning_rate": 3e-3,
    "hidden_sizes": (8, 8),
}


def curves(name, iterations, **changes):
    trainer = algorithms.make(name, Throttle(), total_steps=400 * iterations, **LEARN, **changes)
    keys = jax.random.split(jax.random.key(0), 2)
    return {
        k: np.asarray(v) for k, v in jax.jit(jax.vmap(lambda k: jsafe.run(trainer, k, iterations)[1]))(keys).items()
    }


def test_without_a_constraint_the_best_action_is_learned():
    result = curves("ppo", 80)
    assert (result["return"][:, -1] > -1.0).all()  # from about -20
    np.testing.assert_allclose(result["cost"][:, -1], 10.0, atol=0.5)


@pytest.mark.parametrize(
    "name, rates",
    [("ppo_lag", {"multiplier_learning_rate": 0.3}), ("cppo_pid", {"pid_ki": 0.1, "pid_kp": 1.0})],
)
def test_a_constrained_method_brings_the_cost_to_its_limit(name, rates):
    result = curves(name, 150, cost_limit=4.0, **rates)
    late = result["cost"][:, 75:]
    np.testing.assert_allclose(late.mean(), 4.0, atol=1.5)  # 10 without the constraint
    assert (result["multiplier"][:, 75:].mean(1) > 0.5).all()
    assert result["return"][:, 75:].mean() > -8.0  # the best action within the limit gives -3.6


@pytest.mark.parametrize("name", ["ppo_lag", "cppo_pid"])
def test_each_of_several_costs_has_its_own_limit_and_multiplier(name):
    """The first cost is far above its limit and the second far below: only the first multiplier rises."""
    trainer = algorithms.make(name, Lever(), cost_limit=(0.0, 100.0), total_steps=240, **TINY)
    state, metrics = jax.jit(lambda k: jsafe.run(trainer, k, 3))(jax.random.key(0))
    wear, noise = metrics["multiplier_wear"], metrics["multiplier_noise"]
    assert (np.diff(wear) > 0).all() and (noise <= 0.001).all()
    np.testing.assert_allclose(metrics["cost"], metrics["cost_wear"] + metrics["cost_noise"], rtol=1e-5)
    np.testing.assert_allclose(metrics["multiplier"], wear + noise, rtol=1e-6)
    assert {"reward_value", "cost_value_0", "cost_value_1"} <= set(state.params)


def test_limits_of_several_costs_may_differ_across_a_population():
    trainer = algorithms.make("ppo_lag", Lever(), cost_limit=(0.0, 100.0), total_steps=240, **TINY)
    limits = jnp.array([[0.0, 100.0], [100.0, 0.0]])
    run = jax.jit(jax.vmap(lambda limit: jsafe.run(trainer, jax.random.key(0), 3, {"cost_limit": limit})[1]))
    rises = np.stack([run(limits)[f"multiplier_{n}"][:, -1] for n in ("wear", "noise")], axis=1) > 0.01
    np.testing.assert_array_equal(rises, [[True, False], [False, True]])


def test_a_discrete_policy_learns_the_best_choice():
    trainer = algorithms.make("ppo", Lever(), total_steps=2000, **{**TINY, "learning_rate": 0.02, "passes": 8})
    _, metrics = jax.jit(lambda k: jsafe.run(trainer, k, 25))(jax.random.key(0))
    assert float(metrics["return"][0]) < 7.0 and float(metrics["return"][-1]) > 9.0  # of 10

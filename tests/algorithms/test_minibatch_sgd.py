"""The minibatch engine: stopping, padding, skipping, and agreement with a plain loop."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from algorithms.on_policy import first_order, minibatch_sgd, stacked_mlp
from algorithms.on_policy.interfaces import Batch, Networks
from algorithms.on_policy.updates import ppo
from algorithms.registry import config_class
from jsafe.networks.actor_critic import make_policy, make_value
from jsafe.spaces import Box
from tests.support.signals import signal

SAMPLES, OBS, ACTIONS = 90, 5, 2
VALUES = ("reward_value", "cost_value")
SIGNAL = signal(progress=0.25)


def options(**changes):
    small = {"num_envs": 1, "steps_per_iteration": SAMPLES, "minibatch_size": 20, "passes": 2, "target_kl": np.inf}
    return config_class("ppo_lag")(
        **{**small, "learning_rate": 3e-3, "value_learning_rate": 1e-3, "value_l2": 0.1, **changes}
    )


def built_in(hidden=(16, 16), activation="tanh"):
    body = {"hidden_sizes": hidden, "activation": activation}
    value = make_value(Box(OBS), **body)
    return Networks(make_policy(Box(OBS), Box(ACTIONS, low=-1.0, high=1.0), **body), value, value)


def foreign(built):
    """The same functions, not recognisable as built-in."""
    return Networks(*(n._replace(apply=lambda params, obs, n=n: n.apply(params, obs)) for n in built))


def start(nets, values=VALUES):
    keys = jax.random.split(jax.random.key(3), 1 + len(values))
    params = {name: getattr(nets, name).init(k) for name, k in zip(("policy", *values), keys, strict=True)}
    keys = jax.random.split(jax.random.key(4), 4)
    obs = jax.random.normal(keys[0], (SAMPLES, OBS))
    acting = nets.policy.apply(params["policy"], obs)
    action = acting.sample(keys[1])
    advantage = jax.random.normal(keys[2], (SAMPLES,))
    targets = dict(zip(values, 3.0 * jax.random.normal(keys[3], (len(values), SAMPLES)), strict=True))
    return params, Batch(
        obs=obs,
        action=action,
        log_prob=acting.log_prob(action),
        acting=acting.per_sample(),
        advantage=advantage,
        reward_advantage=advantage,
        cost_advantages=advantage[:, None],
        targets=targets,
    )


def update(nets, opts, params, batch, values=VALUES, key=0, jit=True):
    made = first_order.make(ppo.loss, nets, values, opts)
    hyper = {k: jnp.float32(v) for k, v in opts.traced().items()}
    apply = jax.jit(made.apply) if jit else made.apply
    return apply(jax.random.key(key), params, made.init(params), batch, SIGNAL, hyper)


def by_plain_loop(nets, opts, params, batch, key=0):
    """The same update written as Python loops over minibatches, one optax chain per network."""
    key = jax.random.key(key)
    rates = {"policy": opts.learning_rate * 0.75, "reward_value": opts.value_learning_rate}
    rates["cost_value"] = opts.value_learning_rate
    chains = {n: optax.chain(optax.clip_by_global_norm(opts.max_grad_norm), optax.adam(r)) for n, r in rates.items()}
    states = {n: chains[n].init(params[n]) for n in rates}

    def policy_loss(p, rows):
        ratio = jnp.exp(nets.policy.apply(p, batch.obs[rows]).log_prob(batch.action[rows]) - batch.log_prob[rows])
        a = batch.advantage[rows]
        return -jnp.mean(jnp.minimum(ratio * a, jnp.clip(ratio, 0.8, 1.2) * a))

    def value_loss(p, rows, targets):
        error = nets.reward_value.apply(p, batch.obs[rows]) - targets[rows]
        return jnp.mean(error**2) + opts.value_l2 * sum(jnp.sum(x**2) for x in jax.tree.leaves(p))

    policy_grad, value_grad = jax.jit(jax.grad(policy_loss)), jax.jit(jax.grad(value_loss))
    changes = {n: jax.jit(chain.update) for n, chain in chains.items()}

    for _ in range(opts.passes):
        key, shuffle_key = jax.random.split(key)
        order = np.asarray(minibatch_sgd.shuffled(shuffle_key, SAMPLES, opts.minibatch_size)).reshape(-1)[:SAMPLES]
        for i in range(0, SAMPLES, opts.minibatch_size):
            rows = order[i : i + opts.minibatch_size]
            grads = {"policy": policy_grad(params["policy"], rows)}
            grads |= {name: value_grad(params[name], rows, batch.targets[name]) for name in VALUES}
            for n in rates:
                change, states[n] = changes[n](grads[n], states[n])
                params = {**params, n: optax.apply_updates(params[n], change)}
    return params


def assert_close(tree, other, **tolerance):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **tolerance), tree, other)


def test_a_pass_visits_every_sample_once_and_pads_with_weight_zero():
    index = minibatch_sgd.shuffled(jax.random.key(0), 90, 20)
    weights = minibatch_sgd.weights(90, 20)
    assert index.shape == weights.shape == (5, 20)
    np.testing.assert_array_equal(np.sort(index[weights > 0]), np.arange(90))
    np.testing.assert_allclose(weights.sum(1), 1.0, rtol=1e-6)
    np.testing.assert_allclose(weights[-1], [0.1] * 10 + [0.0] * 10, rtol=1e-6)


def test_update_equals_a_plain_loop_with_a_smaller_last_minibatch():
    nets = foreign(built_in())
    params, batch = start(nets)
    opts = options(max_grad_norm=0.5)
    new, _, metrics = update(nets, opts, params, batch)
    assert int(metrics["passes"]) == 2
    assert_close(new, by_plain_loop(nets, opts, params, batch), rtol=2e-3, atol=2e-5)


def test_passes_end_once_the_policy_has_moved():
    nets = built_in()
    params, batch = start(nets)
    *_, held = update(nets, options(passes=12, target_kl=5e-3), params, batch)
    stopped = int(held["passes"])
    assert 1 < stopped < 12 and float(held["kl"]) > 5e-3
    *_, before = update(nets, options(passes=stopped - 1), params, batch)
    assert int(before["passes"]) == stopped - 1 and float(before["kl"]) <= 5e-3


def test_passes_end_for_each_member_of_a_population_by_itself():
    nets = built_in()
    params, batch = start(nets)
    opts = options(passes=6, target_kl=0.02)
    made = first_order.make(ppo.loss, nets, VALUES, opts)

    def one(target):
        hyper = {**{k: jnp.float32(v) for k, v in opts.traced().items()}, "target_kl": target}
        return made.apply(jax.random.key(0), params, made.init(params), batch, SIGNAL, hyper)

    targets = jnp.array([1e-6, 5e-3, 1.0])
    together = jax.jit(jax.vmap(one))(targets)
    assert len(set(together[2]["passes"].tolist())) == 3
    for i, target in enumerate(targets):
        alone = jax.jit(one)(target)
        assert_close(jax.tree.map(lambda x, i=i: x[i], together[0]), alone[0], rtol=1e-3, atol=1e-5)
        assert int(together[2]["passes"][i]) == int(alone[2]["passes"])


@pytest.mark.parametrize("make_foreign", [True, False])
def test_steps_that_are_not_finite_are_dropped_and_counted(make_foreign):
    nets = foreign(built_in()) if make_foreign else built_in()
    params, batch = start(nets)
    broken = dataclasses.replace(batch, advantage=batch.advantage.at[7].set(jnp.nan))
    new, _, metrics = update(nets, options(), params, broken)
    assert int(metrics["skipped"]) == 2  # one of the five minibatches of each of two passes
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(new))
    assert not np.allclose(new["policy"]["log_std"], params["policy"]["log_std"])


def test_joint_bound_scales_all_networks_alike():
    scales, finite = minibatch_sgd.grad_scales({"a": jnp.float32(3.0), "b": jnp.float32(4.0)}, 1.0, joint=True)
    assert bool(finite) and float(scales["a"]) == float(scales["b"]) == pytest.approx(0.2)
    scales, _ = minibatch_sgd.grad_scales({"a": jnp.float32(0.5), "b": jnp.float32(4.0)}, 1.0, joint=False)
    assert float(scales["a"]) == 1.0 and float(scales["b"]) == pytest.approx(0.25)


def test_policy_rate_decays_and_value_rates_do_not():
    opts = options()
    rates = first_order.learning_rates(("policy", "reward_value"), opts, SIGNAL, opts.traced())
    assert float(rates["policy"]) == pytest.approx(0.75 * 3e-3) and float(rates["reward_value"]) == pytest.approx(1e-3)
    constant = dataclasses.replace(opts, learning_rate_decay=False)
    assert float(first_order.learning_rates(("policy",), constant, SIGNAL, opts.traced())["policy"]) == pytest.approx(
        3e-3
    )


@pytest.mark.parametrize(
    "values, hidden, activation",
    [
        (VALUES, (16, 16), "tanh"),
        (VALUES[:1], (16, 8, 12), "elu"),
        (VALUES, (16,), "relu"),
        (VALUES, (8, 8), "softplus"),
    ],
)
def test_stacked_networks_are_trained_like_separate_ones(values, hidden, activation):
    nets = built_in(hidden, activation)
    trained = ("policy", *values)
    assert stacked_mlp.fits(nets, trained) and not stacked_mlp.fits(foreign(nets), trained)
    params, batch = start(nets, values)
    opts = options(max_grad_norm=0.5, entropy_coefficient=0.01)
    new, moments, metrics = update(nets, opts, params, batch, values)
    expected, expected_moments, expected_metrics = update(foreign(nets), opts, params, batch, values)
    assert_close(new, expected, rtol=2e-3, atol=2e-5)
    assert_close(moments, expected_moments, rtol=1e-2, atol=1e-6)
    assert_close(metrics, expected_metrics, rtol=2e-3, atol=1e-5)


def test_gradient_by_hand_equals_automatic_differentiation():
    nets = built_in((16, 12))
    params, batch = start(nets)
    opts = options()
    hyper = {**opts.traced(), "entropy_coefficient": 0.01}
    loss = lambda *at: ppo.loss(*at, SIGNAL, hyper)  # noqa: E731
    objective = minibatch_sgd.Objective(loss, hyper, {}, joint_grad_norm=False)
    weights = jnp.linspace(0.0, 2.0, SAMPLES) / SAMPLES
    moved = jax.tree.map(lambda p: p + 0.05 * jnp.sin(jnp.arange(p.size).reshape(p.shape)), params)

    def total(p):
        outputs = {name: getattr(nets, name).apply(p[name], batch.obs) for name in VALUES}
        policy = nets.policy.apply(p["policy"], batch.obs)
        loss = minibatch_sgd.output_loss(policy, outputs, batch, weights, objective)
        return loss + opts.value_l2 * sum(jnp.sum(x * x) for x in jax.tree.leaves([p[name] for name in VALUES]))

    sizes = stacked_mlp.Sizes(OBS, (16, 12), ACTIONS, 3)
    names = ("policy", *VALUES)
    rows = stacked_mlp.stepper(nets, names).prepare(batch)
    perceptron = nets.policy.apply

    def by_hand(p):
        stacked = stacked_mlp.stack(p, names, sizes)
        return stacked_mlp.unstack(
            stacked_mlp.gradients(stacked, rows, weights, objective, names, sizes, perceptron), names, sizes
        )

    assert_close(jax.jit(by_hand)(moved), jax.jit(jax.grad(total))(moved), rtol=1e-3, atol=1e-5)


def test_stacking_loses_nothing():
    params, _ = start(built_in((16, 8, 12)))
    sizes = stacked_mlp.Sizes(OBS, (16, 8, 12), ACTIONS, 3)
    names = ("policy", *VALUES)
    jax.tree.map(
        np.testing.assert_array_equal,
        stacked_mlp.unstack(stacked_mlp.stack(params, names, sizes), names, sizes),
        params,
    )


def test_cheap_permutation_is_one_and_puts_every_sample_anywhere():
    orders = np.stack([minibatch_sgd.permutation(key, 50) for key in jax.random.split(jax.random.key(0), 200)])
    np.testing.assert_array_equal(np.sort(orders, axis=1), np.tile(np.arange(50), (200, 1)))
    np.testing.assert_allclose(orders.mean(0), 24.5, atol=5 * 50 / 12**0.5 / 200**0.5)
    assert abs(np.corrcoef(orders[:, :-1].ravel(), orders[:, 1:].ravel())[0, 1]) < 0.05

"""The library's multipliers and updates for the policy and data of `by_hand`, and how close they have to be."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from algorithms.on_policy.catalogue import CATALOGUE
from algorithms.on_policy.interfaces import Batch, Networks, value_names
from algorithms.registry import config_class
from jsafe.networks.actor_critic import make_policy, make_value
from jsafe.spaces import Box
from tests.support.numpy_reference import ACTIONS, LENGTH, LIMITS, OBS, PROGRESS, SAMPLES, START, VALUES, log_prob
from tests.support.signals import signal


def linear_networks():
    value = make_value(Box(OBS), hidden_sizes=())
    return Networks(make_policy(Box(OBS), Box(ACTIONS, low=-1.0, high=1.0), hidden_sizes=()), value, value)


NETWORKS = linear_networks()
QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


def as_policy(theta):
    theta = jnp.asarray(theta, jnp.float32)
    layer = {"kernel": theta[:6].reshape(OBS, ACTIONS), "bias": theta[6:8]}
    return {"mean": {"layer_0": layer}, "log_std": theta[8:]}


def as_value(w):
    w = jnp.asarray(w, jnp.float32)
    return {"layer_0": {"kernel": w[:OBS, None], "bias": w[OBS:]}}


def as_vector(tree):
    layer = tree.get("mean", tree)["layer_0"]
    parts = [np.ravel(layer["kernel"]), layer["bias"], *([tree["log_std"]] if "log_std" in tree else [])]
    return np.concatenate(parts).astype(np.float64)


def as_adam(state, tree):
    return optax.ScaleByAdamState(jnp.asarray(state[0], jnp.int32), tree(state[1]), tree(state[2]))


def options(name, preset, count=1, **changes):
    small = {"num_envs": 1, "steps_per_iteration": SAMPLES, "minibatch_size": SAMPLES, "passes": 2, "hidden_sizes": ()}
    limit = {} if CATALOGUE[name].constraint is None else {"cost_limit": LIMITS[:count] if count > 1 else LIMITS[0]}
    return config_class(name)(**{**CATALOGUE[name].presets[preset], **small, **limit, **changes})


def hyper_of(chosen, **changes):
    result = {k: jnp.asarray(v, jnp.float32) for k, v in {**chosen.traced(), **changes}.items()}
    return {**result, "cost_limit": jnp.atleast_1d(result["cost_limit"])} if "cost_limit" in result else result


@functools.cache
def compiled(name, preset, count=1, **static):
    chosen = options(name, preset, count, **static)
    update = CATALOGUE[name].update.make(NETWORKS, value_names(count), chosen)
    return jax.jit(update.apply, compiler_options=QUICK), chosen


def weights_of(name, preset, episodes, count=1):
    """Multipliers after each row of costs."""
    chosen = options(name, preset, count)
    part, hyper = CATALOGUE[name].constraint.make(chosen), hyper_of(chosen)

    def step(state, costs):
        state = part.update(state, costs, hyper)
        return state, part.value(state)

    rows = jnp.asarray(episodes[:, :count], jnp.float32)
    return np.asarray(jax.jit(lambda rows: jax.lax.scan(step, part.init(hyper), rows))(rows)[1])


class Result(NamedTuple):
    policy: np.ndarray
    values: list
    states: list  # of Adam, the policy's first unless it has none
    metrics: dict


def update(name, preset, data, states, *, episode_cost, weights, static=(), length=LENGTH, **changes):
    """One update by the library, from START and VALUES."""
    count = data.costs.shape[1]
    apply, chosen = compiled(name, preset, count, **dict(static))
    names = value_names(count)
    single = np.float32
    acting = NETWORKS.policy.apply(as_policy(data.acting), jnp.asarray(data.obs, jnp.float32))
    constraint = CATALOGUE[name].constraint
    weights = jnp.asarray(weights, jnp.float32)
    reward, costs = jnp.asarray(data.reward, jnp.float32), jnp.asarray(data.costs, jnp.float32)
    batch = Batch(
        obs=single(data.obs),
        action=single(data.action),
        log_prob=single(log_prob(data.acting, data)),
        acting=acting.per_sample(),
        advantage=constraint.mix(reward, costs, weights) if constraint else reward,
        reward_advantage=reward,
        cost_advantages=costs,
        targets=dict(zip(names, single(data.targets), strict=True)),
    )
    known = {"weights": weights, "episode_costs": episode_cost, "limits": LIMITS[:count]}
    status = signal(**known, episode_length=length, progress=PROGRESS)
    params = {"policy": as_policy(START), **{n: as_value(w) for n, w in zip(names, VALUES, strict=False)}}
    trained = [("policy", as_policy), *((n, as_value) for n in names)][-len(states) :]
    optimizer = {n: as_adam(s, tree) for (n, tree), s in zip(trained, states, strict=True)}
    new, after, metrics = apply(jax.random.key(0), params, optimizer, batch, status, hyper_of(chosen, **changes))
    result = [(int(after[n].count), as_vector(after[n].mu), as_vector(after[n].nu)) for n, _ in trained]
    numbers = {k: np.asarray(v) for k, v in metrics.items()}
    return Result(as_vector(new["policy"]), [as_vector(new[n]) for n in names], result, numbers)


def assert_states(result, expected):
    for (count, m, v), (count2, m2, v2) in zip(result, expected, strict=True):
        assert count == count2
        np.testing.assert_allclose(m, m2, rtol=3e-5, atol=4e-6)
        np.testing.assert_allclose(v, v2, rtol=8e-5, atol=2e-8)


def assert_moved(result, expected, rate):
    """Parameters to a thousandth of a step, or the last digit of float32."""
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-3 * rate + 1.2e-7)

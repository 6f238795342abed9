"""For tests of the host side: a trainer that learns in microseconds, a small policy regressed to a noisy target."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jsafe import PolicySpec, Trainer, TrainerInfo, TrainState, running_statistics
from jsafe.spaces import Box
from jsafe.trainer import MetricSpec

SPEC = PolicySpec(observation=Box(3), action=Box(2, low=-1.0, high=1.0), kwargs={"hidden_sizes": (4,)})


class ToyAlgo(NamedTuple):
    """State of the toy method."""

    total: Any
    normalizer: Any


def make_tiny(
    *,
    pause: float = 0.0,
    bad_action_at: int | None = None,
    diverge_at: int | None = None,
    host: Callable[[np.ndarray], np.ndarray] | None = None,
) -> Trainer:
    """`pause` seconds per step; a bad action, or nothing but skipped updates, from an iteration on (member 1 only if
    its hyper-parameter `faulty` is 1); `host` doubles as a callback inside the step."""
    network = SPEC.build()
    callback = host or (lambda x: (time.sleep(pause), np.asarray(x))[1])

    def init(key: jax.Array, hyper: dict[str, Any] | None = None) -> TrainState:
        if isinstance((hyper or {}).get("step_size"), float) and hyper["step_size"] < 0:
            raise ValueError(f"step_size must not be negative, got {hyper['step_size']}")
        k_params, k_state, key = jax.random.split(key, 3)
        return TrainState(
            params={"policy": network.init(k_params)},
            optimizer={"momentum": jnp.zeros(3), "nothing": jnp.zeros((0, 2))},
            # The total is a Python number, as careless code would leave it.
            algo=ToyAlgo(total=0.0, normalizer=running_statistics.init(SPEC.observation)),
            memory={"obs": jax.random.normal(k_state, (5, 3)), "key": key},
            key=key,
            iteration=jnp.int32(0),
            skipped=jnp.int32(0),
            hyper={k: jnp.float32(v) for k, v in {"step_size": 0.1, "faulty": 0.0, **(hyper or {})}.items()},
        )

    def step(state: TrainState) -> tuple[TrainState, dict[str, jax.Array]]:
        key, k_obs = jax.random.split(state.key)
        obs = jax.random.normal(k_obs, (5, 3))
        if pause or host:
            obs = jax.pure_callback(callback, jax.ShapeDtypeStruct(obs.shape, obs.dtype), obs, vmap_method="sequential")

        def loss(params: Any) -> jax.Array:
            policy = network.apply(params, running_statistics.apply(state.algo.normalizer, obs))
            return jnp.mean((policy.mean - jnp.sin(obs[:, :2])) ** 2) + jnp.mean((policy.log_std + 0.5) ** 2)

        value, grad = jax.value_and_grad(loss)(state.params["policy"])
        iteration = state.iteration + 1
        faulty = state.hyper["faulty"] > 0
        lost = faulty & (iteration >= (diverge_at or 10**6))
        size = jnp.where(lost, 0.0, state.hyper["step_size"])
        params = jax.tree.map(lambda p, g: p - size * g, state.params["policy"], grad)
        new = state.replace(
            params={"policy": params},
            algo=ToyAlgo(state.algo.total + value, running_statistics.update(state.algo.normalizer, obs)),
            key=key,
            iteration=iteration,
            skipped=state.skipped + lost,
        )
        known = iteration >= 2
        metrics = {
            "env_steps": iteration * 5,
            "return": jnp.where(known, -value, jnp.nan),
            "cost": jnp.where(known, value, jnp.nan),
            "length": jnp.where(known, 5.0, jnp.nan),
            "episodes": jnp.where(known, 1, 0),
            "multiplier": new.algo.total,
            "loss": jnp.where(lost, jnp.nan, value),
            "bad_action": jnp.where(faulty & (iteration >= (bad_action_at or 10**6)), 1.0, 0.0),
        }
        return new, metrics

    info = TrainerInfo(
        algorithm="tiny",
        problem="Toy-v0",
        metrics=(
            *(MetricSpec(name, may_be_nan=True, shown=name != "length") for name in ("return", "cost", "length")),
            MetricSpec("multiplier", shown=True),
        ),
        config={"step_size": 0.1, "faulty": 0.0, "sizes": (4,)},
        traced={"step_size": 0.1, "faulty": 0.0},
        units_per_step=5,
        policy=SPEC,
    )
    return Trainer(init, step, info)


def assert_same(a: Any, b: Any) -> None:
    """Two trees are equal to the last bit; typed keys included."""
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for (path, x), y in zip(jax.tree_util.tree_leaves_with_path(a), jax.tree.leaves(b), strict=True):
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            assert x.dtype == y.dtype, path
            x, y = jax.random.key_data(x), jax.random.key_data(y)
        x, y = np.asarray(x), np.asarray(y)
        assert x.dtype == y.dtype and x.shape == y.shape and x.tobytes() == y.tobytes(), path

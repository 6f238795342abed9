"""Check once that the states of an environment are those that its `Spec` describes, before anything is compiled."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jsafe import spaces
from jsafe.cmdp import Env, Spec, State


def check_states(env: Env) -> None:
    """Refuse an environment whose `reset` or `step` returns other shapes, types or names than its `Spec`.

    Nothing is computed: `jax.eval_shape` traces both functions.

    Raises:
        TypeError: one of them does not return a `State`.
        ValueError: names the function and the leaf, with what is expected and what it is.
    """
    spec = env.spec
    start = jax.eval_shape(env.reset, jax.random.key(0))
    check_state(spec, start, f"reset of {spec.id}")
    action = jax.eval_shape(lambda: spaces.zeros(spec.action))
    after = jax.eval_shape(env.step, start, action)
    where = f"step of {spec.id}"
    check_state(spec, after, where)
    _check_same(start, after, where)


def check_reset(spec: Spec, states: Any) -> None:
    """Check what `vmap(reset)` returned while it is traced, which costs nothing more.

    Raises:
        TypeError: it is no `State`.
        ValueError: names the leaf.
    """
    check_state(spec, _one(states), f"reset of {spec.id}")


def check_step(spec: Spec, before: State, after: Any) -> None:
    """Check what `vmap(step)` returned while it is traced; `before` has the form of the reset.

    Raises:
        TypeError: it is no `State`.
        ValueError: names the leaf.
    """
    where = f"step of {spec.id}"
    check_state(spec, _one(after), where)
    _check_same(_one(before), _one(after), where)


def _one(states: Any) -> Any:
    """Return shapes and types of one state of a batch."""
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), states)


def check_state(spec: Spec, state: Any, where: str) -> None:
    """Refuse one state, or one of `jax.ShapeDtypeStruct`, that does not fit.

    Args:
        spec: description of the environment.
        state: without batch axes.
        where: name of the function in messages, for example `reset of Goal-v0`.

    Raises:
        TypeError: it is no `State`.
        ValueError: names the leaf.
    """
    if not isinstance(state, State):
        raise TypeError(f"{where} must return a jsafe.State, got {type(state).__name__}")
    batch = spaces.check_batch(spec.observation, state.obs, f"obs in {where}")
    if batch:
        raise ValueError(f"obs in {where} must have no batch axis, got the axes {batch}. jsafe.rollout adds it")
    costs = ", ".join(spec.cost_names) or "none"
    _check_leaf(f"reward in {where}", state.reward, (), jnp.floating)
    _check_leaf(f"cost in {where} (costs: {costs})", state.cost, (spec.num_costs,), jnp.floating)
    _check_leaf(f"terminated in {where}", state.terminated, (), jnp.bool_)


def _check_leaf(name: str, leaf: Any, shape: tuple[int, ...], kind: Any) -> None:
    got_shape, got = jnp.shape(leaf), jnp.result_type(leaf)
    if got_shape != shape or not jnp.issubdtype(got, kind):
        expected = "bool" if kind is jnp.bool_ else "a floating-point type"
        raise ValueError(f"{name} must be of shape {shape} and {expected}, got shape {got_shape} and {got}")


def _check_same(start: State, after: State, where: str) -> None:
    """Refuse a step that changes a name, a shape or a type: a compiled loop needs the same at every step."""
    leaves = [{jax.tree_util.keystr(p): x for p, x in jax.tree.leaves_with_path(state)} for state in (start, after)]
    for path in sorted(leaves[0].keys() | leaves[1].keys()):
        first, then = (side.get(path) for side in leaves)
        if first is None or then is None:
            here, there = ("reset", "step") if then is None else ("step", "reset")
            raise ValueError(f"state{path} in {where} must be in every state, got it from {here} and not from {there}")
        if (first.shape, first.dtype) != (then.shape, then.dtype):
            raise ValueError(
                f"state{path} in {where} must be of shape {first.shape} and type {first.dtype}, as at the reset, got "
                f"shape {then.shape} and type {then.dtype}"
            )


def check_env(env: Any, seed: int = 0, steps: int = 20) -> None:
    """Check that an environment keeps the contract of `jsafe.Env`, for environments of your own.

    Checks the hash, the shapes, types and names of states, that `reset` and `step` depend on their arguments alone,
    and that some random steps give finite numbers and observations within the bounds of their space.

    Args:
        env: environment to check.
        seed: seed of the start state and of the actions.
        steps: number of random steps.

    Raises:
        TypeError: `env` has no hash, or a function does not return a `State`.
        ValueError: names the function and the leaf, with what is expected and what it is.
    """
    try:
        hash(env)
    except TypeError as error:
        raise TypeError(f"{type(env).__name__} must be hashable, for example a frozen dataclass: {error}") from error
    check_states(env)
    spec = env.spec
    key = jax.random.key(seed)
    state = env.reset(key)
    _check_equal(state, env.reset(key), f"reset of {spec.id}")
    _check_values(spec, state, f"reset of {spec.id}")
    for number in range(steps):
        action = spaces.sample(spec.action, jax.random.fold_in(key, number))
        after = env.step(state, action)
        if number == 0:
            _check_equal(after, env.step(state, action), f"step of {spec.id}")
        _check_values(spec, after, f"step {number + 1} of {spec.id}")
        state = after


def _check_equal(first: State, second: State, where: str) -> None:
    """Refuse two results of one call that differ."""
    for (path, one), other in zip(jax.tree.leaves_with_path(first), jax.tree.leaves(second), strict=True):
        one, other = (jax.random.key_data(x) if _is_key(x) else x for x in (one, other))
        if not np.array_equal(np.asarray(one), np.asarray(other), equal_nan=_is_float(one)):
            raise ValueError(
                f"state{jax.tree_util.keystr(path)} in {where} must depend on the arguments alone, got two values for "
                "the same ones. Draw random numbers from the key of the state"
            )


def _check_values(spec: Spec, state: State, where: str) -> None:
    """Refuse numbers that are not finite, and observations outside of their space."""
    values = {"reward": state.reward, "cost": state.cost}
    observations = zip(spaces.leaves(spec.observation), spaces.leaf_values(spec.observation, state.obs), strict=True)
    for (path, space), value in observations:
        name = f"obs.{path}" if path else "obs"
        values[name] = value
        low, high = (0, space.n - 1) if isinstance(space, spaces.Discrete) else (space.low, space.high)
        array = np.asarray(value)
        if np.any(array < np.asarray(low)) or np.any(array > np.asarray(high)):
            raise ValueError(
                f"{name} in {where} must be within the bounds of its space, got {array.min()} to {array.max()}"
            )
    for name, value in values.items():
        if not np.all(np.isfinite(np.asarray(value, float))):
            raise ValueError(f"{name} in {where} must be finite, got {np.asarray(value)}")


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(jnp.result_type(leaf), jax.dtypes.prng_key)


def _is_float(leaf: Any) -> bool:
    return jnp.issubdtype(jnp.result_type(leaf), jnp.floating)

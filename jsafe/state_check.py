"""Check once that the states of an environment are those that its `Spec` describes, before anything is compiled."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

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

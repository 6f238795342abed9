"""The line search takes the first acceptable try, or stays."""

import jax
import jax.numpy as jnp
import numpy as np

from jsafe.trust_region import line_search


def measure(params):
    distance = params["a"] + jnp.sum(params["b"])
    return {"loss": (distance - 1.0) ** 2, "kl": distance**2}


START = {"a": jnp.zeros(()), "b": jnp.zeros(2)}
STEP = {"a": jnp.float32(2.0), "b": jnp.ones(2)}  # distance 4


def test_line_search_takes_the_first_acceptable_try():
    search = jax.jit(lambda limit: line_search(measure, START, STEP, lambda m: m["kl"] <= limit, tries=10, shrink=0.5))
    result = search(4.1)  # distances 4, 2, 1: squares 16, 4, 1
    assert bool(result.accepted) and float(result.factor) == 0.5
    assert float(result.params["a"]) == 1.0 and np.array_equal(result.params["b"], [0.5, 0.5])
    assert float(result.measured["kl"]) == 4.0 and float(result.measured["loss"]) == 1.0
    many = jax.vmap(search)(jnp.array([20.0, 4.1, 1.1, 0.0]))
    assert np.array_equal(many.factor, [1.0, 0.5, 0.25, 0.0]) and np.array_equal(many.accepted, [1, 1, 1, 0])


def test_line_search_stays_where_nothing_is_acceptable():
    for tries, limit in ((3, 0.9), (1, 15.0)):  # the fourth, or the second try, would have passed
        result = line_search(measure, START, STEP, lambda m, limit=limit: m["kl"] <= limit, tries=tries, shrink=0.5)
        assert not result.accepted and float(result.factor) == 0.0
        assert float(result.params["a"]) == 0.0 and not np.any(result.params["b"])
        assert float(result.measured["kl"]) == 0.0 and float(result.measured["loss"]) == 1.0


def test_line_search_never_accepts_what_is_not_finite():
    def broken_far_away(params):
        return {**measure(params), "cost": jnp.where(params["a"] > 0.6, jnp.nan, 0.0)}

    result = line_search(broken_far_away, START, STEP, lambda m: jnp.ones((), bool), tries=10, shrink=0.5)
    assert float(result.factor) == 0.25 and float(result.measured["cost"]) == 0.0
    for bad in (jnp.nan, jnp.inf):
        step = {**STEP, "a": jnp.float32(bad)}
        result = line_search(lambda p: jnp.sum(p["b"]), START, step, lambda m: jnp.ones((), bool), tries=3)
        assert not result.accepted and float(result.params["a"]) == 0.0 and not np.any(result.params["b"])

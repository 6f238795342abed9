"""Fisher products against dense Hessians, and conjugate gradients against dense solutions."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from jsafe.trust_region import conjugate_gradient, fisher_product


def network(params, obs):
    return jnp.tanh(obs @ params["w"] + params["b"]) @ params["v"]


def gaussian_kl(old, new):
    (mean, log_std), (new_mean, new_log_std) = old, new
    ratio, distance = jnp.exp(2 * (log_std - new_log_std)), (mean - new_mean) / jnp.exp(new_log_std)
    return jnp.mean(jnp.sum(new_log_std - log_std + 0.5 * (ratio + distance**2 - 1), -1))


def categorical_kl(old, new):
    p, q = jax.nn.log_softmax(old), jax.nn.log_softmax(new)
    return jnp.mean(jnp.sum(jnp.exp(p) * (p - q), -1))


@pytest.mark.parametrize("family", ["gaussian", "categorical"])
def test_fisher_product_is_the_hessian_of_the_divergence(family):
    with jax.enable_x64(True):
        keys = jax.random.split(jax.random.key(0), 5)
        shapes = {"w": (3, 5), "b": (5,), "v": (5, 2), "log_std": (2,)}
        params = {n: 0.7 * jax.random.normal(k, s) for k, (n, s) in zip(keys, shapes.items(), strict=False)}
        obs = jax.random.normal(keys[4], (16, 3))
        if family == "gaussian":
            outputs, kl = lambda p: (network(p, obs), p["log_std"]), gaussian_kl
        else:
            outputs, kl = lambda p: network(p, obs), categorical_kl
        flat, unravel = ravel_pytree(params)
        assert flat.dtype == jnp.float64
        hessian = jax.jit(jax.hessian(lambda new: kl(outputs(params), outputs(unravel(new)))))(flat)
        assert np.linalg.norm(hessian) > 0.1
        by_flat = jax.jit(jax.vmap(fisher_product(lambda f: outputs(unravel(f)), kl, flat, damping=0.3)))
        expected = hessian + 0.3 * jnp.eye(len(flat))
        np.testing.assert_allclose(by_flat(jnp.eye(len(flat))), expected, atol=1e-12)
        by_tree = fisher_product(outputs, kl, params, damping=0.3)
        tree = jax.tree.map(lambda x: jnp.cos(jnp.arange(x.size)).reshape(x.shape), params)
        np.testing.assert_allclose(ravel_pytree(by_tree(tree))[0], expected @ ravel_pytree(tree)[0], atol=1e-12)


def test_conjugate_gradient_solves_positive_definite_systems():
    rng = np.random.default_rng(12)
    a = rng.normal(size=(30, 8, 8))
    a = a @ a.transpose(0, 2, 1) + np.eye(8)
    b = rng.normal(size=(30, 8)) * 10.0 ** rng.uniform(-12, 12, (30, 1))
    b[::7] = 0.0
    exact = np.linalg.solve(a, b[..., None])[..., 0]
    for double, tolerance in ((True, 1e-9), (False, 1e-4)):
        with jax.enable_x64(double):
            # Four times as many iterations as dimensions: past convergence nothing may divide by a vanished residual.
            solve = jax.jit(jax.vmap(lambda m, v: conjugate_gradient(partial(jnp.matmul, m), v, iterations=32)))
            x = np.asarray(solve(jnp.asarray(a, float), jnp.asarray(b, float)))
        scale = np.max(np.abs(exact), -1, keepdims=True)
        assert np.all(np.abs(x - exact) <= tolerance * scale)
        assert not np.any(x[::7])


def test_conjugate_gradient_is_exact_after_one_product_where_b_is_an_eigenvector():
    x = conjugate_gradient(lambda v: jnp.float32(2.0) * v, jnp.array([3.0, -4.0], jnp.float32), iterations=15)
    np.testing.assert_allclose(x, [1.5, -2.0], rtol=1e-6)
    assert np.all(np.isfinite(conjugate_gradient(jnp.zeros_like, jnp.ones(3))))  # no curvature at all
